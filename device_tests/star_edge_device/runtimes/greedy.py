"""Greedy decoding and its clock, the same for every engine.

An engine brings four small methods; the loop, the stop rule, the length limit and the timing are here, so
that two engines can only differ in what they compute.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from star_edge.contracts import Bundle, Generation
from star_edge.errors import RuntimeFailure

Logits = npt.NDArray[np.float32]


def clock_kind(threads: int) -> Literal["cpu", "wall"]:
    """CPU time for one thread, wall time for more.

    CPU time of one thread is what the wall clock shows on an idle machine and stays put on a busy one; the
    CPU time of several threads is their sum, which is nobody's latency.
    """
    return "cpu" if threads == 1 else "wall"


def clock(threads: int) -> Callable[[], float]:
    """Seconds on the clock that `clock_kind` names."""
    return time.process_time if clock_kind(threads) == "cpu" else time.perf_counter


class GreedyRuntime(ABC):
    """Greedy generation on top of `_prefill` and `_advance`.

    Attributes:
        stop_ids: tokens that end a completion; never part of a `Generation`.
        load_ms: set by the engine when the file is open.
    """

    stop_ids: frozenset[int]
    load_ms: float = 0.0

    def __init__(self, bundle: Bundle, *, threads: int, context_length: int) -> None:
        self.bundle = bundle
        self.threads = threads
        self.context_length = context_length
        self._clock = clock(threads)

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    def tokenize(self, text: str) -> list[int]: ...

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _text(self, ids: Sequence[int]) -> str:
        """Generated ids as text, special tokens included (a tool tag may be one)."""

    @abstractmethod
    def _prefill(self, ids: Sequence[int]) -> Logits:
        """Empty the key-value cache, read the prompt, return the last position's logits (V,)."""

    @abstractmethod
    def _advance(self, token: int) -> Logits:
        """Append one token, return the logits (V,) after it."""

    def generate(self, id: str, prompt: str, *, max_new_tokens: int) -> Generation:
        """Greedy completion; `max_new_tokens` counts the end token, as transformers does.

        `prefill_ms` runs from the prompt's text to the choice of the first token (so it is the time to first
        token), `decode_ms` over the choices after it, the end token's included.

        Raises: RuntimeFailure: the prompt does not fit the context, or the engine fails.
        """
        started = self._clock()
        prompt_ids = self.tokenize(prompt)
        limit = min(max_new_tokens, self._room(id, len(prompt_ids)))
        token = self._choose(self._prefill(prompt_ids))
        first = self._clock()
        tokens: list[int] = []
        while token not in self.stop_ids:
            tokens.append(token)
            if len(tokens) == limit:
                break
            token = self._choose(self._advance(token))
        return Generation(
            id=id,
            text=self._text(tokens),
            token_ids=tuple(tokens),
            prompt_tokens=len(prompt_ids),
            stopped=token in self.stop_ids,
            prefill_ms=(first - started) * 1000,
            decode_ms=(self._clock() - first) * 1000,
        )

    def follow(self, prompt_ids: Sequence[int], forced: Sequence[int]) -> list[int]:
        """The greedy choice before each forced token (teacher forcing)."""
        if not forced:
            return []
        choices = [self._choose(self._prefill(prompt_ids))]
        for token in forced[:-1]:
            choices.append(self._choose(self._advance(token)))
        return choices

    def next_token_logits(self, ids: Sequence[int]) -> Logits:
        """(V,) logits after `ids`, a copy."""
        return np.array(self._prefill(ids), dtype=np.float32)

    def _room(self, id: str, prompt_tokens: int) -> int:
        room = self.context_length - prompt_tokens
        if prompt_tokens == 0 or room < 1:
            raise RuntimeFailure(
                f"case {id}: a prompt of {prompt_tokens} tokens does not fit a context of {self.context_length}; "
                "give it at least one token, or raise the context length"
            )
        return room

    def _choose(self, logits: Logits) -> int:
        token = int(np.argmax(logits))
        if not np.isfinite(logits[token]):  # argmax stops at the first NaN
            raise RuntimeFailure(f"{self.bundle.file}: computes NaN or infinity; the file is damaged: export it again")
        return token
