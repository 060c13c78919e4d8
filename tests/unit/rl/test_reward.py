"""Rewards by name: the one function for all kinds, TRL's form of it, and what importing it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import get_args

import pytest
from reward_rows import TOOLS, target_of

from star_edge.calls.parse import format_calls
from star_edge.contracts import RewardKind, ToolCall
from star_edge.errors import DataError, TrainingError
from star_edge.rl.reward import REWARDS, score, trl_reward


def test_bad_arguments_are_refused():
    with pytest.raises(TrainingError, match="unknown reward 'moon'; known: star"):
        score("", {}, [], kind="moon")
    with pytest.raises(TrainingError, match="unknown reward 'moon'"):
        trl_reward("moon")
    with pytest.raises(DataError):
        score(format_calls([ToolCall("f", {})]), {"tool_calls": [{"arguments": {}}]}, TOOLS)


def test_trl_gets_one_number_a_row_from_objects_or_json_columns():
    reward = trl_reward("star")
    calls = [ToolCall("f", {"a": "x"})]
    completions = [
        format_calls(calls),
        [{"role": "assistant", "content": format_calls(calls)}],
        [{"role": "assistant", "content": None, "tool_calls": target_of(calls)["tool_calls"]}],
        "no",
    ]
    target, tools = target_of(calls), TOOLS
    rows = {
        "prompts": ["p"] * 4,
        "completions": completions,
        "target": [target, json.dumps(target), target, json.dumps(target)],
        "tools": [tools, json.dumps(tools), tools, json.dumps(tools)],
        "completion_ids": [[1]] * 4,
    }
    assert reward(**rows) == [1.0, 1.0, 1.0, 0.0]
    assert reward.__name__ == "star_reward"


def of_message(kind, **message):
    target = target_of([ToolCall("f", {"a": "x"})])
    return trl_reward(kind)(
        prompts=["p"], completions=[[{"role": "assistant", **message}]], target=[target], tools=[TOOLS]
    )


@pytest.mark.parametrize("kind", REWARDS)
@pytest.mark.parametrize(
    "message",
    [
        {"tool_calls": [{"name": 3, "arguments": {}}]},
        {"tool_calls": [{"function": {"name": "f", "arguments": '{"a": '}}]},
        {"tool_calls": [{"function": "f"}]},
        {"tool_calls": ["f"]},
        {"tool_calls": 3},
        {"tool_calls": [{"name": "f", "arguments": {"a": {1, 2}}}]},
        {"content": 3},
        {"content": [3]},
        {"content": [{"type": "text", "text": 3}]},
    ],
)
def test_messages_that_cannot_be_read_are_malformed(kind, message):
    assert of_message(kind, **message) == [-1.0]


@pytest.mark.parametrize("kind", REWARDS)
def test_text_parts_of_a_message_are_joined(kind):
    call = format_calls([ToolCall("f", {"a": "x"})])
    parts = [{"type": "text", "text": call[:20]}, {"type": "text", "text": call[20:]}, {"type": "image"}]
    assert of_message(kind, content=parts) == [1.0]
    assert of_message(kind, content=[call]) == [1.0]


@pytest.mark.parametrize("kind", REWARDS)
def test_every_reward_can_be_asked_for_by_name(kind):
    calls = [ToolCall("f", {"a": "x"})]
    assert score(format_calls(calls), target_of(calls), TOOLS, kind=kind) == 1.0
    assert score("<tool_call>{", target_of(calls), TOOLS, kind=kind) == -1.0
    assert trl_reward(kind).__name__ == f"{kind}_reward"


def test_recipes_may_name_exactly_these_rewards():
    assert set(get_args(RewardKind)) == set(REWARDS)


@pytest.mark.parametrize("package", ["torch", "nltk", "rouge_score", "scipy"])
def test_importing_the_rewards_does_not_load(package):
    code = f"import sys, star_edge.rl.reward; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
