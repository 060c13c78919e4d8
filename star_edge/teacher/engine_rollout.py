"""Teacher completions by a generation engine (vLLM), and the teacher's distribution at every position of them.

An engine draws many times faster than a model that decodes here. Its log-probabilities come with the draws. Read
afterwards by the model (`Scorer`) they are exact where the engine rounds them, and every prompt is computed once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from star_edge.contracts import Example, TeacherCacheConfig
from star_edge.data.chat import ChatCodec
from star_edge.errors import TeacherCacheError
from star_edge.models.packing import Tokens
from star_edge.models.sampling import Sample, vocabulary_size
from star_edge.teacher.rollout import Rollout, worth_keeping
from star_edge.teacher.scoring import Scorer, TopK

SPARE = 8
"""Ids that an engine is asked for beyond the top-k, so that k are left without those that name no token."""


class Engine(Protocol):
    """Token ids in, token ids out."""

    def sample(
        self,
        prompts: Sequence[Tokens],
        *,
        copies: int,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        top_k: int = 0,
    ) -> Sequence[Sequence[Sample]]:
        """`copies` completions for each prompt, with the `top_k` most likely ids of the whole head, likeliest first."""
        ...


def sample_by_engine(
    engine: Engine,
    scorer: Scorer | None,
    codec: ChatCodec,
    examples: Sequence[Example],
    config: TeacherCacheConfig,
    *,
    seed: int,
) -> Iterator[Rollout]:
    """As `star_edge.teacher.rollout.sample`, drawn by an engine that holds the teacher's weights.

    Args:
        scorer: the teacher, which reads what was drawn; without one the engine's own log-probabilities are taken, but
            none of ids that name no token.
    Raises: TeacherCacheError: more than `SPARE` of an engine's likeliest ids at a position name no token.
    """
    prompts = codec.prompts_ids(examples)
    vocabulary = vocabulary_size(codec.tokenizer)
    top_k = min(config.top_k, vocabulary)
    drawn = engine.sample(
        prompts,
        copies=config.rollouts,
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens,
        seed=seed,
        top_k=top_k + SPARE if scorer is None else 0,
    )
    kept = [list(worth_keeping(codec, *pair, config)) for pair in zip(examples, drawn, strict=True)]
    if scorer is None:
        likely = [[named_top_k(one, top_k, vocabulary) for one, _ in rows] for rows in kept]
    else:
        likely = scorer([(prompt, [one.ids for one, _ in rows]) for prompt, rows in zip(prompts, kept, strict=True)])
    for example, prompt, rows, pieces in zip(examples, prompts, kept, likely, strict=True):
        for (one, text), top in zip(rows, pieces, strict=True):
            yield Rollout(example.id, tuple(prompt), one.ids, text, *top)


def named_top_k(sample: Sample, top_k: int, vocabulary: int) -> TopK:
    """The likeliest `top_k` ids below `vocabulary` of each position, and their log-probabilities.

    Raises: TeacherCacheError: a position has fewer.
    """
    is_padding = sample.topk_ids >= vocabulary
    if not is_padding.any():
        return sample.topk_ids[:, :top_k], sample.topk_logprobs[:, :top_k]
    if int((~is_padding).sum(dim=1).min()) < top_k:
        raise TeacherCacheError(
            f"the teacher's likeliest ids at a position include more than {SPARE} that name no token, rows of its head "
            "that are padding; set cache.vllm_logprobs: false"
        )
    order = is_padding.to(torch.int8).argsort(dim=1, stable=True)[:, :top_k]
    return sample.topk_ids.gather(1, order), sample.topk_logprobs.gather(1, order)
