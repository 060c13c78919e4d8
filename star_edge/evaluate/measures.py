"""What a suite's numbers are made of: points of cases, in strata with weights. Means, intervals and differences.

Every score of every suite is a weighted mean of shares: a category is one share of its cases, an aggregate weighs
several categories, and the argument score is a share of (call, parameter) pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from star_edge.contracts import Score, ScoreDifference
from star_edge.errors import EvaluationError
from star_edge.evaluate.intervals import interval_of_shares, stratified_bootstrap
from star_edge.evaluate.selection import NO_ROOM

Points: TypeAlias = Mapping[str, tuple[int, int]]  # case id -> points got, points that were to be had (above 0)


@dataclass(frozen=True, slots=True)
class Stratum:
    """Cases that are drawn together, and what their share weighs in the measure; weights of a measure add up to 1."""

    weight: float
    points: Points

    @property
    def got(self) -> list[int]:
        return [got for got, _ in self.points.values()]

    @property
    def possible(self) -> list[int]:
        return [possible for _, possible in self.points.values()]

    @property
    def share(self) -> float:
        return sum(self.got) / sum(self.possible)


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a suite, case by case; no stratum is empty."""

    label: str
    strata: tuple[Stratum, ...]
    is_aggregate: bool = False

    @property
    def value(self) -> float:
        return sum(stratum.weight * stratum.share for stratum in self.strata)

    @property
    def n(self) -> int:
        """Points that were to be had: the cases, where each is worth one."""
        return sum(sum(stratum.possible) for stratum in self.strata)

    def score(self) -> Score:
        """The number with its interval."""
        low, high = interval_of_shares([(s.weight, s.got, s.possible) for s in self.strata])
        return Score(self.label, self.value, self.n, low, high, self.is_aggregate)


@dataclass(frozen=True, slots=True)
class SuiteScores:
    """One model on one suite.

    version: of the suite's data. verdicts: case id -> right or wrong. reasons: of the wrong ones, one line each.
    """

    suite: str
    version: str
    scores: tuple[Score, ...]
    verdicts: Mapping[str, bool]
    reasons: Mapping[str, str]
    measures: tuple[Measure, ...]

    @property
    def without_room(self) -> int:
        """Cases whose prompt had no room in the model's context; they are wrong."""
        return sum(reason == NO_ROOM for reason in self.reasons.values())

    def numbers(self) -> dict[str, Any]:
        """What a summary holds: everything but the cases; `right` counts those that are."""
        return {
            "suite": self.suite,
            "version": self.version,
            "cases": len(self.verdicts),
            "right": sum(self.verdicts.values()),
            "without_room": self.without_room,
            "scores": self.scores,
        }


def compare(scores: SuiteScores, reference: SuiteScores) -> tuple[ScoreDifference, ...]:
    """Every measure of one model minus another's, over the cases that both have; none where a stratum has no such case.

    Raises: EvaluationError: two suites, or two versions of one.
    """
    if (scores.suite, scores.version) != (reference.suite, reference.version):
        raise EvaluationError(
            f"{scores.suite} ({scores.version[:24]}) and {reference.suite} ({reference.version[:24]}) "
            "are not the same cases; compare two outputs of one suite"
        )
    others = {measure.label: measure for measure in reference.measures}
    pairs = [(measure, others[measure.label]) for measure in scores.measures if measure.label in others]
    return tuple(found for pair in pairs if (found := _difference(*pair)) is not None)


def _difference(measure: Measure, reference: Measure) -> ScoreDifference | None:
    pairs = [_common(*strata) for strata in zip(measure.strata, reference.strata, strict=True)]
    if not all(ours.points for ours, _ in pairs):
        return None
    ours = Measure(measure.label, tuple(ours for ours, _ in pairs))
    theirs = Measure(measure.label, tuple(theirs for _, theirs in pairs))
    gaps = [[a - b for a, b in zip(mine.got, other.got, strict=True)] for mine, other in pairs]
    low, high = stratified_bootstrap(
        [(mine.weight, gap, mine.possible) for gap, (mine, _) in zip(gaps, pairs, strict=True)]
    )
    return ScoreDifference(
        label=measure.label,
        n=ours.n,
        value=ours.value,
        reference=theirs.value,
        difference=ours.value - theirs.value,
        low=low,
        high=high,
        is_aggregate=measure.is_aggregate,
    )


def _common(stratum: Stratum, other: Stratum) -> tuple[Stratum, Stratum]:
    """Both strata with the cases they share, in one order and with one weight."""
    ids = [id for id in stratum.points if id in other.points]
    ours, theirs = ({id: points[id] for id in ids} for points in (stratum.points, other.points))
    return Stratum(stratum.weight, ours), Stratum(stratum.weight, theirs)
