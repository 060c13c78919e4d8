"""Train and held-out rows that share no called tool."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from star_edge.contracts import Example
from star_edge.errors import DataError


@dataclass(frozen=True, slots=True)
class ToolSplit:
    """`heldout_tools` are called in no training row, neither in the answer nor earlier in the conversation.

    mixed: the rows that call tools of both sides and are on neither.
    """

    train: tuple[Example, ...]
    heldout: tuple[Example, ...]
    heldout_tools: tuple[str, ...]
    mixed: tuple[Example, ...]


def called_tools(example: Example) -> frozenset[str]:
    """Names of all tools that the assistant calls anywhere in the row."""
    return frozenset(call["name"] for message in example.messages for call in message.get("tool_calls", ()))


def split_by_tool(
    examples: Sequence[Example], *, share: float, seed: int, keep: frozenset[str] = frozenset()
) -> ToolSplit:
    """Hold out a share of the called tools, at least one, and every row that calls only those.

    Rows that call tools of both sides are dropped and counted. Rows that call nothing are held out at random in the
    same share, drawn from seed and row id, so that adding rows moves none of the others. Held-out tools may still be
    offered in training rows.

    Args:
        share: share of the distinct called tools to hold out, between 0 and 1.
        keep: tools that must stay on the training side, because other training rows call them.
    Raises: DataError: fewer than two tools are called, so there is nothing to hold out.
    """
    names = sorted(frozenset().union(*map(called_tools, examples)))
    free = [name for name in names if name not in keep]
    if len(names) < 2 or not free:
        raise DataError(
            f"cannot split by tool: of {len(names)} called tool(s) {len(free)} may be held out; "
            "name a `heldout` source in the recipe"
        )
    count = min(max(1, round(share * len(names))), len(names) - 1, len(free))
    held = frozenset(random.Random(f"{seed}/tools").sample(free, count))
    sides = [(example, _is_heldout(example, held, share, seed)) for example in examples]
    return ToolSplit(
        train=tuple(example for example, is_heldout in sides if is_heldout is False),
        heldout=tuple(example for example, is_heldout in sides if is_heldout is True),
        heldout_tools=tuple(sorted(held)),
        mixed=tuple(example for example, is_heldout in sides if is_heldout is None),
    )


def _is_heldout(example: Example, held: frozenset[str], share: float, seed: int) -> bool | None:
    """None for a row of both sides."""
    called = called_tools(example)
    if not called:
        return random.Random(f"{seed}/{example.id}").random() < share
    if called <= held:
        return True
    return None if called & held else False
