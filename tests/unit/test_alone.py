"""Two processes at one place: the second is told, and let in once the first is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from star_edge.alone import alone
from star_edge.errors import ArtifactError


def test_the_second_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    place = tmp_path / "new"
    with (
        alone(place, place / ".lock"),
        pytest.raises(ArtifactError, match="new: another star-edge is working there; wait for it to end"),
        alone(place, place / ".lock"),
    ):
        pass
    with alone(place, place / ".lock"):
        pass


def test_a_block_that_fails_frees_the_place_and_keeps_its_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), alone(tmp_path, tmp_path / ".lock"):
        raise KeyError
    with alone(tmp_path, tmp_path / ".lock"):
        pass
