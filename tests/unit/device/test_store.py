"""What is on the disk after a kill, and what is taken from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from star_edge.contracts import Generation
from star_edge.errors import ArtifactError
from star_edge_device.store import Measurement, Store, case_key


def measurement(id: str = "a", text: str = "é\n✓") -> Measurement:
    return Measurement(Generation(id, text, (1, 2), 7, False, 1.5, 2.5), True, 10.0, 99.5)


def test_stored_measurements_come_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "store.jsonl"
    store = Store(path)
    store.add("k", measurement())
    assert store.find("a", "k") == measurement()
    store.close()
    assert Store(path).find("a", "k") == measurement()


def test_a_line_cut_short_is_dropped_and_not_glued_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "store.jsonl"
    store = Store(path)
    store.add("k", measurement("a"))
    store.add("k", measurement("b"))
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    store = Store(path)
    assert store.find("a", "k") is not None
    assert store.find("b", "k") is None
    store.add("k", measurement("b"))
    store.close()
    assert path.read_bytes() == whole


def test_lines_under_another_key_or_of_another_kind_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "store.jsonl"
    path.write_text('not json\n[]\n{"key": "k"}\n{"key": "k", "generation": {"id": "a"}}\n')
    store = Store(path)
    assert store.find("a", "k") is None
    store.add("other", measurement())
    assert store.find("a", "k") is None


def test_key_depends_on_file_prompt_limit_and_threads() -> None:
    base = {"sha256": "f", "prompt": "p", "max_new_tokens": 4, "threads": 1}
    changes = [{"sha256": "g"}, {"prompt": "q"}, {"max_new_tokens": 5}, {"threads": 2}]
    keys = {case_key(**{**base, **change}) for change in [{}, *changes]}  # type: ignore[arg-type]
    assert len(keys) == 5


def test_store_that_cannot_be_written_says_so_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot write"):
        Store(tmp_path / "file" / "store.jsonl")
