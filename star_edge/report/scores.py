"""A suite's scores as one table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from star_edge.contracts import Score, ScoreDifference
from star_edge.report.tables import NOTHING, plain_table


def score_text(scores: Sequence[Score], differences: Sequence[ScoreDifference] = ()) -> str:
    """A line a score, in percent; aggregates, which come last, under a rule of their own.

    Args:
        differences: from another model, by label; they add its score and the difference in points, over the cases
            that both models answered.
    """
    by_label = {difference.label: difference for difference in differences}
    head = ["other, %", "difference, points", "n in both"] if by_label else []
    table = [["", "n", "%", "95 %", *head]]
    for score in scores:
        cells = [score.label, str(score.n), _percent(score.value), f"{_percent(score.low)} to {_percent(score.high)}"]
        table.append(cells + (_difference_cells(by_label.get(score.label)) if by_label else []))
    lines = plain_table(table).split("\n")
    first = next((number for number, score in enumerate(scores) if score.is_aggregate), None)
    if first:
        lines.insert(2 + first, lines[1])
    return "\n".join(lines)


def _difference_cells(found: ScoreDifference | None) -> list[str]:
    if found is None:
        return [NOTHING] * 3
    gap, low, high = (f"{value * 100:+.1f}" for value in (found.difference, found.low, found.high))
    return [_percent(found.reference), f"{gap} ({low} to {high})", str(found.n)]


def _percent(share: float) -> str:
    return f"{share * 100:.1f}"
