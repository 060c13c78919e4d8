"""95 % intervals: Wilson's for one rate, the bootstrap for the difference of two and for weighted means of rates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# The 97.5 % point of the standard normal distribution.
Z_95 = 1.959963984540054


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's score interval of a share, at 95 %.

    Args:
        successes: a whole number, or n times a mean of shares.
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


def stratified_bootstrap(
    strata: Sequence[tuple[float, Sequence[float], Sequence[int]]], *, seed: int = 0, resamples: int = 10_000
) -> tuple[float, float]:
    """Percentile bootstrap interval, at 95 %, of a weighted mean of rates whose cases are drawn within their stratum.

    Cases that count alike are drawn together: how often each kind of case comes up in a resample is one draw from a
    multinomial distribution (for right or wrong: a binomial one), which is the same as drawing case after case.

    Args:
        strata: weight, and for each case its points and the points that were to be had (above 0); for a paired
            difference the points are one model's minus the other's.
    Returns: low and high.
    Raises: ValueError: a stratum without cases, or with points for other cases than possible points.
    Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", chapters 8 and 13.
    """
    random = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for weight, points, possible in strata:
        kinds, counts = np.unique(np.array([points, possible], dtype=np.float64), axis=1, return_counts=True)
        if not len(counts):
            raise ValueError("a bootstrap needs cases in every stratum")
        drawn: NDArray[np.int64] = random.multinomial(counts.sum(), counts / counts.sum(), size=resamples)
        means += weight * (drawn @ kinds[0]) / (drawn @ kinds[1])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def interval_of_shares(strata: Sequence[tuple[float, Sequence[int], Sequence[int]]]) -> tuple[float, float]:
    """Interval, at 95 %, of a weighted mean of shares: the bootstrap's, and Wilson's where the bootstrap knows none.

    Where all cases of a stratum have the same share, so has every resample, and the bootstrap would claim certainty.
    The distances of Wilson's limits from such a share, over its number of cases, are added to the bootstrap's of the
    other strata by their squares. One such stratum by itself has Wilson's interval.

    Args:
        strata: as in `stratified_bootstrap`.
    Source: Zou and Donner 2008, "Construction of confidence limits about effect measures: a general approach".
    """
    varied = [stratum for stratum in strata if not _agree(*stratum[1:])]
    value = sum(weight * sum(points) / sum(possible) for weight, points, possible in varied)
    low, high = stratified_bootstrap(varied) if varied else (0.0, 0.0)
    below, above = [value - low], [high - value]
    for weight, points, possible in strata:
        if _agree(points, possible):
            share, n = points[0] / possible[0], len(points)
            least, most = wilson(share * n, n)
            value += weight * share
            below.append(weight * (share - least))
            above.append(weight * (most - share))
    return max(0.0, value - math.hypot(*below)), min(1.0, value + math.hypot(*above))


def _agree(points: Sequence[int], possible: Sequence[int]) -> bool:
    return len({got / wanted for got, wanted in zip(points, possible, strict=True)}) == 1
