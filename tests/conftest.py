"""What every test gets: no network, cache folders of its own, one thread, and tiny models to work on."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_socket

from star_edge.cache_folder import cache_folder

if TYPE_CHECKING:
    from star_edge.evaluate.bfcl.cases import BfclCase

CACHE_VARIABLES = ("HF_HOME", "XDG_CACHE_HOME", "STAR_EDGE_CACHE")
# That of whoever runs the tests, read before it is redirected: a published wheel is downloaded once, not once a run. In
# the environment, which the workers of pytest-xdist begin with.
REAL_CACHE = Path(os.environ.setdefault("STAR_EDGE_TESTS_REAL_CACHE", str(cache_folder())))


def pytest_configure(config: pytest.Config) -> None:
    """Set before any test module is imported: huggingface_hub and OpenMP read these once, at import."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_OFFLINE"] = "1"
    caches = tempfile.TemporaryDirectory(prefix="star-edge-caches-")
    config.add_cleanup(caches.cleanup)
    for name in CACHE_VARIABLES:
        os.environ[name] = str(Path(caches.name) / name.lower())


@pytest.fixture(autouse=True)
def caches_redirected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that reads the cache folder when it runs sees a folder of this test alone."""
    for name in CACHE_VARIABLES:
        monkeypatch.setenv(name, str(tmp_path / "caches" / name.lower()))


@pytest.fixture(autouse=True)
def precision_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trainer in bfloat16 tells later ones in the same process, and its children, through this variable."""
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)


@pytest.fixture(autouse=True)
def sockets_blocked() -> None:
    """A test that reaches for the network fails."""
    pytest_socket.disable_socket(allow_unix_socket=True)


@pytest.fixture(scope="session")
def bfcl_wheel() -> Path:
    """The published bfcl-eval wheel; the test is skipped, saying why, where pip cannot get it."""
    from star_edge.errors import EvaluationError
    from star_edge.evaluate.bfcl.wheel import fetch

    try:
        return fetch(REAL_CACHE)
    except EvaluationError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def bfcl_cases(bfcl_wheel: Path) -> tuple[BfclCase, ...]:
    """All 3,641 single-turn cases."""
    from star_edge.evaluate.bfcl.cases import load

    return load(wheel=bfcl_wheel)


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hugging Face folder of a 2-layer llama model with the Hermes template; do not write into it."""
    from tiny_models import write_tiny_llama

    from star_edge.calls.template import HERMES

    return write_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-student", HERMES)


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The qwen2 sibling: q/k/v biases, tied, embedding padded; do not write into it."""
    from tiny_models import write_tiny_qwen2

    from star_edge.calls.template import HERMES

    return write_tiny_qwen2(tmp_path_factory.mktemp("models") / "tiny-qwen2", HERMES)


@pytest.fixture(scope="session")
def tiny_qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The qwen3 sibling: norms over queries and keys, wide heads; do not write into it."""
    from tiny_models import write_tiny_qwen3

    from star_edge.calls.template import HERMES

    return write_tiny_qwen3(tmp_path_factory.mktemp("models") / "tiny-qwen3", HERMES, seed=2)
