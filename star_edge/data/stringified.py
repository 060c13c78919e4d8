"""Values as strings: numbers, truth values, lists and objects that a function wants in a string, as JSON.

Many functions are declared so. A model that saw none of them writes a list where the schema says string.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Mapping
from typing import Any

from star_edge.contracts import Example, Tool
from star_edge.data.draws import draws
from star_edge.data.rewriting import with_arguments, with_clause

_TYPES = frozenset({"integer", "number", "boolean", "array", "object"})
# Another rule (enum, default, a range) would not hold for the string, and the keys of an object would be lost.
_PLAIN_KEYS = frozenset({"type", "description", "items"})
_CLAUSES = (", as a JSON {type} in a string", " (JSON {type} in string representation)", ", written as text: {type}")


def stringified(example: Example, *, share: float, seed: int) -> Example:
    """The row with strings for the other values of its functions, or the very row when it is not drawn or has none.

    All described parameters of all offered tools that are no strings take part, called or not: they must not tell which
    one to call. Calls change alike, earlier ones too: `5.0`, `true`, `["a"]` become `"5"`, `"true"` and `"[\\"a\\"]"`;
    what is a string already stays. Schemas with rules or with names of keys stay, for the string's would say less.

    Args:
        share: of the rows that are drawn, in [0, 1].
    """
    rng = draws(seed, "strings", example.id)
    if rng.random() >= share:
        return example
    names = {tool["name"]: _convertible(tool) for tool in example.tools}
    if not any(names.values()):
        return example

    def written(function: str, parameter: str, value: Any) -> Any:
        return _text(value) if parameter in names.get(function, ()) else value

    return dataclasses.replace(
        example,
        messages=tuple(with_arguments(message, written) for message in example.messages),
        tools=tuple(_tool(tool, names[tool["name"]], rng) for tool in example.tools),
    )


def _convertible(tool: Tool) -> frozenset[str]:
    properties = tool["parameters"].get("properties", {})
    return frozenset(name for name, schema in properties.items() if _is_plain(schema))


def _is_plain(schema: Any) -> bool:
    return (
        isinstance(schema, Mapping)
        and schema.keys() <= _PLAIN_KEYS
        and isinstance(schema.get("type"), str)
        and schema["type"] in _TYPES
        and bool(schema.get("description"))
        and set(schema.get("items") or ()) <= {"type"}
    )


def _tool(tool: Tool, names: frozenset[str], rng: random.Random) -> Tool:
    if not names:
        return tool
    clause = rng.choice(_CLAUSES)
    properties = {
        name: _described(schema, clause) if name in names else schema
        for name, schema in tool["parameters"]["properties"].items()
    }
    return {**tool, "parameters": {**tool["parameters"], "properties": properties}}


def _described(schema: Mapping[str, Any], clause: str) -> dict[str, Any]:
    return {"type": "string", "description": with_clause(schema["description"], clause.format(type=schema["type"]))}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(_short(value), ensure_ascii=False)


def _short(value: Any) -> Any:
    """The value with whole numbers as people write them: 100 for 100.0, which are equal as numbers, not as strings."""
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_short(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
