"""Teacher completions by a generation engine (vLLM), and the teacher's distribution over them in one pass afterwards.

An engine draws many times faster than a model that decodes here, but does not give a hundred log-probabilities a
token at that speed. So it only draws; what is worth keeping is then scored, each prompt once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from star_edge.contracts import Example, TeacherCacheConfig
from star_edge.data.chat import ChatCodec
from star_edge.models.packing import Tokens
from star_edge.teacher.rollout import Drawn, Rollout, worth_keeping
from star_edge.teacher.scoring import Scorer


class Engine(Protocol):
    """Token ids in, token ids out."""

    def sample(
        self, prompts: Sequence[Tokens], *, copies: int, temperature: float, max_new_tokens: int, seed: int
    ) -> Sequence[Sequence[Drawn]]:
        """`copies` completions for each prompt."""
        ...


def sample_by_engine(
    engine: Engine,
    scorer: Scorer,
    codec: ChatCodec,
    examples: Sequence[Example],
    config: TeacherCacheConfig,
    *,
    seed: int,
) -> Iterator[Rollout]:
    """As `star_edge.teacher.rollout.sample`, drawn by an engine that holds the same weights as the scorer's model."""
    prompts = codec.prompts_ids(examples)
    drawn = engine.sample(
        prompts,
        copies=config.rollouts,
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens,
        seed=seed,
    )
    kept = [list(worth_keeping(codec, *pair, config)) for pair in zip(examples, drawn, strict=True)]
    scored = scorer([(prompt, [one.ids for one, _ in rows]) for prompt, rows in zip(prompts, kept, strict=True)])
    for example, prompt, rows, pieces in zip(examples, prompts, kept, scored, strict=True):
        for (one, text), (topk_ids, topk_logprobs) in zip(rows, pieces, strict=True):
            yield Rollout(example.id, tuple(prompt), one.ids, text, topk_ids, topk_logprobs)
