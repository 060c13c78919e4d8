from __future__ import annotations

from star_edge.contracts import Score, ScoreDifference
from star_edge.report.scores import score_text

SCORES = (
    Score("simple_python", 0.5, 400, 0.45, 0.5512),
    Score("irrelevance", 1.0, 240, 1.0, 1.0),
    Score("live", 0.25, 1351, 0.2, 0.3, is_aggregate=True),
)


def test_aggregates_stand_under_a_rule_of_their_own() -> None:
    assert score_text(SCORES).splitlines() == [
        "                  n      %            95 %",
        "-------------  ----  -----  --------------",
        "simple_python   400   50.0    45.0 to 55.1",
        "irrelevance     240  100.0  100.0 to 100.0",
        "-------------  ----  -----  --------------",
        "live           1351   25.0    20.0 to 30.0",
    ]


def test_a_difference_stands_beside_its_score() -> None:
    found = ScoreDifference("simple_python", 20, 0.5, 0.6, -0.1, -0.25, 0.05)
    head, _, line, other, *_ = score_text(SCORES, [found]).splitlines()
    assert [word.strip() for word in head.split("  ") if word.strip()][-3:] == [
        "other, %", "difference, points", "n in both",
    ]  # fmt: skip
    assert line.split()[-6:] == ["60.0", "-10.0", "(-25.0", "to", "+5.0)", "20"]
    assert other.split()[-3:] == ["–", "–", "–"]


def test_without_aggregates_there_is_one_rule() -> None:
    assert score_text(SCORES[:2]).count("\n-") == 1


def test_aggregates_alone_have_one_rule() -> None:
    assert len(score_text(SCORES[2:]).splitlines()) == 3
