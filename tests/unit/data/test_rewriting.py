"""Clauses behind descriptions, and other arguments in calls."""

from __future__ import annotations

import pytest

from star_edge.data.rewriting import with_arguments, with_clause


@pytest.mark.parametrize(
    ("description", "changed"), [("A day", "A day, soon"), ("A day. ", "A day, soon."), ("A day?", "A day?, soon")]
)
def test_a_clause_stands_before_the_full_stop(description: str, changed: str) -> None:
    assert with_clause(description, ", soon") == changed


def test_every_value_of_every_call_is_changed_by_its_function_and_name() -> None:
    calls = [{"name": name, "arguments": {"a": 1, "b": 2}} for name in ("f", "g")]
    message = {"role": "assistant", "content": "x", "tool_calls": calls}
    changed = with_arguments(message, lambda *told: told)
    assert changed["content"] == "x"
    assert [call["arguments"] for call in changed["tool_calls"]] == [
        {"a": (name, "a", 1), "b": (name, "b", 2)} for name in ("f", "g")
    ]
    assert calls[0]["arguments"] == {"a": 1, "b": 2}


def test_a_message_without_calls_is_the_very_message() -> None:
    message = {"role": "user", "content": "x"}
    assert with_arguments(message, lambda *told: told) is message
