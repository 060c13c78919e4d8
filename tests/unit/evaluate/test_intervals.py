"""Intervals against hand-computed values and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from star_edge.evaluate.intervals import interval_of_shares, stratified_bootstrap, wilson


def test_wilson_by_hand():
    """8 of 10: z2 = 3.8415, centre (0.8 + 0.19207) / 1.38415 = 0.71674, half 0.31364 / 1.38415 = 0.22659."""
    low, high = wilson(8, 10)
    assert low == pytest.approx(0.49016, abs=1e-5)
    assert high == pytest.approx(0.94332, abs=1e-5)


@settings(deadline=None)
@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy_and_holds_the_share(case):
    successes, n = case
    low, high = wilson(successes, n)
    theirs = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0.0 <= low <= successes / n <= high <= 1.0


def test_nothing_is_known_without_a_case():
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "n"), [(-1, 3), (4, 3), (1, 0)])
def test_impossible_counts_are_refused(successes, n):
    with pytest.raises(ValueError):
        wilson(successes, n)


def paired_bootstrap(a, b, **options):
    """Mean of a - b over the same cases, and its interval."""
    gaps = np.array(a) - np.array(b)
    return (gaps.mean(), *stratified_bootstrap([(1.0, list(gaps), [1] * len(gaps))], **options))


def test_a_constant_difference_has_no_width():
    assert paired_bootstrap([1, 2, 3], [0, 1, 2]) == (1.0, 1.0, 1.0)


def test_the_difference_is_a_minus_b_and_lies_in_its_interval():
    a, b = [1.0] * 30 + [0.0] * 10, [1.0] * 20 + [0.0] * 20
    mean, low, high = paired_bootstrap(a, b)
    assert mean == pytest.approx(0.25)
    assert 0.0 < low < mean < high < 0.5
    assert paired_bootstrap(b, a)[0] == pytest.approx(-0.25)


def test_the_bootstrap_comes_near_the_normal_interval():
    random = np.random.default_rng(5)
    a, b = random.normal(0.3, 1.0, 400), random.normal(0.0, 1.0, 400)
    mean, low, high = paired_bootstrap(list(a), list(b))
    half = 1.96 * np.std(a - b) / np.sqrt(400)
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.02)


def test_pairing_narrows_the_interval():
    """The same scores shifted by nearly a constant: pairing sees the shift, unpaired noise would hide it."""
    random = np.random.default_rng(7)
    base = random.normal(0.0, 10.0, 100)
    _, low, high = paired_bootstrap(list(base + 0.1), list(base))
    assert low == pytest.approx(0.1)
    assert high == pytest.approx(0.1)


def test_a_seed_gives_the_same_interval_again():
    a, b = [0, 1, 1, 0, 1], [1, 0, 1, 0, 0]
    assert paired_bootstrap(a, b, seed=3) == paired_bootstrap(a, b, seed=3)


ALL_RIGHT = (1.0, [1] * 10, [1] * 10)
MIXED = (1.0, [1] * 12 + [0] * 8, [1] * 20)


@pytest.mark.parametrize(
    ("stratum", "successes", "n"),
    [
        (ALL_RIGHT, 10, 10),
        ((1.0, [0] * 7, [1] * 7), 0, 7),
        ((1.0, [3, 1, 4], [3, 1, 4]), 3, 3),  # eight parameters, but three independent cases
        ((1.0, [1, 2], [2, 4]), 1, 2),
    ],
)
def test_cases_that_agree_have_wilsons_interval(stratum, successes, n):
    assert interval_of_shares([stratum]) == pytest.approx(wilson(successes, n))


def test_cases_that_differ_have_the_bootstraps():
    assert interval_of_shares([MIXED]) == pytest.approx(stratified_bootstrap([MIXED]))


def test_a_stratum_that_agrees_widens_its_aggregate_as_wilson_says():
    halves = [(0.5, *ALL_RIGHT[1:]), (0.5, *MIXED[1:])]
    low, high = interval_of_shares(halves)
    bootstrap_low, bootstrap_high = stratified_bootstrap([MIXED])
    assert low == pytest.approx(0.8 - 0.5 * np.hypot(0.6 - bootstrap_low, 1 - wilson(10, 10)[0]))
    assert high == pytest.approx(0.8 + 0.5 * (bootstrap_high - 0.6))


def test_an_aggregate_of_nothing_but_right_cases_is_not_certain():
    low, high = interval_of_shares([(0.5, *ALL_RIGHT[1:]), (0.5, *ALL_RIGHT[1:])])
    assert wilson(10, 10)[0] < low < 0.85
    assert high == 1.0


def test_the_interval_holds_the_mean_about_as_often_as_it_says():
    random = np.random.default_rng(3)
    shares, n, held = (0.98, 0.9), 16, 0
    for _ in range(200):
        strata = [(0.5, list(random.binomial(1, share, n)), [1] * n) for share in shares]
        low, high = interval_of_shares(strata)
        held += low <= sum(shares) / 2 <= high
    assert held / 200 > 0.9
