"""A runtime that says what it is told, and bundles of the tiny model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from star_edge.contracts import Bundle, Example, Generation


@dataclass
class FakeRuntime:
    """Takes its replies from a queue; an exception in the queue is raised instead."""

    bundle: Bundle
    replies: deque[str | Exception] = field(default_factory=deque)
    asked: list[tuple[str, str]] = field(default_factory=list)
    threads: int = 1
    load_ms: float = 12.0
    name: str = "fake 1.0"

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def generate(self, id: str, prompt: str, *, max_new_tokens: int) -> Generation:
        self.asked.append((id, prompt))
        reply = self.replies.popleft()
        if isinstance(reply, Exception):
            raise reply
        tokens = tuple(reply.encode()[:max_new_tokens])
        return Generation(id, reply, tokens, len(prompt), prefill_ms=10.0, decode_ms=20.0)

    def follow(self, prompt_ids: Sequence[int], forced: Sequence[int]) -> list[int]:
        return list(forced)

    def next_token_logits(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        return np.zeros(256, dtype=np.float32)

    def close(self) -> None:
        self.replies.clear()


@pytest.fixture
def fake_runtime(tmp_path: Path) -> Callable[..., FakeRuntime]:
    """Makes a runtime that gives these replies, in this order."""

    def make(*replies: str | Exception) -> FakeRuntime:
        bundle = Bundle(tmp_path, tmp_path / "model.gguf", "gguf", "F16", "cafe", 2 * 1024 * 1024, 512)
        return FakeRuntime(bundle, deque(replies))

    return make


@pytest.fixture
def examples() -> list[Example]:
    """Three requests about one tool."""
    tool = {"name": "set_timer", "description": "Start a timer.", "parameters": {"type": "object", "properties": {}}}
    answer = {"role": "assistant", "content": "", "tool_calls": [{"name": "set_timer", "arguments": {}}]}
    return [
        Example(f"case-{n}", "test", ({"role": "user", "content": f"timer {n} é ✓"}, answer), (tool,)) for n in range(3)
    ]


@pytest.fixture(scope="session")
def gguf_bundle(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny student as a GGUF F16 bundle; do not write into it."""
    from tiny_bundles import write_gguf_bundle

    return write_gguf_bundle(tiny_student, tmp_path_factory.mktemp("bundles") / "gguf-F16")
