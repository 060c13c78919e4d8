"""95 % intervals: Wilson's for one rate, the bootstrap for the difference of two and for weighted means of rates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# The 97.5 % point of the standard normal distribution.
Z_95 = 1.959963984540054


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a share, at 95 %.

    Returns: low and high, both in [0, 1]; (0, 1) when n is 0, since nothing is known.
    Raises: ValueError: successes outside [0, n].
    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return 0.0, 1.0
    share, z2 = successes / n, Z_95 * Z_95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # The bound is exactly 0 or 1 at the ends; rounding must not say otherwise.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def paired_bootstrap(
    a: Sequence[float], b: Sequence[float], *, seed: int = 0, resamples: int = 2000
) -> tuple[float, float, float]:
    """Mean of a - b over the same cases, with a percentile bootstrap interval at 95 %.

    Args:
        a, b: one score per case, in the same order of cases.
    Returns: mean difference, low, high.
    Raises: ValueError: different lengths, or no case.
    Source: Efron 1979, "Bootstrap methods: another look at the jackknife".
    """
    if len(a) != len(b) or not len(a):
        raise ValueError(f"a paired bootstrap needs the same cases on both sides, not {len(a)} and {len(b)}")
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    random = np.random.default_rng(seed)
    n = len(differences)
    means = np.array([differences[random.integers(0, n, n)].mean() for _ in range(resamples)])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


def stratified_bootstrap(
    strata: Sequence[tuple[float, Sequence[int], Sequence[int]]], *, seed: int = 0, resamples: int = 10_000
) -> tuple[float, float]:
    """Percentile bootstrap interval, at 95 %, of a weighted mean of rates whose cases are drawn within their stratum.

    Cases that count alike are drawn together: how often each kind of case comes up in a resample is one draw from a
    multinomial distribution (for right or wrong: a binomial one), which is the same as drawing case after case.

    Args:
        strata: weight, and for each case its points and the points that were to be had (above 0); for a paired
            difference the points are one model's minus the other's.
    Returns: low and high.
    Raises: ValueError: a stratum without cases.
    Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", chapters 8 and 13.
    """
    random = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for weight, points, possible in strata:
        kinds, counts = np.unique(np.array([points, possible], dtype=np.int64), axis=1, return_counts=True)
        if not len(counts):
            raise ValueError("a bootstrap needs cases in every stratum")
        drawn: NDArray[np.int64] = random.multinomial(counts.sum(), counts / counts.sum(), size=resamples)
        means += weight * (drawn @ kinds[0]) / (drawn @ kinds[1])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
