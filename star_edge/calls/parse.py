"""Text to calls and back: the Hermes `<tool_call>` form, read strictly for scores, leniently for diagnosis.

Strict means: every `<tool_call>` opens a block, wherever it stands; a block holds one JSON object with a string
`name` and `arguments` (an object, or a JSON string of one), and one unreadable block makes the whole completion
malformed. A tag inside a JSON string opens and closes nothing, because the object is read before its closing tag
is looked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from star_edge.calls import strict_json
from star_edge.contracts import ParsedCompletion, ToolCall

OPEN_TAG = "<tool_call>"
CLOSE_TAG = "</tool_call>"

# Runtimes differ in whether they hand the end token back as text.
END_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|end|>", "<end_of_turn>", "</s>")

# A lenient look at a page of broken JSON must not take a second.
_MAX_ATTEMPTS = 200


def parse_completion(text: str) -> ParsedCompletion:
    """Read a completion strictly; never raises on any string.

    Returns: the calls in order and the text outside their blocks as `reply`, white space and end tokens stripped;
        when a block cannot be read, no call, an empty reply and `error`.
    """
    text = strip_end_tokens(text)
    calls: list[ToolCall] = []
    outside: list[str] = []
    position = 0
    while (opened := text.find(OPEN_TAG, position)) >= 0:
        outside.append(text[position:opened])
        try:
            call, position = _read_block(text, opened + len(OPEN_TAG))
        except ValueError as error:
            return ParsedCompletion((), "", f"call {len(calls) + 1} at character {opened}: {error}")
        calls.append(call)
    outside.append(text[position:])
    return ParsedCompletion(tuple(calls), "".join(outside).strip())


def format_calls(calls: Sequence[ToolCall]) -> str:
    """The canonical text of calls, one block each, as the Hermes template prints them."""
    return "\n".join(f"{OPEN_TAG}\n{_call_json(call)}\n{CLOSE_TAG}" for call in calls)


def parse_lenient(text: str) -> tuple[ToolCall, ...]:
    """Any call that can be made out: blocks, fenced or bare JSON objects, lists of them. For diagnosis, never scores.

    `parameters` is taken for `arguments`, and a `function` wrapper is opened.
    """
    strict = parse_completion(text)
    if strict.calls:
        return strict.calls
    return tuple(call for value in _json_values(text) for call in _lenient_calls(value))


def strip_end_tokens(text: str) -> str:
    """The text without white space around it and without end-of-turn tokens behind it."""
    end = len(text)
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        token = next((token for token in END_TOKENS if text.endswith(token, 0, end)), None)
        if token is None:
            return text[:end].lstrip()
        end -= len(token)


def as_call(value: Any) -> ToolCall:
    """A decoded block as a call.

    Raises: ValueError: not an object with a string `name` and `arguments` that are an object or a JSON string of one.
    """
    if not isinstance(value, dict):
        raise ValueError("the block is not a JSON object")
    name, arguments = value.get("name"), value.get("arguments")
    if not isinstance(name, str):
        raise ValueError("the block has no string 'name'")
    if isinstance(arguments, str):
        arguments = strict_json.loads(arguments)
    if not isinstance(arguments, dict):
        raise ValueError("'arguments' is not an object")
    return ToolCall(name, arguments)


def _read_block(text: str, start: int) -> tuple[ToolCall, int]:
    """The call whose block content starts at `start`, and the index behind the block."""
    value, end = strict_json.read_value(text, start)
    call = as_call(value)
    end = strict_json.skip_whitespace(text, end)
    if end == len(text):
        return call, end
    if not text.startswith(CLOSE_TAG, end):
        raise ValueError("the block holds more than one JSON object")
    return call, end + len(CLOSE_TAG)


def _call_json(call: ToolCall) -> str:
    return json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)


_JSON_START = re.compile(r"\[\s*\{|\{")


def _json_values(text: str) -> Iterator[Any]:
    position = 0
    for _ in range(_MAX_ATTEMPTS):
        start = _JSON_START.search(text, position)
        if start is None:
            return
        try:
            value, position = strict_json.read_value(text, start.start())
        except ValueError:
            position = start.start() + 1
        else:
            yield value


def _lenient_calls(value: Any) -> Iterator[ToolCall]:
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, dict):
            continue
        inner = item["function"] if isinstance(item.get("function"), Mapping) else item
        arguments = inner.get("arguments", inner.get("parameters"))
        try:
            yield as_call({"name": inner.get("name"), "arguments": arguments})
        except ValueError:
            continue
