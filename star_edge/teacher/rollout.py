"""Completions sampled from the teacher, kept when they can be learnt from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from star_edge.calls.offered import all_offered
from star_edge.calls.parse import parse_completion
from star_edge.contracts import Example, TeacherCacheConfig, Tool
from star_edge.data.chat import ChatCodec
from star_edge.data.spoken import unsaid
from star_edge.models.load import LoadedModel
from star_edge.models.sampling import sample as sample_batch
from star_edge.progress import Progress, or_quiet
from star_edge.rl.reward import score


class Drawn(Protocol):
    """One completion: its token ids, the end-of-turn token included when it `stopped` by itself."""

    @property
    def ids(self) -> tuple[int, ...]: ...

    @property
    def stopped(self) -> bool: ...


DrawnT = TypeVar("DrawnT", bound=Drawn)

LEFT_OUT = {
    "unfinished": "did not end",
    "repeated": "repeat another",
    "invalid": "are not valid",
    "wrong": "miss their label",
    "invented": "pass values that nobody said",
}
"""Why a completion is not kept -> that in words, in the order in which it is looked at."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion, the teacher's or a label that it read, with its distribution at every position of it.

    completion_ids: (T,) the end-of-turn token included.
    topk_ids, topk_logprobs: (T, K) int32 and float16, temperature 1, over the full vocabulary.
    """

    example_id: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    text: str
    topk_ids: Tensor
    topk_logprobs: Tensor


def is_valid(text: str, tools: Sequence[Tool]) -> bool:
    """True for a reply that says something, and for calls that parse and name only offered functions and parameters."""
    parsed = parse_completion(text)
    return bool(parsed.calls or parsed.reply) and all_offered(parsed.calls, tools)


def sample(
    loaded: LoadedModel,
    codec: ChatCodec,
    examples: Sequence[Example],
    config: TeacherCacheConfig,
    *,
    seed: int,
    left_out: Counter[str],
    progress: Progress | None = None,
    what: str = "teacher rollouts",
) -> Iterator[Rollout]:
    """Sample `config.rollouts` completions a prompt; yield the valid ones that differ.

    Kept is what ended by itself within `max_new_tokens`, is valid (`is_valid`), earns `least_reward` where there is a
    label, and invents no value where `drop_unsaid` says so; of completions with the same tokens the first. Prompts of
    like length share a batch of `rows_per_forward` rows. What is drawn depends on the seed and on the examples given,
    so a call with the same examples gives the same rollouts. `left_out` counts the others by the keys of `LEFT_OUT`.
    `what` names the progress bar.
    """
    prompts = codec.prompts_ids(examples)
    by_length = sorted(range(len(examples)), key=lambda index: len(prompts[index]))
    size = max(1, config.rows_per_forward // config.rollouts)
    bar = or_quiet(progress).bar(what, len(examples))
    for start in range(0, len(by_length), size):
        batch = by_length[start : start + size]
        samples = sample_batch(
            loaded,
            [prompts[index] for index in batch],
            copies=config.rollouts,
            temperature=config.temperature,
            max_new_tokens=config.max_new_tokens,
            generator=_generator(seed, [examples[index].id for index in batch], loaded.device),
            top_k=config.top_k,
        )
        for index, drawn in zip(batch, samples, strict=True):
            example, prompt = examples[index], tuple(prompts[index])
            for one, text in worth_keeping(codec, example, drawn, config, left_out):
                yield Rollout(example.id, prompt, one.ids, text, one.topk_ids, one.topk_logprobs)
        bar.update(start + len(batch))
    bar.close()


def _generator(seed: int, ids: Sequence[str], device: torch.device) -> torch.Generator:
    """Draws of a batch depend on the seed and its examples, not on what was drawn before."""
    digest = hashlib.sha256("\n".join([str(seed), *ids]).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def worth_keeping(
    codec: ChatCodec,
    example: Example,
    drawn: Sequence[DrawnT],
    config: TeacherCacheConfig,
    left_out: Counter[str],
) -> Iterator[tuple[DrawnT, str]]:
    """Completions that ended by themselves, are valid and differ from those before them, with their texts.

    Where the example has a label they also earn `config.least_reward`, if there is one. With `config.drop_unsaid` they
    give no optional parameter a value of their own. `left_out` counts the others by the keys of `LEFT_OUT`.
    """
    seen: set[tuple[int, ...]] = set()
    for one in drawn:
        if not one.stopped or one.ids in seen:
            left_out["repeated" if one.stopped else "unfinished"] += 1
            continue
        seen.add(one.ids)
        text = codec.tokenizer.decode(list(one.ids[:-1]), skip_special_tokens=False)
        if not is_valid(text, example.tools):
            left_out["invalid"] += 1
        elif not _earns(text, example, config):
            left_out["wrong"] += 1
        elif _invents(text, example, config):
            left_out["invented"] += 1
        else:
            yield one, text


def _invents(text: str, example: Example, config: TeacherCacheConfig) -> bool:
    if not config.drop_unsaid:
        return False
    labelled = unsaid(example.target_calls, example)
    return any(value not in labelled for value in unsaid(parse_completion(text).calls, example))


def _earns(text: str, example: Example, config: TeacherCacheConfig) -> bool:
    if config.least_reward is None or not example.has_answer:
        return True
    return score(text, example.target, example.tools, kind=config.reward) >= config.least_reward
