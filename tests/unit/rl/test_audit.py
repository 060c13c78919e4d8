from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from star_edge.calls.match import same_calls
from star_edge.calls.parse import parse_completion
from star_edge.contracts import ToolCall
from star_edge.errors import EvaluationError, TrainingError
from star_edge.evaluate.bfcl.cases import BfclCase
from star_edge.report.audit import audit_markdown
from star_edge.rl import audit as module
from star_edge.rl.audit import audit

RESULTS = Path(__file__).parents[3] / "docs" / "results" / "rewards.md"

SEND = {
    "name": "send",
    "parameters": {
        "type": "dict",
        "properties": {"to": {"type": "string"}, "text": {"type": "string"}, "copies": {"type": "integer"}},
        "required": ["to", "text"],
    },
}
STOP = {"name": "stop", "parameters": {"type": "dict", "properties": {}, "required": []}}


def calling(number: int, category: str = "multiple") -> BfclCase:
    accepted = {"to": ["Ann Lee"], "text": [f"Number {number} is up"], "copies": [number, ""]}
    return BfclCase(f"{category}_{number}", category, (), (SEND, STOP), ({"send": accepted},))


def replying(number: int) -> BfclCase:
    return BfclCase(f"irrelevance_{number}", "irrelevance", (), (SEND, STOP), ())


CASES = [*map(calling, range(1, 21)), *map(replying, range(20))]


def rewards(monkeypatch, function):
    """One reward, called `typed`, of the completion's calls and the target's."""

    def of_calls(text, target, _tools, *, kind):
        assert kind == "typed"
        wanted = [ToolCall(call["name"], call["arguments"]) for call in target.get("tool_calls", ())]
        return function(parse_completion(text).calls, wanted)

    monkeypatch.setattr(module, "score", of_calls)


def test_a_reward_of_one_for_all_ties_all_pairs(monkeypatch):
    rewards(monkeypatch, lambda calls, wanted: 0.5)
    report = audit(["typed"], CASES, answers=100)
    (row,) = report.rewards
    assert (row.tau_b, row.in_order, row.tied, row.inverted, row.auc) == (0.0, 0.0, 1.0, 0.0, 0.5)
    assert report.worst == ()


def test_a_reward_of_exact_answers_ties_the_other_right_ones(monkeypatch):
    rewards(monkeypatch, lambda calls, wanted: float(same_calls(calls, wanted)))
    row = audit(["typed"], CASES, answers=100).rewards[0]
    assert 0.0 < row.tau_b < 1.0
    assert 0.0 < row.tied < 0.6
    assert row.in_order + row.tied + row.inverted == pytest.approx(1.0)


def test_a_reward_turned_round_inverts_pairs_and_the_worst_are_listed(monkeypatch):
    rewards(monkeypatch, lambda calls, wanted: -float(same_calls(calls, wanted)))
    report = audit(["typed"], CASES, answers=100)
    (row,) = report.rewards
    assert row.tau_b < 0.0
    assert row.in_order < 0.1 < row.inverted
    assert len({worst.case for worst in report.worst}) == len(report.worst) == module.WORST
    for worst in report.worst:
        assert (worst.right_reward, worst.wrong_reward) == (-1.0, 0.0)
        assert worst.wrong_text != worst.right_text


def test_counts_add_up():
    report = audit(["typed", "star"], CASES, answers=120, seed=5)
    assert report.answers == sum(row.answers for row in report.perturbations) == 120
    assert report.right == sum(row.right for row in report.perturbations)
    assert {row.reward for row in report.rewards} == {"typed", "star"}
    canonical = next(row for row in report.perturbations if row.kind == "canonical")
    assert canonical.right == canonical.answers
    assert canonical.mean_reward == {"typed": 1.0, "star": 1.0}
    assert audit(["typed", "star"], CASES, answers=120, seed=5) == report
    assert audit(["typed", "star"], CASES, answers=120, seed=6) != report


def test_categories_are_drawn_in_turn():
    report = audit(
        ["binary"], [*map(calling, range(1, 21)), *(calling(n, "live_multiple") for n in range(1, 5))], answers=60
    )
    assert report.cases == 6


def test_cases_without_a_right_answer_or_without_a_target_are_left_out():
    impossible = dataclasses.replace(calling(1), id="impossible", functions=(STOP,))
    relevance = BfclCase("live_relevance_0", "live_relevance", (), (STOP,), ())
    with pytest.raises(EvaluationError, match="yield 0 perturbed answers, not 10; ask for fewer"):
        audit(["typed"], [impossible, relevance], answers=10)


def test_an_unknown_reward_is_refused():
    with pytest.raises(TrainingError, match="unknown reward 'moon'"):
        audit(["moon"], CASES, answers=10)  # type: ignore[list-item]


def test_typed_agrees_best_with_the_checker_on_published_cases(bfcl_cases):
    report = audit(["star", "typed", "binary"], bfcl_cases)
    star, typed, binary = report.rewards
    assert typed.tau_b > max(star.tau_b, binary.tau_b) + 0.03
    assert typed.auc > max(star.auc, binary.auc) + 0.03
    assert typed.in_order > max(star.in_order, binary.in_order) + 0.05
    assert typed.tied < min(star.tied, binary.tied) / 5
    duplicated = next(row for row in report.perturbations if row.kind == "duplicated call")
    assert duplicated.inverted["typed"] < 0.01
    of_untied = [row.inverted / (1 - row.tied) for row in (star, typed, binary)]
    assert of_untied[1] == min(of_untied)
    assert typed.in_order > 0.97
    # The page in docs is this report; only its versions may be older.
    page = audit_markdown(report, command=_command(), versions={})
    assert RESULTS.read_text(encoding="utf-8").split("Versions:")[0] == page.split("Versions:")[0]


def _command() -> str:
    return "star-edge reward audit --answers 2000 --seed 0 --markdown docs/results/rewards.md"
