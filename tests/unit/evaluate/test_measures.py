from __future__ import annotations

import numpy as np
import pytest

from star_edge.errors import EvaluationError
from star_edge.evaluate.intervals import stratified_bootstrap
from star_edge.evaluate.measures import Measure, Stratum, SuiteScores, compare


def direct_bootstrap(
    strata: list[tuple[float, list[int], list[int]]], *, resamples: int, seed: int
) -> tuple[float, float]:
    """Case after case, as the textbook has it."""
    random = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for weight, points, possible in strata:
        drawn = random.integers(0, len(points), size=(resamples, len(points)))
        means += weight * np.array(points)[drawn].sum(axis=1) / np.array(possible)[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


RATE = [(1.0, [1] * 37 + [0] * 63, [1] * 100)]
TWO_CATEGORIES = [(0.25, [1] * 5 + [0] * 11, [1] * 16), (0.75, [1] * 30 + [0] * 10, [1] * 40)]
PAIRED = [(1.0, [1] * 12 + [0] * 60 + [-1] * 8, [1] * 80)]
PAIRS_OF_PARAMETERS = [(1.0, [3, 0, 2, 1, 4, 0, 1, 2] * 6, [3, 2, 2, 3, 5, 1, 1, 4] * 6)]


@pytest.mark.parametrize("strata", [RATE, TWO_CATEGORIES, PAIRED, PAIRS_OF_PARAMETERS])
def test_drawing_kinds_of_cases_is_drawing_cases(strata: list[tuple[float, list[int], list[int]]]) -> None:
    expected = direct_bootstrap(strata, resamples=40_000, seed=5)
    assert stratified_bootstrap(strata, resamples=40_000) == pytest.approx(expected, abs=0.006)


def test_the_same_seed_gives_the_same_interval() -> None:
    assert stratified_bootstrap(RATE) == stratified_bootstrap(RATE)
    assert stratified_bootstrap(RATE, seed=1) == pytest.approx(stratified_bootstrap(RATE, seed=2), abs=0.02)


def test_a_stratum_without_cases_is_refused() -> None:
    with pytest.raises(ValueError, match="cases in every stratum"):
        stratified_bootstrap([(1.0, [], [])])


def measure(label: str, **verdicts: int) -> Measure:
    return Measure(label, (Stratum(1.0, {id: (ok, 1) for id, ok in verdicts.items()}),))


def scores(*measures: Measure, version: str = "1") -> SuiteScores:
    return SuiteScores("s", version, (), {}, {}, measures)


def test_a_value_weighs_the_shares_of_its_strata() -> None:
    both = Measure("m", (Stratum(0.25, {"a": (1, 1), "b": (0, 1)}), Stratum(0.75, {"c": (1, 4), "d": (2, 2)})))
    assert both.value == pytest.approx(0.25 * 0.5 + 0.75 * 3 / 6)
    assert both.n == 8


def test_a_difference_is_over_the_common_cases() -> None:
    (found,) = compare(scores(measure("m", a=1, b=0, c=1)), scores(measure("m", z=0, c=0, b=0, a=1)))
    assert (found.n, found.value, found.reference) == (3, pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert found.difference == pytest.approx(1 / 3)
    assert found.low <= found.difference <= found.high


def test_pairing_narrows_the_interval() -> None:
    a = {f"c{number}": int(number % 2) for number in range(200)}
    b = {**a, "c0": 1}
    (found,) = compare(scores(measure("m", **b)), scores(measure("m", **a)))
    assert 0 <= found.low <= found.high < 0.03


def test_a_measure_without_common_cases_is_left_out() -> None:
    ours, theirs = scores(measure("m", a=1), measure("k", a=1)), scores(measure("m", b=1), measure("k", a=0))
    assert [found.label for found in compare(ours, theirs)] == ["k"]


def test_other_data_are_not_compared() -> None:
    with pytest.raises(EvaluationError, match="not the same cases"):
        compare(scores(measure("m", a=1)), scores(measure("m", a=1), version="2"))
