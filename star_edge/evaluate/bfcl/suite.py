"""BFCL's single-turn part as a suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property

from star_edge.contracts import Example
from star_edge.evaluate.bfcl import wheel
from star_edge.evaluate.bfcl.cases import CATEGORIES, BfclCase, check_categories, load
from star_edge.evaluate.bfcl.checker import judge
from star_edge.evaluate.bfcl.summary import bfcl_measures
from star_edge.evaluate.measures import SuiteScores
from star_edge.evaluate.selection import NO_OUTPUT, NO_ROOM, Missing, check_ids, evenly

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
        check_categories(categories)
        everything = load()
        self._known = [case.id for case in everything]
        self._sizes = Counter(case.category for case in everything)
        self.cases = tuple(
            case
            for category in dict.fromkeys(categories or CATEGORIES)
            for case in evenly([case for case in everything if case.category == category], limit)
        )

    @property
    def ids(self) -> list[str]:
        return [case.id for case in self.cases]

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        return tuple(case.example for case in self.cases)

    def judge(self, texts: Mapping[str, str | None], *, missing: Missing = "refuse") -> SuiteScores:
        """As `star_edge.evaluate.suites.Suite.judge`."""
        check_ids(texts, wanted=self.ids, known=self._known, missing=missing)
        verdicts: list[tuple[str, str, bool]] = []
        reasons: dict[str, str] = {}
        for case in self.cases:
            if case.id not in texts and missing != "wrong":
                continue
            reason = _reason(case, texts[case.id]) if case.id in texts else NO_OUTPUT
            verdicts.append((case.id, case.category, reason is None))
            if reason is not None:
                reasons[case.id] = reason
        measures = bfcl_measures(verdicts, self._sizes)
        return SuiteScores(
            suite=self.name,
            version=self.version,
            scores=tuple(measure.score() for measure in measures),
            verdicts={id: ok for id, _, ok in verdicts},
            reasons=reasons,
            measures=measures,
        )


def _reason(case: BfclCase, text: str | None) -> str | None:
    """Why an answer is wrong; None when it is right."""
    if text is None:
        return NO_ROOM
    verdict = judge(case, text)
    return None if verdict.ok else verdict.reason or ""
