"""When two calls are the same: equality of JSON values, of lists of calls, and parameter by parameter.

Nothing is filled in and nothing is coerced: `1 == 1.0` because JSON has one kind of number, `true != 1` and
`"7" != 7` because a function would see the difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from star_edge.contracts import ToolCall


def same_value(a: Any, b: Any) -> bool:
    """Equality of two JSON values; the order of an object's keys does not count, that of a list's items does."""
    if isinstance(a, str):
        return isinstance(b, str) and a == b
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a == b
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same_value(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same_value, a, b))
    return type(a) is type(b) and bool(a == b)


def same_call(a: ToolCall, b: ToolCall) -> bool:
    """Equality of two calls: the same name and the same arguments."""
    return a.name == b.name and same_value(a.arguments, b.arguments)


def same_calls(a: Sequence[ToolCall], b: Sequence[ToolCall]) -> bool:
    """Equality of two lists of calls as multisets: order does not count, repetition does."""
    if len(a) != len(b):
        return False
    left = list(b)
    for call in a:
        found = next((position for position, other in enumerate(left) if same_call(call, other)), None)
        if found is None:
            return False
        del left[found]
    return True


def argument_hits(predicted: Sequence[ToolCall], target: Sequence[ToolCall]) -> tuple[int, int]:
    """Right parameters under the best one-to-one matching of calls of the same name.

    Returns: how many of the target's (call, parameter) pairs are right, and how many there are.
    """
    total = sum(len(call.arguments) for call in target)
    if not predicted or not target:
        return 0, total
    return int(best_sum([[_hits(call, wanted) for wanted in target] for call in predicted])), total


def best_sum(gains: Sequence[Sequence[float]]) -> float:
    """The most that a one-to-one matching of rows and columns gains.

    Args:
        gains: a row of gains per left member, a column per right member; none of both sides empty, none negative.
    """
    if len(gains) == 1 or len(gains[0]) == 1:
        return max(map(max, gains))
    # Imported here: half a second that a row with a single call, nearly every row, need not spend.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(gains, maximize=True)
    return math.fsum(gains[row][column] for row, column in zip(rows, columns, strict=True))


def _hits(call: ToolCall, wanted: ToolCall) -> int:
    if call.name != wanted.name:
        return 0
    return sum(
        name in call.arguments and same_value(call.arguments[name], value) for name, value in wanted.arguments.items()
    )
