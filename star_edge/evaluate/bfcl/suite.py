"""BFCL's single-turn part as a suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property

from star_edge.contracts import Example
from star_edge.evaluate.bfcl import wheel
from star_edge.evaluate.bfcl.cases import load
from star_edge.evaluate.bfcl.checker import judge
from star_edge.evaluate.bfcl.summary import bfcl_measures
from star_edge.evaluate.measures import SuiteScores
from star_edge.evaluate.selection import NO_OUTPUT, Missing, check_ids, evenly

NAME = "bfcl"


class BfclSuite:
    """The 13 single-turn categories of BFCL v4, or some of them."""

    name = NAME
    version = f"bfcl-eval {wheel.VERSION} sha256:{wheel.SHA256}"

    def __init__(self, categories: Sequence[str] = (), limit: int | None = None) -> None:
        """Read the cases.

        Raises: EvaluationError: an unknown category, or the data cannot be had.
        """
        # All are read even when few are asked: ids are checked against all cases, and weights are by all of them.
        everything = load()
        wanted = load(categories) if categories else everything
        self._known = [case.id for case in everything]
        self._sizes = Counter(case.category for case in everything)
        self.cases = tuple(
            case
            for category in dict.fromkeys(case.category for case in wanted)
            for case in evenly([case for case in wanted if case.category == category], limit)
        )

    @property
    def ids(self) -> list[str]:
        return [case.id for case in self.cases]

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        return tuple(case.example for case in self.cases)

    def judge(self, texts: Mapping[str, str], *, missing: Missing = "refuse") -> SuiteScores:
        """As `star_edge.evaluate.suites.Suite.judge`."""
        check_ids(texts, wanted=self.ids, known=self._known, missing=missing)
        verdicts: list[tuple[str, str, bool]] = []
        reasons: dict[str, str] = {}
        for case in self.cases:
            if case.id in texts:
                verdict = judge(case, texts[case.id])
                verdicts.append((case.id, case.category, verdict.ok))
                if not verdict.ok:
                    reasons[case.id] = verdict.reason or ""
            elif missing == "wrong":
                verdicts.append((case.id, case.category, False))
                reasons[case.id] = NO_OUTPUT
        measures = bfcl_measures(verdicts, self._sizes)
        return SuiteScores(
            suite=self.name,
            version=self.version,
            scores=tuple(measure.score() for measure in measures),
            verdicts={id: ok for id, _, ok in verdicts},
            reasons=reasons,
            measures=measures,
        )
