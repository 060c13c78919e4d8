"""The decoding loop on an engine whose logits are scripted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from star_edge.contracts import Bundle
from star_edge.errors import RuntimeFailure
from star_edge_device.runtimes.greedy import GreedyRuntime, Logits, clock, clock_kind

END = 0


class Scripted(GreedyRuntime):
    """Says the tokens of a script, one after another, whatever it is fed; remembers what it was fed."""

    name = "scripted"
    stop_ids = frozenset({END})

    def __init__(self, script: Sequence[int], *, context_length: int = 64, threads: int = 1) -> None:
        bundle = Bundle(Path(), Path("model.gguf"), "gguf", "F16", "cafe", 1, 64)
        super().__init__(bundle, threads=threads, context_length=context_length)
        self.script = list(script)
        self.fed: list[int] = []

    def tokenize(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def close(self) -> None: ...

    def _text(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def _prefill(self, ids: Sequence[int]) -> Logits:
        self.fed = list(ids)
        return self._logits()

    def _advance(self, token: int) -> Logits:
        self.fed.append(token)
        return self._logits()

    def _logits(self) -> Logits:
        logits = np.zeros(10, dtype=np.float32)
        logits[self.script.pop(0)] = 1.0
        return logits


@pytest.mark.parametrize(
    ("script", "limit", "tokens", "stopped"),
    [
        ([5, 6, END], 8, (5, 6), True),
        ([END], 8, (), True),
        ([5, 6, 7], 3, (5, 6, 7), False),
        ([5, 6, END], 2, (5, 6), False),  # the end token counts: a third choice is not made
        ([5], 1, (5,), False),
    ],
)
def test_generation_ends_at_the_end_token_or_at_the_limit(
    script: list[int], limit: int, tokens: tuple[int, ...], stopped: bool
) -> None:
    runtime = Scripted(script)
    generation = runtime.generate("a", "hi", max_new_tokens=limit)
    assert (generation.token_ids, generation.stopped) == (tokens, stopped)
    assert generation.text == " ".join(map(str, tokens))
    assert generation.prompt_tokens == 2


def test_no_token_is_evaluated_that_decides_nothing() -> None:
    runtime = Scripted([5, 6, 7])
    runtime.generate("a", "hi", max_new_tokens=3)
    assert runtime.fed == [104, 105, 5, 6]


def test_generation_is_cut_where_the_context_ends() -> None:
    generation = Scripted([5] * 9, context_length=6).generate("a", "hi", max_new_tokens=100)
    assert generation.token_ids == (5,) * 4
    assert not generation.stopped


@pytest.mark.parametrize("prompt", ["", "123456", "1234567"])
def test_prompt_that_leaves_no_room_is_refused_in_one_line(prompt: str) -> None:
    with pytest.raises(RuntimeFailure, match=f"case a: a prompt of {len(prompt)} tokens does not fit") as raised:
        Scripted([5], context_length=6).generate("a", prompt, max_new_tokens=4)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(value: float) -> None:
    runtime = Scripted([5])
    runtime._logits = lambda: np.array([0.0, value, 1.0], dtype=np.float32)  # type: ignore[method-assign]
    with pytest.raises(RuntimeFailure, match="NaN or infinity"):
        runtime.generate("a", "hi", max_new_tokens=4)


def test_follow_returns_the_choice_before_each_forced_token() -> None:
    runtime = Scripted([5, 9, END])
    assert runtime.follow([1, 2], [5, 6, END]) == [5, 9, END]
    assert runtime.fed == [1, 2, 5, 6]
    assert runtime.follow([1, 2], []) == []


def test_one_thread_is_timed_by_its_cpu_time_and_more_by_the_wall() -> None:
    assert (clock_kind(1), clock_kind(2)) == ("cpu", "wall")
    before = clock(1)()
    time.sleep(0.05)
    assert clock(1)() - before < 0.04
    before = clock(2)()
    time.sleep(0.05)
    assert clock(2)() - before >= 0.05
