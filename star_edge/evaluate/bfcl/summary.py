"""BFCL's numbers from its cases: every category, and the aggregates, each a weighted mean of category shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from star_edge.evaluate.bfcl.cases import CATEGORIES
from star_edge.evaluate.measures import Measure, Points, Stratum

SIMPLE = ("simple_python", "simple_java", "simple_javascript")
NON_LIVE = ("multiple", "parallel", "parallel_multiple")  # and simple, as one
LIVE = ("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple")


def aggregate_weights(sizes: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Aggregate -> category -> weight: the one place that says how categories are put together.

    Non-live: the mean of simple, multiple, parallel and parallel-multiple, where simple is the mean of three languages.
    Live: weighted by cases. The others stand for themselves.

    Args:
        sizes: cases of each category in the whole suite, so that a part of it estimates the same numbers.
    Returns: the aggregates whose categories are all in `sizes`.
    """
    live_cases = sum(sizes.get(category, 0) for category in LIVE)
    weights = {
        "simple": dict.fromkeys(SIMPLE, 1 / 3),
        "non_live": dict.fromkeys(SIMPLE, 1 / 12) | dict.fromkeys(NON_LIVE, 1 / 4),
        "live": {category: sizes.get(category, 0) / live_cases for category in LIVE} if live_cases else {},
    }
    return {label: parts for label, parts in weights.items() if parts and all(sizes.get(c, 0) for c in parts)}


def bfcl_measures(verdicts: Sequence[tuple[str, str, bool]], sizes: Mapping[str, int]) -> tuple[Measure, ...]:
    """A measure a category with cases, in the order of `CATEGORIES`, then the aggregates that can be had.

    Args:
        verdicts: case id, category, right or wrong.
        sizes: as in `aggregate_weights`.
    """
    points: dict[str, dict[str, tuple[int, int]]] = {}
    for id, category, ok in verdicts:
        points.setdefault(category, {})[id] = (int(ok), 1)
    measures = [Measure(category, (Stratum(1.0, points[category]),)) for category in CATEGORIES if category in points]
    known = {category: sizes[category] for category in points}
    for label, weights in aggregate_weights(known).items():
        measures.append(Measure(label, _strata(weights, points), is_aggregate=True))
    return tuple(measures)


def _strata(weights: Mapping[str, float], points: Mapping[str, Points]) -> tuple[Stratum, ...]:
    return tuple(Stratum(weight, points[category]) for category, weight in weights.items())
