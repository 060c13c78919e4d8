"""Function masking: names replaced by random strings, so that the model reads descriptions.

Source: Hammer (arXiv 2410.04587), which masks function and parameter names of a share of the training rows.
"""

from __future__ import annotations

import dataclasses
import random
import string
from collections.abc import Mapping, Sequence
from typing import Any

from star_edge.contracts import Example, Message, Tool
from star_edge.data.draws import draws

_PLAIN_KEYS = frozenset({"type", "properties", "required", "description", "title"})
_SHORTEST, _LONGEST = 5, 9


def masked(example: Example, *, share: float, seed: int) -> Example:
    """The row under random names of functions and parameters, or the very row when it is not drawn.

    The names change alike in tools, calls and tool results, earlier turns included; descriptions, the names inside
    nested objects and all other text stay. A row keeps its names when they cannot be told apart otherwise: a tool or
    parameter has no description of its own, a name of several words occurs in the text, or a schema names parameters
    elsewhere.

    Args:
        share: of the rows that are drawn, in [0, 1].
    """
    rng = draws(seed, "masking", example.id)
    if rng.random() >= share or not example.tools or not _can_be_masked(example):
        return example
    used: set[str] = set()
    names = {tool["name"]: _fresh(rng, used) for tool in example.tools}
    parameters = {
        tool["name"]: {name: _fresh(rng, used) for name in tool["parameters"].get("properties", {})}
        for tool in example.tools
    }
    return dataclasses.replace(
        example,
        messages=tuple(_message(message, names, parameters) for message in example.messages),
        tools=tuple(_tool(tool, names, parameters) for tool in example.tools),
    )


def _can_be_masked(example: Example) -> bool:
    text = "\n".join(message["content"] for message in example.messages)
    if any(_has_words(tool["name"]) and tool["name"] in text for tool in example.tools):
        return False
    return _tells_apart(example.tools) and all(map(_tells_parameters_apart, example.tools))


def _tells_parameters_apart(tool: Tool) -> bool:
    schemas = list(tool["parameters"].get("properties", {}).values())
    is_plain = tool["parameters"].keys() <= _PLAIN_KEYS and all(isinstance(schema, Mapping) for schema in schemas)
    return is_plain and _tells_apart(schemas)


def _tells_apart(described: Sequence[Mapping[str, Any]]) -> bool:
    """True when each has a description, and one of its own."""
    texts = (each.get("description") for each in described)
    return len({text for text in texts if text and isinstance(text, str)}) == len(described)


def _has_words(name: str) -> bool:
    """`set_alarm`, `setAlarm` and `alarm.set` name a function wherever they stand; `alarm` may be just a word."""
    return not (name.isalpha() and name[1:].islower())


def _fresh(rng: random.Random, used: set[str]) -> str:
    while True:
        letters = rng.choices(string.ascii_letters + string.digits, k=rng.randint(_SHORTEST, _LONGEST) - 1)
        name = rng.choice(string.ascii_letters) + "".join(letters)
        if name not in used:
            used.add(name)
            return name


def _tool(tool: Tool, names: Mapping[str, str], parameters: Mapping[str, Mapping[str, str]]) -> Tool:
    new = parameters[tool["name"]]
    schema: dict[str, Any] = dict(tool["parameters"])
    if "properties" in schema:
        schema["properties"] = {new[name]: value for name, value in schema["properties"].items()}
    if "required" in schema:
        schema["required"] = [new.get(name, name) for name in schema["required"]]
    return {**tool, "name": names[tool["name"]], "parameters": schema}


def _message(message: Message, names: Mapping[str, str], parameters: Mapping[str, Mapping[str, str]]) -> Message:
    changed = dict(message)
    if message.get("name") in names:
        changed["name"] = names[message["name"]]
    if "tool_calls" in message:
        changed["tool_calls"] = [_call(call, names, parameters) for call in message["tool_calls"]]
    return changed


def _call(
    call: Mapping[str, Any], names: Mapping[str, str], parameters: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    new = parameters.get(call["name"], {})
    arguments = {new.get(name, name): value for name, value in call["arguments"].items()}
    return {"name": names.get(call["name"], call["name"]), "arguments": arguments}
