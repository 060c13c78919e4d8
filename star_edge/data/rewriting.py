"""Changing what a row says of parameters: a clause behind a description, other arguments in every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from star_edge.contracts import Message


def with_clause(description: str, clause: str) -> str:
    """The description with a clause at its end; a full stop stays the last sign."""
    words = description.rstrip()
    return words.removesuffix(".") + clause + ("." if words.endswith(".") else "")


def with_arguments(message: Message, change: Callable[[str, str, Any], Any]) -> Message:
    """The message with the values that `change` gives for function, parameter and value of its calls."""
    if not message.get("tool_calls"):
        return message
    calls = [
        {**call, "arguments": {name: change(call["name"], name, value) for name, value in call["arguments"].items()}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}
