"""The tiny student in every form that can be evaluated, and requests that fit its context."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_bundles import requests, write_gguf_bundle, write_onnx_bundle

from star_edge.contracts import Bundle
from star_edge.data.rows import write_examples


@pytest.fixture(scope="session")
def gguf_bundle(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny student as a GGUF F16 bundle; do not write into it."""
    return write_gguf_bundle(tiny_student, tmp_path_factory.mktemp("bundles") / "gguf-F16")


@pytest.fixture(scope="session")
def onnx_bundle(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny student as an ONNX fp32 bundle; do not write into it."""
    return write_onnx_bundle(tiny_student, tmp_path_factory.mktemp("bundles") / "onnx-fp32")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Six requests that want a call."""
    path = tmp_path / "rows.jsonl"
    write_examples(path, requests(6))
    return path
