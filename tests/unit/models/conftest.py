"""Tiny models in memory, shared by the tests of this folder; treat them as read-only."""

from __future__ import annotations

from pathlib import Path

import pytest

from star_edge.contracts import Checkpoint
from star_edge.models.load import LoadedModel, load


@pytest.fixture(scope="session")
def loaded_student(tiny_student: Path) -> LoadedModel:
    return load(Checkpoint(tiny_student, "base"), device="cpu")


@pytest.fixture(scope="session")
def loaded_qwen2(tiny_qwen2: Path) -> LoadedModel:
    return load(Checkpoint(tiny_qwen2, "base"), device="cpu")


@pytest.fixture(scope="session")
def loaded_qwen3(tiny_qwen3: Path) -> LoadedModel:
    return load(Checkpoint(tiny_qwen3, "base"), device="cpu")


@pytest.fixture(params=["llama", "qwen2", "qwen3"])
def loaded_tiny(request: pytest.FixtureRequest) -> LoadedModel:
    """Each tiny model in turn."""
    loaded: LoadedModel = request.getfixturevalue(
        "loaded_student" if request.param == "llama" else f"loaded_{request.param}"
    )
    return loaded


@pytest.fixture(params=["llama", "qwen2", "qwen3"])
def tiny_folder(request: pytest.FixtureRequest) -> Path:
    """Each tiny model's folder in turn."""
    folder: Path = request.getfixturevalue("tiny_student" if request.param == "llama" else f"tiny_{request.param}")
    return folder
