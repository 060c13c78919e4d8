"""The tiny student in torch and in a GGUF file."""

from __future__ import annotations

from pathlib import Path

import pytest

from star_edge.contracts import Bundle, Checkpoint
from star_edge.models.load import LoadedModel, load


@pytest.fixture(scope="session")
def student(tiny_student: Path) -> LoadedModel:
    """The checkpoint that the file was made from."""
    return load(Checkpoint(tiny_student, "base"), device="cpu")


@pytest.fixture(scope="session")
def gguf_bundle(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny student as a GGUF F16 bundle; do not write into it."""
    from tiny_bundles import write_gguf_bundle

    return write_gguf_bundle(tiny_student, tmp_path_factory.mktemp("bundles") / "gguf-F16")
