"""A file of rows with answers as a suite: a held-out split of our own, or anybody's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from star_edge.calls.parse import strip_end_tokens
from star_edge.contracts import Example
from star_edge.data.normalise import read_evaluation, refuse_bad
from star_edge.errors import EvaluationError
from star_edge.evaluate.measures import Measure, Stratum, SuiteScores
from star_edge.evaluate.scores import CaseVerdict, judge
from star_edge.evaluate.selection import NO_OUTPUT, NO_ROOM, Missing, check_ids, evenly
from star_edge.manifest import sha256_file


class RowsSuite:
    """A case is right when its calls are exactly those that are due, or when it rightly has none but words."""

    def __init__(self, path: Path, limit: int | None = None) -> None:
        """Read the rows.

        Raises: DataError: a row cannot be read. EvaluationError: there is none.
        """
        rows, bad = read_evaluation(path)
        refuse_bad(path, rows, bad, remedy="mend or remove them; `star-edge data check` lists all")
        if not rows:
            raise EvaluationError(f"{path}: no rows to evaluate on; give a JSONL file with at least one")
        self.name = str(path)
        self.version = f"sha256:{sha256_file(path)}"
        self.examples = tuple(evenly(rows, limit))
        self._known = [row.id for row in rows]

    @property
    def ids(self) -> list[str]:
        return [example.id for example in self.examples]

    def judge(self, texts: Mapping[str, str | None], *, missing: Missing = "refuse") -> SuiteScores:
        """As `star_edge.evaluate.suites.Suite.judge`."""
        check_ids(texts, wanted=self.ids, known=self._known, missing=missing)
        verdicts: list[CaseVerdict] = []
        reasons: dict[str, str] = {}
        for example in self.examples:
            if example.id not in texts and missing != "wrong":
                continue
            text = texts.get(example.id)
            verdict = _unanswered(example) if text is None else judge(example, text)
            none = NO_ROOM if example.id in texts else NO_OUTPUT
            reason = none if text is None else _reason(verdict, text)
            verdicts.append(verdict)
            if reason is not None:
                reasons[example.id] = reason
        measures = _measures(verdicts)
        return SuiteScores(
            suite=self.name,
            version=self.version,
            scores=tuple(measure.score() for measure in measures),
            verdicts={verdict.id: verdict.id not in reasons for verdict in verdicts},
            reasons=reasons,
            measures=measures,
        )


def _reason(verdict: CaseVerdict, text: str) -> str | None:
    """Why a row is wrong; None when it is right."""
    if not verdict.has_target_calls:
        return _reason_of_reply(verdict, text)
    if verdict.exact_call:
        return None
    if verdict.malformed:
        return "a call that cannot be read"
    if verdict.missed_call:
        return "no call where one is due"
    return "other arguments than are due" if verdict.name else "other functions than are due"


def _reason_of_reply(verdict: CaseVerdict, text: str) -> str | None:
    if verdict.false_call:
        return "calls where no call is due"
    if verdict.malformed:
        return "a call that cannot be read, where a reply is due"
    return None if strip_end_tokens(text) else "an empty answer, where a reply is due"


def _unanswered(example: Example) -> CaseVerdict:
    """The worst verdict there is."""
    due = example.target_calls
    return CaseVerdict(
        id=example.id,
        has_target_calls=bool(due),
        exact_call=False,
        name=False,
        argument_right=0,
        argument_total=sum(len(call.arguments) for call in due),
        false_call=not due,
        missed_call=bool(due),
        malformed=True,
    )


def _measures(verdicts: Sequence[CaseVerdict]) -> tuple[Measure, ...]:
    """The rates that concern any row, case by case."""
    due = [verdict for verdict in verdicts if verdict.has_target_calls]
    points = {
        "exact_call": {verdict.id: (int(verdict.exact_call), 1) for verdict in due},
        "name": {verdict.id: (int(verdict.name), 1) for verdict in due},
        "argument": {v.id: (v.argument_right, v.argument_total) for v in due if v.argument_total},
        "false_call": {v.id: (int(v.false_call), 1) for v in verdicts if not v.has_target_calls},
        "missed_call": {verdict.id: (int(verdict.missed_call), 1) for verdict in due},
        "malformed": {verdict.id: (int(verdict.malformed), 1) for verdict in verdicts},
    }
    return tuple(Measure(label, (Stratum(1.0, cases),)) for label, cases in points.items() if cases)
