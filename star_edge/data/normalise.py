"""Raw rows to `Example`: OpenAI-style messages and tools, flat or wrapped, or Hermes text, into one canonical form.

Canonical messages hold `role` and `content` (a string), an assistant's calls as `tool_calls` of
`{"name", "arguments"}`, and a tool result's `name` where there is one. A `<think>` block at the start of an
assistant's turn is left out, for thinking is off everywhere, and so is white space around the turn.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from star_edge.calls import strict_json
from star_edge.calls.parse import OPEN_TAG, parse_completion
from star_edge.calls.schema import normalise_call, normalise_tools
from star_edge.contracts import Example, Message, Tool, ToolCall
from star_edge.data.sources import BadRow, read_rows
from star_edge.errors import DataError

_ROLES = {"developer": "system", "function": "tool"}
_THINKING = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)
_TOOL_RESPONSE = re.compile(r"\A\s*<tool_response>\n?(.*?)\n?</tool_response>\s*\Z", re.DOTALL)


def normalise_row(raw: Mapping[str, Any], *, where: str, known: dict[bytes, Tool] | None = None) -> Example:
    """One row as an `Example`; keys that mean nothing to us are dropped.

    Args:
        raw: `messages` (the last one the assistant's), `tools` (a list, a JSON string of one, or absent), and
            optionally `id`, `source`, `kind`.
        where: file and line; begins the error line and stands in for a missing `id` or `source`.
        known: tools of the rows before, as `normalise_tools` has it.
    Raises: DataError: the row cannot be used, with the reason.
    """
    try:
        tools = _tools(raw.get("tools"), known)
        messages = _messages(raw.get("messages"), 2, "a request and the assistant's answer")
        _check_target(messages[-1], tools)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    return _example(raw, messages, tools, where)


def normalise_prompt(raw: Mapping[str, Any], *, where: str, known: dict[bytes, Tool] | None = None) -> Example:
    """A prompt without an answer as an `Example` whose last turn, the assistant's, is empty.

    Raises: DataError: the row cannot be used, or has an answer, with the reason.
    """
    try:
        tools = _tools(raw.get("tools"), known)
        messages = _messages(raw.get("messages"), 1, "a request")
        if messages[-1]["role"] not in ("user", "tool"):
            raise DataError(f"a prompt without an answer ends with the user's turn, not the {messages[-1]['role']}'s")
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    return _example(raw, (*messages, {"role": "assistant", "content": ""}), tools, where)


def _example(raw: Mapping[str, Any], messages: tuple[Message, ...], tools: tuple[Tool, ...], where: str) -> Example:
    file = PurePath(where).name
    return Example(
        id=_text_or(raw.get("id"), file),
        source=_text_or(raw.get("source"), file.split(".")[0]),
        messages=messages,
        tools=tools,
        kind=_text_or(raw.get("kind"), ""),
    )


def read_normalised(path: Path) -> Iterator[tuple[int, Example | BadRow]]:
    """Yield (line number from 1, example or bad row) of a JSONL file.

    Raises: DataError: no such file, or a damaged one.
    """
    return _read(path, normalise_row)


def read_prompts(path: Path) -> Iterator[tuple[int, Example | BadRow]]:
    """As `read_normalised`, of prompts without an answer."""
    return _read(path, normalise_prompt)


def _read(path: Path, normalise: Callable[..., Example]) -> Iterator[tuple[int, Example | BadRow]]:
    known: dict[bytes, Tool] = {}
    for line, row in read_rows(path):
        where = f"{path}:{line}"
        if isinstance(row, BadRow):
            yield line, row
            continue
        try:
            yield line, normalise(row, where=where, known=known)
        except DataError as error:
            yield line, BadRow(str(path), line, str(error).removeprefix(f"{where}: "))


def read_evaluation(path: Path) -> tuple[list[Example], list[str]]:
    """The usable rows of a JSONL file in any accepted format, each under an id of its own, and a line per bad row.

    Raises: DataError: no such file, or a damaged one.
    """
    return _sorted_out(read_normalised(path))


def read_unlabelled(path: Path) -> tuple[list[Example], list[str]]:
    """As `read_evaluation`, of prompts without an answer."""
    return _sorted_out(read_prompts(path))


def _sorted_out(rows: Iterator[tuple[int, Example | BadRow]]) -> tuple[list[Example], list[str]]:
    good: list[Example] = []
    bad: list[str] = []
    ids: set[str] = set()
    for _, row in rows:
        if isinstance(row, BadRow):
            bad.append(str(row))
        else:
            good.append(with_new_id(row, ids))
    return good, bad


def refuse_bad(path: Path, good: Sequence[Example], bad: Sequence[str], *, remedy: str) -> None:
    """Stop at bad rows.

    Raises: DataError: the first reason, how many there are, and the remedy.
    """
    if bad:
        raise DataError(f"{bad[0]}; {len(bad)} of {len(good) + len(bad)} rows of {path} are bad: {remedy}")


def with_new_id(example: Example, ids: set[str]) -> Example:
    """The example under an id that is not in `ids`, where it is added: answers are kept by id."""
    new, number = example.id, 1
    while new in ids:
        number += 1
        new = f"{example.id}~{number}"
    ids.add(new)
    return example if new == example.id else dataclasses.replace(example, id=new)


def _text_or(value: Any, fallback: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return fallback
    return str(value)


def _tools(raw: Any, known: dict[bytes, Tool] | None) -> tuple[Tool, ...]:
    if isinstance(raw, str):
        try:
            raw = strict_json.loads(raw) if raw.strip() else None
        except ValueError as error:
            raise DataError(f"'tools' is a string that is not JSON ({error})") from error
    return normalise_tools(raw, known=known)


def _messages(raw: Any, least: int, what: str) -> tuple[Message, ...]:
    if not isinstance(raw, list) or len(raw) < least:
        raise DataError(f"'messages' must be a list of at least {what}")
    messages = []
    for index, message in enumerate(raw):
        try:
            messages.append(_message(message))
        except DataError as error:
            raise DataError(f"messages[{index}]: {error}") from error
    return tuple(messages)


def _message(raw: Any) -> Message:
    if not isinstance(raw, Mapping):
        raise DataError(f"a message must be an object, not {type(raw).__name__}")
    role = _ROLES.get(str(raw.get("role")), raw.get("role"))
    if role == "assistant":
        return _assistant(raw)
    if role == "tool":
        return _tool_result(raw)
    if role not in ("system", "user"):
        raise DataError(f"unknown role {role!r}; known are system, user, assistant, tool")
    if raw.get("content") is None:
        raise DataError(f"a {role} message needs 'content'")
    return {"role": role, "content": _text(raw["content"])}


def _assistant(raw: Mapping[str, Any]) -> Message:
    text = _THINKING.sub("", _text(raw.get("content") or "")).strip()
    listed = raw.get("tool_calls") or []
    if not isinstance(listed, list):
        raise DataError(f"'tool_calls' must be a list, not {type(listed).__name__}")
    calls = [normalise_call(call) for call in listed]
    if OPEN_TAG in text:
        if calls:
            raise DataError("calls both in 'tool_calls' and as <tool_call> text; keep one")
        text, calls = _hermes(text)
    message: Message = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [{"name": call.name, "arguments": dict(call.arguments)} for call in calls]
    return message


def _hermes(text: str) -> tuple[str, list[ToolCall]]:
    parsed = parse_completion(text)
    if parsed.is_malformed:
        raise DataError(f"<tool_call> text that cannot be read: {parsed.error}")
    return parsed.reply, list(parsed.calls)


def _tool_result(raw: Mapping[str, Any]) -> Message:
    """A tool's result as text; templates put their own `<tool_response>` round it."""
    content = raw.get("content")
    text = _text(content) if isinstance(content, str) or _is_parts(content) else json.dumps(content, ensure_ascii=False)
    inner = _TOOL_RESPONSE.match(text)
    message: Message = {"role": "tool", "content": inner[1] if inner and "<tool_response>" not in inner[1] else text}
    if isinstance(raw.get("name"), str):
        message["name"] = raw["name"]
    return message


def _is_parts(content: Any) -> bool:
    return bool(content) and isinstance(content, list) and all(isinstance(p, Mapping) and "type" in p for p in content)


def _text(content: Any) -> str:
    """A string, or OpenAI's list of text parts joined."""
    if isinstance(content, str):
        return content
    if not _is_parts(content):
        raise DataError(f"'content' must be a string or a list of text parts, not {type(content).__name__}")
    if any(part["type"] != "text" or not isinstance(part.get("text"), str) for part in content):
        raise DataError("'content' holds a part that is not text")
    return "".join(part["text"] for part in content)


def _check_target(target: Message, tools: tuple[Tool, ...]) -> None:
    """The turn to be learnt says something, and calls nothing that was not offered."""
    if target["role"] != "assistant":
        raise DataError(f"the last message must be the assistant's, not the {target['role']}'s")
    calls = target.get("tool_calls", [])
    if not calls and not target["content"].strip():
        raise DataError("the last message has neither calls nor text")
    offered = {tool["name"] for tool in tools}
    for call in calls:
        if call["name"] not in offered:
            raise DataError(f"the answer calls {call['name']!r}, which is not among the tools")
