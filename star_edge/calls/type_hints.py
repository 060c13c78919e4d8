"""Type hints as data sets write them (`List[int]`, `str, optional`, `float = 3`, `HashMap`) as JSON Schema."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

_NAMES = {
    "string": "str string char character text date time datetime timestamp duration uuid url uri email path file bytes"
    " callable function",
    "integer": "int integer long short byte bigint int32 int64 uint",
    "number": "float number double decimal numeric real complex",
    "boolean": "bool boolean",
    "array": "list array sequence tuple set frozenset iterable arraylist collection vector",
    "object": "dict object mapping map hashmap hashtable json record dictionary",
    "null": "none null nonetype",
}
_JSON_TYPES = {word: json_type for json_type, words in _NAMES.items() for word in words.split()}
_JSON_SCHEMA_TYPES = frozenset(_NAMES)
_ANYTHING = frozenset({"any", "typing.any", "unknown", ""})
_MAX_NESTING = 16


@dataclass(frozen=True, slots=True)
class TypeHint:
    """A JSON Schema fragment, and whether the hint called the parameter optional."""

    schema: dict[str, Any]
    optional: bool = False


def read_type(text: str) -> TypeHint:
    """Read one type hint.

    Returns: the schema fragment (`type`, and `items`, `anyOf`, `enum`, `default`, ... where the hint gives them).
    Raises: ValueError: a type of no known name, or brackets that do not close.
    """
    if text in _JSON_SCHEMA_TYPES:  # nearly every type of nearly every file
        return TypeHint({"type": text})
    body, _, default = _cut(text, "=")
    parts = [part.strip() for part in _split(body, ",")]
    schema, optional = _read(parts[0], 0)
    for part in parts[1:]:
        word = part.lower()
        if word.startswith("optional"):
            optional = True
        elif word.startswith("default"):
            default = default or part[len("default") :].lstrip(" :=s").removeprefix("to ")
        elif word not in ("required", ""):
            schema = _union([schema, _read(part, 0)[0]])
    if default.strip():
        schema = {**schema, "default": _literal(default)}
        optional = True
    return TypeHint(schema, optional)


def _read(text: str, depth: int) -> tuple[dict[str, Any], bool]:
    if depth > _MAX_NESTING:
        raise ValueError("type hint nests too deep")
    text = text.strip()
    alternatives = _split(text.replace(" or ", "|"), "|")
    if len(alternatives) > 1:
        return _read_union(alternatives, depth)
    head, bracket, rest = _cut(text.replace("<", "[").replace(">", "]"), "[")
    name = head.strip().lower().removeprefix("typing.")
    if not bracket:
        return _plain(name, text), False
    if not rest.rstrip().endswith("]"):
        raise ValueError(f"type {text[:40]!r} has an open bracket")
    inner = rest.rstrip()[:-1].strip()
    if name == "optional":
        return _read(inner, depth + 1)[0], True
    if name == "union":
        return _read_union(_split(inner, ","), depth)
    if name == "literal":
        return {"enum": [_literal(item) for item in _split(inner, ",")]}, False
    return _container(name, inner, text, depth), False


def _plain(name: str, text: str) -> dict[str, Any]:
    if name in _ANYTHING:
        return {}
    if name not in _JSON_TYPES:
        raise ValueError(f"unknown type {text[:40]!r}")
    return {"type": _JSON_TYPES[name]}


def _container(name: str, inner: str, text: str, depth: int) -> dict[str, Any]:
    schema = _plain(name, text)
    # `int[]` is Java's array of int; `[]` behind a container's name leaves its items open.
    if not inner:
        return {"type": "array", "items": schema} if schema.get("type") not in ("array", "object") else schema
    members = [part for part in _split(inner, ",") if part.strip() != "..."]
    if schema.get("type") == "array":
        items = _union([_read(member, depth + 1)[0] for member in members])
        return {**schema, "items": items} if items else schema
    if schema.get("type") == "object":
        values = _read(members[-1], depth + 1)[0] if len(members) == 2 else {}
        return {**schema, "additionalProperties": values} if values else schema
    return schema


def _read_union(alternatives: list[str], depth: int) -> tuple[dict[str, Any], bool]:
    schemas = [_read(alternative, depth + 1)[0] for alternative in alternatives]
    known = [schema for schema in schemas if schema != {"type": "null"}]
    return _union(known), len(known) < len(schemas)


def _union(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    different = [schema for position, schema in enumerate(schemas) if schema not in schemas[:position]]
    if len(different) == 1:
        return different[0]
    if not all(different):
        return {}
    if all(set(schema) == {"type"} for schema in different):
        return {"type": [schema["type"] for schema in different]}
    return {"anyOf": different}


def _literal(text: str) -> Any:
    """A default or enum value: a Python or JSON literal, or else the words as they stand."""
    text = text.strip()
    words = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, str | int | float | list | dict) else text


def _cut(text: str, mark: str) -> tuple[str, str, str]:
    """`str.partition` at the first mark outside brackets (the opening bracket itself counts as outside)."""
    depth = 0
    for position, character in enumerate(text):
        if character == mark and depth == 0:
            return text[:position], mark, text[position + 1 :]
        depth += (character in "[(<") - (character in "])>")
    return text, "", ""


def _split(text: str, mark: str) -> list[str]:
    parts = []
    while True:
        part, found, text = _cut(text, mark)
        parts.append(part)
        if not found:
            return parts
