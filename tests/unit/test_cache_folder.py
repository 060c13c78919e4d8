"""Where downloads are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from star_edge.cache_folder import cache_folder


def test_the_variable_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STAR_EDGE_CACHE", str(tmp_path / "kept"))
    assert cache_folder() == tmp_path / "kept"
    assert not cache_folder().exists()


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STAR_EDGE_CACHE", "~/kept")
    assert cache_folder() == tmp_path / "kept"


@pytest.mark.parametrize("unset", [None, ""])
def test_without_it_the_users_cache_is_used(unset: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if unset is None:
        monkeypatch.delenv("STAR_EDGE_CACHE")
    else:
        monkeypatch.setenv("STAR_EDGE_CACHE", unset)
    assert cache_folder().is_absolute()
    assert cache_folder().name == "star-edge"
