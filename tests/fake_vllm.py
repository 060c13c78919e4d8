"""A stand-in for the part of vLLM that we call: it answers each prompt with the tokens it was told to, then stops."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from star_edge.models.vllm_engine import ENVIRONMENT, FLASHINFER_SAMPLER, OWN_PROCESS

Answer = Callable[[list[int], Any], Sequence[int]]


class FakeVllm(ModuleType):
    """`vllm` with LLM and SamplingParams; remembers what it was given."""

    __version__ = "0.25.0"

    def __init__(self, answer: Answer, *, fails_with: Exception | None = None) -> None:
        super().__init__("vllm")
        self.__spec__ = ModuleSpec("vllm", None)  # without one it does not look installed
        self.loaded: dict[str, Any] = {}
        self.calls: list[tuple[list[list[int]], list[SimpleNamespace]]] = []
        self.shutdowns = 0
        self.own_process: str | None = None  # what the environment said when the engine was made
        self._answer, self._fails_with = answer, fails_with

    def SamplingParams(self, **settings: Any) -> SimpleNamespace:
        if settings["temperature"] == 0 and settings["n"] > 1:
            raise ValueError(f"n must be 1 when using greedy sampling, got {settings['n']}.")
        return SimpleNamespace(**settings)

    def LLM(self, **settings: Any) -> SimpleNamespace:
        if self._fails_with is not None:
            raise self._fails_with
        self.loaded, self.own_process = settings, os.environ.get(OWN_PROCESS)
        core = SimpleNamespace(shutdown=self._shutdown)
        return SimpleNamespace(generate=self._generate, llm_engine=SimpleNamespace(engine_core=core))

    def _shutdown(self) -> None:
        self.shutdowns += 1

    def _generate(
        self, prompts: list[dict[str, list[int]]], settings: list[SimpleNamespace], *, use_tqdm: bool
    ) -> list[SimpleNamespace]:
        assert use_tqdm is False
        asked = [prompt["prompt_token_ids"] for prompt in prompts]
        self.calls.append((asked, settings))
        return [SimpleNamespace(outputs=self._outputs(*pair)) for pair in zip(asked, settings, strict=True)]

    def _outputs(self, prompt: list[int], settings: SimpleNamespace) -> list[SimpleNamespace]:
        room = self.loaded["max_model_len"] - len(prompt)
        if room < 1:
            raise ValueError(f"The decoder prompt (length {len(prompt)}) is longer than the maximum model length")
        limit = min(settings.max_tokens, room)
        ids = [*self._answer(prompt, settings), settings.stop_token_ids[0]]
        reason = "stop" if len(ids) <= limit else "length"
        count = getattr(settings, "logprobs", 0)
        assert count <= self.loaded["max_logprobs"]
        assert not count or settings.flat_logprobs
        logprobs = _likely(ids[:limit], count) if count else None
        return [
            SimpleNamespace(token_ids=ids[:limit], finish_reason=reason, logprobs=logprobs) for _ in range(settings.n)
        ]


def _likely(drawn: list[int], count: int) -> SimpleNamespace:
    """As `FlatLogprobs`: at position t the drawn token, then t, t+1, ..., each half as likely as the one before."""
    ids, logprobs = [], []
    for position, token in enumerate(drawn):
        ids += [token, *range(position, position + count)]
        logprobs += [-9.0, *(-0.7 * (rank + 1) for rank in range(count))]
    return SimpleNamespace(token_ids=ids, logprobs=logprobs)


def install(monkeypatch: pytest.MonkeyPatch, answer: Answer, *, fails_with: Exception | None = None) -> FakeVllm:
    """Put the stand-in where `import vllm` finds it, for one test."""
    fake = FakeVllm(answer, fails_with=fails_with)
    monkeypatch.setitem(sys.modules, "vllm", fake)
    for name in (*ENVIRONMENT, FLASHINFER_SAMPLER, OWN_PROCESS):
        monkeypatch.setenv(name, "")  # so that it is put back even where it was not set
        monkeypatch.delenv(name)
    return fake
