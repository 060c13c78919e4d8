"""How many rows of each kind a mix takes, and how many of them each source gives."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from star_edge.contracts import Example, MixConfig

ROUNDING = 1e-6  # decimal shares do not add up to 1 in binary


def kind_of(example: Example) -> str:
    """The kind a row states, else the one that can be told: `parallel`, `multiple`, `single`, `summarise` or `plain`.

    A refusal and a question about a missing parameter are told from other replies by what the row states alone.
    """
    if example.kind:
        return example.kind
    calls = len(example.target_calls)
    if calls:
        return "parallel" if calls > 1 else "multiple" if len(example.tools) > 1 else "single"
    return "summarise" if example.prompt[-1]["role"] == "tool" else "plain"


@dataclass(frozen=True, slots=True)
class Quotas:
    """Rows of a mix, and of each kind that has a share; `near_miss` of the irrelevance rows are near misses."""

    rows: int
    kinds: dict[str, int]
    near_miss: int

    @classmethod
    def of(cls, config: MixConfig, kinds: Iterable[str]) -> Quotas:
        """The quotas of a mix from rows of these kinds.

        The mix is smaller than `config.rows` when there are fewer rows, or fewer of the kinds without a share than
        keep the others at theirs.
        """
        shares = _shares(config)
        available = Counter(kind if kind in shares else None for kind in kinds)
        rows = min(config.rows, available.total())
        if (rest := 1 - sum(shares.values())) > ROUNDING:
            rows = min(rows, math.floor(available[None] / rest + ROUNDING))
        wanted = {kind: round(share * rows) for kind, share in shares.items()}
        return cls(rows, wanted, round(config.near_miss_share * wanted.get("irrelevance", 0)))


def _shares(config: MixConfig) -> dict[str, float]:
    shares = {
        "irrelevance": config.irrelevance_share,
        "ask_missing": config.ask_share,
        "parallel": config.parallel_share,
    }
    return {kind: share for kind, share in shares.items() if share is not None}


def share_out(total: int, weights: Sequence[float], available: Sequence[int]) -> list[int]:
    """Divide rows among sources by weight; a source that runs out gives all it has, the others share the rest.

    Args:
        weights: above 0; only their ratios count.
        available: rows that each source has.
    Returns: rows of each source, as near to its weight as whole rows allow; together min(total, sum(available)).
    """
    counts = [0] * len(weights)
    left = min(total, sum(available))
    sharing = [index for index, rows in enumerate(available) if rows]
    while sharing:
        scale = left / sum(weights[index] for index in sharing)
        exhausted = [index for index in sharing if weights[index] * scale >= available[index]]
        if not exhausted:
            break
        for index in exhausted:
            counts[index] = available[index]
        left -= sum(available[index] for index in exhausted)
        sharing = [index for index in sharing if index not in exhausted]
    exact = {index: weights[index] * scale for index in sharing}
    for index in sharing:
        counts[index] = math.floor(exact[index])
    missing = left - sum(counts[index] for index in sharing)
    for index in sorted(sharing, key=lambda index: counts[index] - exact[index])[:missing]:
        counts[index] += 1
    return counts
