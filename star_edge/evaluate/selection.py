"""Which cases are asked, and which outputs belong to them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Literal, TypeAlias, TypeVar

from star_edge.errors import EvaluationError

Item = TypeVar("Item")
# What a case without an output is: an error, a wrong answer, or no part of the result.
Missing: TypeAlias = Literal["refuse", "wrong", "skip"]
NO_OUTPUT = "there is no output for it"
NO_ROOM = "its prompt has no room in the context"


def evenly(items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most `limit` items, evenly spread, in their order; the same ones every time."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[number * len(items) // limit] for number in range(limit)]


def check_ids(texts: Iterable[str], *, wanted: Collection[str], known: Collection[str], missing: Missing) -> None:
    """Hold the ids of outputs against those of a suite.

    Args:
        wanted: the cases to judge. known: all cases of the suite, narrowed or not.
    Raises: EvaluationError: an id that is no case, or a case without an output where `missing` is "refuse".
    """
    given, cases = set(texts), set(known)
    unknown = [id for id in texts if id not in cases]
    if unknown:
        raise EvaluationError(
            f"{len(unknown)} of {len(given)} outputs are for no case of this suite, first {unknown[0]!r}; "
            "are they another suite's?"
        )
    absent = [id for id in wanted if id not in given]
    if absent and missing == "refuse":
        raise EvaluationError(
            f"{len(absent)} of {len(wanted)} cases have no output, first {absent[0]!r}; answer them, narrow the suite "
            "with --category or --limit, or count them as wrong with --missing-as-wrong"
        )
