"""The `star` reward: a golden table computed by hand, ROUGE against its package, and what must hold for any text."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_rows import CALL, CALLS, GARBAGE, TOOLS, WORDS, target_of
from rouge_score.rouge_scorer import RougeScorer

from star_edge.calls.parse import format_calls
from star_edge.contracts import ToolCall
from star_edge.rl.rewards.star import star, text_similarity

GOLDEN = Path(__file__).parents[3] / "golden" / "reward_star.jsonl"
ROWS = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_golden_table(row):
    assert star(row["completion"], row["target"], row["tools"]) == pytest.approx(row["score"], abs=1e-6)


def test_golden_table_is_complete():
    ids = {row["id"] for row in ROWS}
    assert len(ids) == len(ROWS) >= 40
    assert sum(row["comment"].startswith("HOLE") for row in ROWS) >= 12


@settings(deadline=None)
@given(CALLS)
def test_the_target_itself_scores_one(calls):
    assert star(format_calls(calls), target_of(calls), TOOLS) == 1.0


@settings(deadline=None)
@given(CALLS, st.randoms(use_true_random=False))
def test_calls_of_different_names_may_come_in_any_order(calls, random):
    calls = list({call.name: call for call in calls}.values())
    shuffled = random.sample(calls, len(calls))
    assert star(format_calls(shuffled), target_of(calls), TOOLS) == pytest.approx(1.0)


@settings(deadline=None)
@given(CALLS, CALLS)
def test_valid_calls_score_between_zero_and_one(predicted, wanted):
    assert 0.0 <= star(format_calls(predicted), target_of(wanted), TOOLS) <= 1.0


@settings(deadline=None)
@given(CALLS, CALL)
def test_an_extra_call_never_helps_an_exact_completion(calls, extra):
    assert star(format_calls([*calls, extra]), target_of(calls), TOOLS) < 1.0


@settings(deadline=None)
@given(GARBAGE, GARBAGE, CALLS)
def test_any_text_is_scored(completion, reply, calls):
    for target in ({"role": "assistant", "content": reply}, target_of(calls)):
        assert -1.0 <= star(completion, target, TOOLS) <= 1.0


@settings(deadline=None)
@given(GARBAGE)
def test_a_call_that_was_not_offered_costs_one_whatever_surrounds_it(text):
    completion = f'{text}<tool_call>{{"name": "nope", "arguments": {{}}}}</tool_call>'
    assert star(completion, {"content": text}, TOOLS) == -1.0


SCORER = RougeScorer(["rougeL"], use_stemmer=True)


@settings(deadline=None)
@given(WORDS | st.text(max_size=30), WORDS | st.text(max_size=30))
def test_text_similarity_is_the_packages_rouge_l(predicted, wanted):
    expected = 1.0 if predicted == wanted else SCORER.score(wanted, predicted)["rougeL"].fmeasure
    assert text_similarity(predicted, wanted) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("text", ["y" * 5000, "yyy " * 5000, "<tool_call>" + '{"a":' * 5000, "[" * 5000, "\ud800"])
def test_degenerate_completions_are_scored(text):
    assert -1.0 <= star(text, {"content": "hey " + text}, TOOLS) <= 1.0
    assert star(text, {"content": None, "tool_calls": [{"name": "f", "arguments": {"a": text}}]}, TOOLS) <= 0.0


def test_scoring_takes_less_than_a_millisecond():
    calls = [ToolCall("f", {"a": f"call my mother at {hour}", "b": hour, "c": [1, 2]}) for hour in range(3)]
    completion, target = format_calls(calls[::-1]), target_of(calls)
    star(completion, target, TOOLS)
    started = time.process_time()
    for _ in range(100):
        star(completion, target, TOOLS)
    assert time.process_time() - started < 0.1
