from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from star_edge import manifest
from star_edge.errors import ArtifactError


def finished(folder: Path, key: str = "k1") -> Path:
    manifest.begin(folder, key)
    (folder / "weights.bin").write_bytes(b"12345")
    manifest.finish(folder, "ckd", key, details={"rows": 3}, seconds=1.0)
    return folder


def test_a_finished_folder_is_done_for_its_own_key_only(tmp_path: Path) -> None:
    folder = finished(tmp_path / "ckd")
    assert manifest.is_done(folder, "k1")
    assert not manifest.is_done(folder, "k2")
    assert not (folder / manifest.IN_PROGRESS).exists()


@pytest.mark.parametrize(
    "damage", [lambda f: f.unlink(), lambda f: f.write_bytes(b"123")], ids=["deleted", "cut short"]
)
def test_a_damaged_file_makes_the_stage_undone_and_the_next_begin_empties_it(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    folder = finished(tmp_path / "ckd")
    damage(folder / "weights.bin")
    assert not manifest.is_done(folder, "k1")
    manifest.begin(folder, "k1")
    assert [path.name for path in folder.iterdir()] == [manifest.IN_PROGRESS]


def test_partial_work_is_kept_for_the_same_key_and_dropped_for_another(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    manifest.begin(folder, "k1")
    (folder / "shard-0").write_text("x")
    assert not manifest.is_done(folder, "k1")
    manifest.begin(folder, "k1")
    assert (folder / "shard-0").exists()
    manifest.begin(folder, "k2")
    assert not (folder / "shard-0").exists()


def test_a_stage_that_goes_on_knows_the_seconds_of_all_that_was_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert manifest.begin(folder, "k1") == 0
    for number, seconds in enumerate((40, 2)):  # written so long behind the start; what came later is lost
        start = (folder / manifest.IN_PROGRESS).stat().st_mtime
        (folder / "shard-0").write_text("x")
        os.utime(folder / "shard-0", (start, start + seconds))
        assert manifest.begin(folder, "k1") == pytest.approx((40, 42)[number], abs=0.01)
    assert manifest.begin(folder, "k2") == 0


def test_leftovers_of_a_kill_are_not_taken_for_foreign_files(tmp_path: Path) -> None:
    folder = tmp_path / "ckd"
    folder.mkdir()
    (folder / f".{manifest.IN_PROGRESS}.partial").write_text("{")
    half_removed = tmp_path / ".ckd.stale"
    half_removed.mkdir()
    (half_removed / "weights.bin").write_bytes(b"1")
    manifest.begin(folder, "k1")
    assert (folder / manifest.IN_PROGRESS).exists()
    assert not half_removed.exists()


def test_foreign_files_are_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(ArtifactError, match="not made by star-edge"):
        manifest.begin(tmp_path, "k1")
    assert (tmp_path / "thesis.txt").exists()


def test_manifest_lists_hash_and_size_of_every_file_and_scratch_goes_after_it(tmp_path: Path) -> None:
    folder = tmp_path / "ckd"
    manifest.begin(folder, "k")
    (folder / "sub").mkdir()
    (folder / "sub" / "a").write_bytes(b"abc")
    (folder / "trainer").mkdir()
    (folder / "trainer" / "optimizer.pt").write_bytes(b"abc")
    written = manifest.finish(folder, "ckd", "k", details={}, seconds=0.0, scratch=("trainer",))
    assert not (folder / "trainer").exists()
    assert written["files"] == {
        "sub/a": {"sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "bytes": 3}
    }
    assert json.loads((folder / manifest.MANIFEST).read_text()) == written


def test_a_full_disk_leaves_the_old_text_and_no_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    manifest.write_atomic(path, "old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="No space left on device"):
        manifest.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_unreadable_json_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ArtifactError) as caught:
        manifest.read_json(tmp_path / "m.json")
    assert "\n" not in str(caught.value)


def test_keys_depend_on_config_inputs_and_stage_but_not_on_key_order() -> None:
    key = manifest.stage_key("ckd", {"a": 1, "b": 2}, {"cache": "x"})
    assert key == manifest.stage_key("ckd", {"b": 2, "a": 1}, {"cache": "x"})
    assert (
        len(
            {
                key,
                manifest.stage_key("ckd", {"a": 2, "b": 2}, {"cache": "x"}),
                manifest.stage_key("ckd", {"a": 1, "b": 2}, {"cache": "y"}),
                manifest.stage_key("sft", {"a": 1, "b": 2}, {"cache": "x"}),
            }
        )
        == 4
    )


def test_a_file_that_goes_while_it_is_looked_at_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further processes of a launch look at folders that the first one may remove."""
    manifest.begin(tmp_path, "key")
    manifest.finish(tmp_path, "stage", "key", details={}, seconds=1)
    real = Path.read_text

    def gone(path: Path, **given: Any) -> str:
        path.unlink()
        return real(path, **given)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", gone)
        assert not manifest.is_done(tmp_path, "key")
    (tmp_path / manifest.MANIFEST).write_text("{")
    with pytest.raises(ArtifactError):
        manifest.is_done(tmp_path, "key")
