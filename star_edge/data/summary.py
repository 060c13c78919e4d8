"""What the data stage came to, as JSON types: `summary.json`."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from star_edge.contracts import Example
from star_edge.data.known import SUITES, Texts
from star_edge.data.lengths import Lengths
from star_edge.data.mix import MixCounts
from star_edge.data.overlap import SHORTEST_REQUEST, overlap, overlap_with_texts
from star_edge.data.quota import kind_of
from star_edge.data.reading import Collected, Side


def summarise(
    sides: Mapping[Side, Sequence[Example]],
    collected: Collected,
    *,
    split: Mapping[str, Any],
    mix: MixCounts | None,
    known: Mapping[str, Texts],
    files: Mapping[str, str],
) -> dict[str, Any]:
    """The whole summary.

    Args:
        sides: `train`, `heldout` and, where there are such prompts, `unlabelled`.
        known: name of each suite of `data.overlap_with` -> its texts; the rows are compared with it once more, so that
            the counts are a measurement and no promise.
        files: name of each file and suite -> hash of it as it lies there; equal ones are equal rows.
    """
    return {
        **{side: _side(side, examples, collected.tokens) for side, examples in sides.items()},
        "split": split,
        "files": dict(files),
        "sources": [dataclasses.asdict(tally) for tally in collected.tallies],
        "mix": None if mix is None else dataclasses.asdict(mix),
        "overlap": overlap(
            [*sides["train"], *sides.get("unlabelled", ())], sides["heldout"], shortest=SHORTEST_REQUEST
        ).summary(),
        "overlap_with": {
            name: overlap_with_texts(_compared(sides, name), texts).summary() for name, texts in known.items()
        },
    }


def _compared(sides: Mapping[Side, Sequence[Example]], name: str) -> list[Example]:
    """Every row, but not the held-out ones with a file, which may be a held-out one."""
    names = [side for side in sides if side != "heldout" or name in SUITES]
    return [example for side in names for example in sides[side]]


def _side(side: str, examples: Sequence[Example], tokens: Mapping[str, Lengths]) -> dict[str, Any]:
    """Rows, kinds, sources, tools and lengths; prompts without an answer have no kind."""
    lengths = [tokens[example.id] for example in examples]
    return {
        "rows": len(examples),
        "kinds": {} if side == "unlabelled" else dict(Counter(map(kind_of, examples)).most_common()),
        "sources": dict(Counter(example.source for example in examples).most_common()),
        "tools_offered": len({tool["name"] for example in examples for tool in example.tools}),
        "tools_called": len({call.name for example in examples for call in example.target_calls}),
        "tools_per_row": spread([len(example.tools) for example in examples]),
        "rows_with_one_tool": sum(len(example.tools) == 1 for example in examples),
        "prompt_tokens": spread([prompt for prompt, _ in lengths]),
        "completion_tokens": spread([completion for _, completion in lengths]),
    }


def spread(values: Sequence[int]) -> dict[str, float]:
    """Mean, median, 95th percentile (the value that 95 % do not exceed) and largest; 0 everywhere for no value."""
    ordered = sorted(values) or [0]
    return {
        "mean": round(sum(ordered) / len(ordered), 1),
        "p50": ordered[math.ceil(0.50 * len(ordered)) - 1],
        "p95": ordered[math.ceil(0.95 * len(ordered)) - 1],
        "max": ordered[-1],
    }
