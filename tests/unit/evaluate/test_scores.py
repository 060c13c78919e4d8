"""Scores of single completions and of a suite, on cases small enough to count by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_edge.calls.parse import format_calls
from star_edge.contracts import Example, Rate, ToolCall
from star_edge.evaluate.intervals import wilson
from star_edge.evaluate.scores import CaseVerdict, accuracy, judge, rate

ALARM = ToolCall("set_alarm", {"time": "07:30", "label": "work"})
VOLUME = ToolCall("set_volume", {"level": 30})
LOCK = ToolCall("lock_screen", {})


def example(*calls: ToolCall, reply: str | None = None) -> Example:
    target = {"role": "assistant", "content": reply}
    if calls:
        target["tool_calls"] = [{"name": call.name, "arguments": call.arguments} for call in calls]
    return Example("x", "test", ({"role": "user", "content": "?"}, target), ())


def verdict(example_: Example, text: str) -> tuple[str, int, int]:
    """The flags that are set, in one word, and the arguments."""
    case = judge(example_, text)
    assert case.id == example_.id
    flags = ("exact_call", "name", "false_call", "missed_call", "malformed")
    return " ".join(flag for flag in flags if getattr(case, flag)), case.argument_right, case.argument_total


@pytest.mark.parametrize(
    ("wanted", "text", "flags", "right", "total"),
    [
        ([ALARM], format_calls([ALARM]), "exact_call name", 2, 2),
        ([ALARM, VOLUME], format_calls([VOLUME, ALARM]), "exact_call name", 3, 3),
        ([LOCK], format_calls([LOCK]), "exact_call name", 0, 0),
        ([VOLUME], format_calls([ToolCall("set_volume", {"level": 30.0})]), "exact_call name", 1, 1),
        ([VOLUME], format_calls([ToolCall("set_volume", {"level": "30"})]), "name", 0, 1),
        ([VOLUME], format_calls([ToolCall("set_volume", {"level": True})]), "name", 0, 1),
        ([VOLUME], format_calls([ToolCall("set_volume", {"level": 30, "muted": False})]), "name", 1, 1),
        ([ALARM], format_calls([ToolCall("set_alarm", {"time": "07:30"})]), "name", 1, 2),
        ([ALARM], format_calls([ALARM, ALARM]), "", 2, 2),
        ([ALARM, ALARM], format_calls([ALARM]), "", 2, 4),
        ([ALARM], format_calls([VOLUME]), "", 0, 2),
        ([ALARM, VOLUME], format_calls([ALARM]), "", 2, 3),
        ([ALARM], "At what time?", "missed_call", 0, 2),
        ([ALARM], "", "missed_call", 0, 2),
        ([ALARM], format_calls([ALARM]) + "<tool_call>", "missed_call malformed", 0, 2),
        ([], "At what time?", "", 0, 0),
        ([], "Sure. " + format_calls([LOCK]), "false_call", 0, 0),
        ([], "<tool_call>{</tool_call>", "malformed", 0, 0),
    ],
)
def test_one_completion(wanted, text, flags, right, total):
    assert verdict(example(*wanted, reply=None if wanted else "At what time?"), text) == (flags, right, total)


def case(due: bool, **flags) -> CaseVerdict:
    values = dict.fromkeys(("exact_call", "name", "false_call", "missed_call", "malformed"), False)
    return CaseVerdict(
        **({"id": "x", "has_target_calls": due, "argument_right": 0, "argument_total": 0} | values | flags)
    )


def test_every_rate_counts_the_rows_it_concerns():
    scores = accuracy(
        [
            case(True, exact_call=True, name=True, argument_right=2, argument_total=2),
            case(True, name=True, argument_right=1, argument_total=4),
            case(True, missed_call=True, malformed=True, argument_total=1),
            case(False),
            case(False, false_call=True),
        ]
    )
    assert (scores.exact_call.value, scores.exact_call.n) == (pytest.approx(1 / 3), 3)
    assert (scores.name.value, scores.name.n) == (pytest.approx(2 / 3), 3)
    assert (scores.argument.value, scores.argument.n) == (pytest.approx(3 / 7), 7)
    assert (scores.false_call.value, scores.false_call.n) == (pytest.approx(1 / 2), 2)
    assert (scores.missed_call.value, scores.missed_call.n) == (pytest.approx(1 / 3), 3)
    assert (scores.malformed.value, scores.malformed.n) == (pytest.approx(1 / 5), 5)


def test_rates_carry_wilsons_interval_over_their_own_n():
    scores = accuracy([case(True, exact_call=True, argument_right=1, argument_total=3)] * 4)
    assert (scores.exact_call.low, scores.exact_call.high) == wilson(4, 4)
    assert (scores.argument.low, scores.argument.high) == wilson(4, 12)


def test_a_rate_of_no_case_is_zero_and_knows_nothing():
    assert rate(0, 0) == Rate(0.0, 0, 0.0, 1.0)
    assert accuracy([]).exact_call == Rate(0.0, 0, 0.0, 1.0)


CALLS = st.lists(
    st.builds(ToolCall, st.sampled_from("fg"), st.dictionaries(st.sampled_from("ab"), st.integers(0, 2))),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(CALLS, st.randoms(use_true_random=False))
def test_the_order_of_parallel_calls_does_not_count(calls, random):
    shuffled = random.sample(calls, len(calls))
    judged = judge(example(*calls), format_calls(shuffled))
    assert judged.exact_call
    assert judged.argument_right == judged.argument_total


@settings(deadline=None)
@given(CALLS, CALLS)
def test_exact_calls_have_right_names_and_arguments(predicted, wanted):
    judged = judge(example(*wanted), format_calls(predicted))
    assert judged.name or not judged.exact_call
    assert judged.argument_right == judged.argument_total or not judged.exact_call
    assert judged.argument_right <= judged.argument_total


@settings(deadline=None)
@given(st.text(st.characters()))
def test_any_text_is_judged(text):
    judge(example(ALARM), text)
    judge(example(reply="ok"), text)
