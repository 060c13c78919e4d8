"""Rows, calls, and what a model said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]


Tool: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One function call; `arguments` keeps JSON types (`"7"` is not `7`) and key order."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """A completion as the strict reader sees it: calls, or a reply, or an error that says why neither."""

    calls: tuple[ToolCall, ...]
    reply: str
    error: str | None = None

    @property
    def is_malformed(self) -> bool:
        """True when a call block was there but could not be read."""
        return self.error is not None


@dataclass(frozen=True, slots=True)
class Example:
    """One row: messages in canonical form (the last is the assistant turn to be learnt) and tools.

    A tool is `{"name", "description", "parameters"}` with JSON Schema parameters; a call in a message's
    `tool_calls` is `{"name", "arguments"}` with an object as arguments.
    """

    id: str
    source: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    kind: str = ""

    @property
    def prompt(self) -> tuple[Message, ...]:
        return self.messages[:-1]

    @property
    def target(self) -> Message:
        return self.messages[-1]

    @property
    def has_answer(self) -> bool:
        """False for a prompt, whose assistant turn is empty."""
        return bool(self.target.get("tool_calls") or self.target.get("content"))

    @property
    def target_calls(self) -> tuple[ToolCall, ...]:
        calls = self.target.get("tool_calls") or ()
        return tuple(ToolCall(call["name"], call["arguments"]) for call in calls)


@dataclass(frozen=True, slots=True)
class Generation:
    """What one model said to one prompt, greedily, with what it cost.

    `token_ids` are the generated tokens, the end token left out; `stopped` is False when the length limit cut it.
    Times are 0.0 where they were not measured.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    stopped: bool = True
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
