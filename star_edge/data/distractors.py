"""Further tools beside the ones a row offers, so that the model has to choose."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from star_edge.contracts import Example, Tool
from star_edge.data.draws import draws
from star_edge.data.tool_pool import ToolPool, ToolWords, is_near_duplicate, words, words_of


def with_distractors(
    example: Example,
    pool: ToolPool,
    *,
    share: float,
    max_tools: int,
    seed: int,
    alike: bool = False,
    unlike: Sequence[Tool] = (),
) -> Example:
    """The row with tools from the pool at random places among its own, or the very row when it is not drawn.

    A drawn row gets one tool at least and `max_tools` in all at most, evenly drawn; rows that offer no tool, or
    `max_tools` already, stay as they are. No added tool shares its name with an offered one or may do the same as one;
    where the answer is a reply, none has a word of the last request in its name either, for it could then serve it.

    Args:
        share: of the rows that are drawn, in [0, 1].
        alike: half of them share a word of an offered tool's name, as far as the pool has such.
        unlike: tools that the row does not offer, and whose names and purposes no added one may have either.
    """
    rng = draws(seed, "distractors", example.id)
    room = max_tools - len(example.tools)
    if rng.random() >= share or not example.tools or room < 1:
        return example
    taken = [*example.tools, *(tool for tool in unlike if tool not in example.tools)]
    known = [words_of(tool) for tool in taken]
    is_reply = example.has_answer and not example.target_calls
    request = words(last_request(example)) if is_reply else frozenset()

    def fits(tool: ToolWords) -> bool:
        return not tool.name & request and not any(is_near_duplicate(tool, other) for other in known)

    count = rng.randint(1, room)
    added: list[Tool] = []
    if alike:
        near = pool.naming(frozenset().union(*(words_of(tool).name for tool in example.tools)))
        added = near.draw((count + 1) // 2, taken, fits, rng)
    added += pool.draw(count - len(added), [*taken, *added], fits, rng)
    if not added:
        return example
    kind = "multiple" if example.kind == "single" else example.kind
    return dataclasses.replace(example, tools=tuple(scattered(example.tools, added, rng)), kind=kind)


def last_request(example: Example) -> str:
    """The user's last words before the answer; empty when there are none."""
    said = (message["content"] for message in reversed(example.prompt) if message["role"] == "user")
    return next(said, "")


def scattered(tools: Sequence[Tool], added: Sequence[Tool], rng: random.Random) -> list[Tool]:
    """The tools in their order, with the added ones at random places."""
    mixed = list(tools)
    for tool in added:
        mixed.insert(rng.randint(0, len(mixed)), tool)
    return mixed
