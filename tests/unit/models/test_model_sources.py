from __future__ import annotations

import shutil
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from star_edge.contracts import ModelConfig
from star_edge.errors import ModelError
from star_edge.models.sources import resolve_source


def install(package: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *files: str) -> Path:
    """A package on the path, which fails when it is imported."""
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    for name in files:
        (folder / package / name).write_bytes(name.encode())
    monkeypatch.syspath_prepend(str(folder))
    return folder / package


def test_gguf_of_a_package_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = install("tiny_weights", tmp_path, monkeypatch, "tiny.gguf", "README.md")
    source = resolve_source(ModelConfig("package:tiny_weights"))
    assert (source.kind, source.path) == ("gguf", place / "tiny.gguf")
    assert "tiny_weights" not in sys.modules


@pytest.mark.parametrize(("files", "count"), [((), 0), (("a.gguf", "b.gguf"), 2)])
def test_package_must_hold_one_gguf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: tuple[str, ...], count: int
) -> None:
    package = f"weights_{count}"
    install(package, tmp_path, monkeypatch, *files)
    with pytest.raises(ModelError, match=f"package:{package}: holds {count} .gguf files, not one"):
        resolve_source(ModelConfig(f"package:{package}"))


@pytest.mark.parametrize("name", ["no_such_package", "not-an-identifier", "os.path"])
def test_missing_package_says_how_to_install_it(name: str) -> None:
    with pytest.raises(ModelError, match=f"package:{name}: no such package is installed; pip install"):
        resolve_source(ModelConfig(f"package:{name}"))


def test_gguf_fingerprint_follows_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"one")
    first = resolve_source(ModelConfig(str(path)))
    path.write_bytes(b"two")
    assert first.fingerprint != resolve_source(ModelConfig(str(path))).fingerprint
    assert (first.kind, first.label) == ("gguf", "model")


def test_folder_fingerprint_follows_weights_and_tokenizer(tiny_student: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_student, copy)
    first = resolve_source(ModelConfig(str(copy)))
    assert first.fingerprint == resolve_source(ModelConfig(str(tiny_student))).fingerprint
    (copy / "notes.txt").write_text("not the model's")
    assert first.fingerprint == resolve_source(ModelConfig(str(copy))).fingerprint
    (copy / "chat_template.jinja").write_text("another")
    assert first.fingerprint != resolve_source(ModelConfig(str(copy))).fingerprint


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("./nowhere", "not found; give a folder"),
        ("/no/such/model", "not found; give a folder"),
        ("weights/missing.gguf", "no such file; give the path of a GGUF file"),
        ("no-such-model", "not found; give a folder"),
    ],
)
def test_missing_source_is_one_line(source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=message) as caught:
        resolve_source(ModelConfig(source))
    assert "\n" not in str(caught.value)


def test_hub_id_needs_a_revision() -> None:
    with pytest.raises(ModelError, match="pin a commit or tag: `revision:` in a recipe, --revision in a command"):
        resolve_source(ModelConfig("someone/some-model"))


def test_hub_id_is_fetched_at_its_revision_without_pickles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, object] = {}

    def fetch(repository: str, **arguments: object) -> str:
        asked.update(arguments, repository=repository)
        return str(tmp_path / "0123abc")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    source = resolve_source(ModelConfig("someone/some-model", revision="v1"))
    assert (asked["repository"], asked["revision"]) == ("someone/some-model", "v1")
    assert not any(str(pattern).endswith((".bin", ".pt", ".py", "*")) for pattern in asked["allow_patterns"])  # type: ignore[attr-defined]
    assert (source.kind, source.label) == ("hub", "someone/some-model@v1")


def test_moved_tag_is_another_fingerprint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fingerprints = []
    for commit in ("0123abc", "4567def"):
        monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, c=commit, **__: str(tmp_path / c))
        fingerprints.append(resolve_source(ModelConfig("someone/some-model", revision="v1")).fingerprint)
    assert fingerprints[0] != fingerprints[1]


def test_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no connection\nand many more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModelError, match=r"someone/some-model@v1: cannot be fetched \(no connection\)") as caught:
        resolve_source(ModelConfig("someone/some-model", revision="v1"))
    assert "\n" not in str(caught.value)
