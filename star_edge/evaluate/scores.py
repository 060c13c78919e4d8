"""The scores of function calling, one completion at a time and over a suite.

Exact call: the same multiset of calls, arguments equal as JSON values. Name: the same multiset of names.
Argument: the share of the target's (call, parameter) pairs that are right. False call: a call where none is due.
Missed call: none where one is due. Malformed: a call block that cannot be read, which counts as no call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from star_edge.calls.match import argument_hits, same_calls
from star_edge.calls.parse import parse_completion
from star_edge.contracts import Accuracy, Example, Rate
from star_edge.evaluate.intervals import wilson


@dataclass(frozen=True, slots=True)
class CaseVerdict:
    """What one completion is worth. `exact_call`, `name` and `missed_call` mean something only where a call is due."""

    id: str
    has_target_calls: bool
    exact_call: bool
    name: bool
    argument_right: int
    argument_total: int
    false_call: bool
    missed_call: bool
    malformed: bool


def judge(example: Example, text: str) -> CaseVerdict:
    """Judge a completion of one example; never raises on any text."""
    parsed, wanted = parse_completion(text), example.target_calls
    right, total = argument_hits(parsed.calls, wanted)
    return CaseVerdict(
        id=example.id,
        has_target_calls=bool(wanted),
        exact_call=bool(wanted) and same_calls(parsed.calls, wanted),
        name=bool(wanted) and Counter(c.name for c in parsed.calls) == Counter(c.name for c in wanted),
        argument_right=right,
        argument_total=total,
        false_call=not wanted and bool(parsed.calls),
        missed_call=bool(wanted) and not parsed.calls,
        malformed=parsed.is_malformed,
    )


def accuracy(verdicts: Sequence[CaseVerdict]) -> Accuracy:
    """Rates over a suite, each over the rows it concerns, with Wilson's 95 % interval.

    `exact_call`, `name` and `missed_call` count rows whose target has calls, `false_call` the other rows,
    `malformed` all rows. `argument` counts (call, parameter) pairs, so its n is the number of pairs; its interval
    is Wilson's over pairs and takes them for independent, hence somewhat narrow where a row has many parameters.
    """
    due = [verdict for verdict in verdicts if verdict.has_target_calls]
    not_due = [verdict for verdict in verdicts if not verdict.has_target_calls]
    return Accuracy(
        exact_call=_share(verdict.exact_call for verdict in due),
        name=_share(verdict.name for verdict in due),
        argument=rate(sum(v.argument_right for v in due), sum(v.argument_total for v in due)),
        false_call=_share(verdict.false_call for verdict in not_due),
        missed_call=_share(verdict.missed_call for verdict in due),
        malformed=_share(verdict.malformed for verdict in verdicts),
    )


def rate(successes: int, n: int) -> Rate:
    """A share with its interval; 0.0 in [0, 1] when n is 0."""
    low, high = wilson(successes, n)
    return Rate(successes / n if n else 0.0, n, low, high)


def _share(flags: Iterable[bool]) -> Rate:
    counted = list(flags)
    return rate(sum(counted), len(counted))
