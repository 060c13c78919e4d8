"""Dynamic filtering: which groups of completions can teach, and how many still have to be drawn (torch-free)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from star_edge.calls.parse import parse_completion

PromptRow: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """All completions of one prompt, with their rewards. `sampler_logprobs` is what vLLM reports, else None."""

    row: PromptRow
    prompt_ids: list[int]
    completion_ids: list[list[int]]
    sampler_logprobs: list[list[float]] | None
    texts: list[str]
    rewards: list[float]

    @property
    def mean_reward(self) -> float:
        return sum(self.rewards) / len(self.rewards)


@dataclass(frozen=True, slots=True)
class Filled:
    """The groups an update learns from, and what the whole sampling for it looked like."""

    kept: list[Group]
    rounds: int
    groups_kept: float
    mean_reward: float
    malformed: float
    mean_length: float


def teaches(group: Group, low: float, high: float) -> bool:
    """True when the mean reward lies inside (low, high) and not all rewards are the same."""
    return low < group.mean_reward < high and max(group.rewards) > min(group.rewards)


def fill(
    first: Sequence[PromptRow],
    draw: Callable[[Sequence[PromptRow], int], list[Group]],
    fresh: Callable[[int, int], Sequence[PromptRow]],
    *,
    low: float,
    high: float,
    max_resamples: int,
    most: Callable[[int], int] = lambda number: number,
) -> Filled:
    """Draw groups until as many teach as there were prompts at first, or `max_resamples` further rounds are spent.

    Args:
        draw: (prompts, round) -> a group for each prompt.
        fresh: (count, round) -> further prompts.
        most: the largest of a number over all processes, so that they make the same rounds.
    Returns: at most `len(first)` groups, and statistics over all that were drawn.
    """
    drawn = draw(first, 0)
    rounds = 1
    while rounds <= max_resamples:
        missing = most(len(first) - sum(teaches(group, low, high) for group in drawn))
        if missing <= 0:
            break
        drawn += draw(fresh(missing, rounds), rounds)
        rounds += 1
    kept = [group for group in drawn if teaches(group, low, high)]
    texts = [text for group in drawn for text in group.texts]
    lengths = [len(ids) for group in drawn for ids in group.completion_ids]
    return Filled(
        kept=kept[: len(first)],
        rounds=rounds,
        groups_kept=len(kept) / len(drawn),
        mean_reward=sum(group.mean_reward for group in drawn) / len(drawn),
        malformed=sum(parse_completion(text).is_malformed for text in texts) / len(texts),
        mean_length=sum(lengths) / len(lengths),
    )


def fresh_rows(total: int, count: int, *, key: str) -> list[int]:
    """`count` of `total` row numbers, drawn without repetition as far as they last; the key decides which."""
    whole, rest = divmod(count, total)
    return [*range(total)] * whole + random.Random(key).sample(range(total), rest)
