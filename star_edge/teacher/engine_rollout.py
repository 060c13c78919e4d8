"""Teacher completions by a generation engine (vLLM), and the teacher's distribution at every position of them.

An engine draws many times faster than a model that decodes here. Its log-probabilities come with the draws, so the
teacher need not read what was drawn, nor be loaded a second time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from star_edge.contracts import Example, TeacherCacheConfig
from star_edge.data.chat import ChatCodec
from star_edge.errors import TeacherCacheError
from star_edge.models.packing import Tokens
from star_edge.models.sampling import Sample, vocabulary_size
from star_edge.teacher.rollout import Rollout, worth_keeping
from star_edge.teacher.scoring import TopK

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
        top_k: int,
    ) -> Sequence[Sequence[Sample]]:
        """`copies` completions for each prompt, with the `top_k` most likely ids of the whole head, likeliest first."""
        ...


def sample_by_engine(
    engine: Engine,
    codec: ChatCodec,
    examples: Sequence[Example],
    config: TeacherCacheConfig,
    *,
    seed: int,
    left_out: Counter[str],
) -> Iterator[Rollout]:
    """As `star_edge.teacher.rollout.sample`, drawn by an engine that holds the teacher's weights.

    The log-probabilities are the engine's own, without those of ids that name no token.

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
        top_k=top_k + SPARE,
    )
    for example, prompt, completions in zip(examples, prompts, drawn, strict=True):
        for one, text in worth_keeping(codec, example, completions, config, left_out):
            yield Rollout(example.id, tuple(prompt), one.ids, text, *named_top_k(one, top_k, vocabulary))


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
            "that are padding; set cache.use_vllm: false"
        )
    order = is_padding.to(torch.int8).argsort(dim=1, stable=True)[:, :top_k]
    return sample.topk_ids.gather(1, order), sample.topk_logprobs.gather(1, order)
