from __future__ import annotations

import pytest
from hypothesis import given, settings
from reward_rows import CALLS, GARBAGE, TOOLS, target_of

from star_edge.calls.parse import format_calls
from star_edge.contracts import ToolCall
from star_edge.rl.rewards.binary import binary

DUE = target_of([ToolCall("f", {"a": 5}), ToolCall("g", {})])
REPLY = {"role": "assistant", "content": "None of these tools can do that."}


@pytest.mark.parametrize(
    ("completion", "target", "reward"),
    [
        (format_calls([ToolCall("g", {}), ToolCall("f", {"a": 5.0})]), DUE, 1.0),
        (format_calls([ToolCall("g", {}), ToolCall("f", {"a": "5"})]), DUE, 0.0),
        (format_calls([ToolCall("f", {"a": 5})]), DUE, 0.0),
        ("I will.", DUE, 0.0),
        ("", DUE, 0.0),
        ("<tool_call>{", DUE, -1.0),
        ("Sorry.", REPLY, 1.0),
        (" <|im_end|>", REPLY, 0.0),
        (format_calls([ToolCall("g", {})]), REPLY, 0.0),
        ("<tool_call>{", REPLY, -1.0),
    ],
)
def test_only_right_answers_are_paid(completion, target, reward):
    assert binary(completion, target, TOOLS) == reward


@settings(deadline=None)
@given(GARBAGE, GARBAGE, CALLS)
def test_any_text_gets_one_of_three_rewards(completion, reply, calls):
    for target in ({"role": "assistant", "content": reply}, target_of(calls)):
        assert binary(completion, target, TOOLS) in (-1.0, 0.0, 1.0)
