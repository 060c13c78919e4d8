"""Raw tools and calls to canonical ones: flat, with parameters in JSON Schema.

Data sets describe parameters in many hands: JSON Schema, a bare `{name: {"type", ...}}` mapping, and types
written as Python (`List[int]`, `str, optional`, `float = 3`) or Java. All become JSON Schema here, once.
"""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from typing import Any

from star_edge.calls import strict_json
from star_edge.calls.type_hints import TypeHint, read_type
from star_edge.contracts import Tool, ToolCall
from star_edge.errors import DataError

MAX_DEPTH = 32

_LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS_OF_SCHEMAS = ("$defs", "definitions", "patternProperties")


def normalise_tools(raw: Any, *, known: dict[bytes, Tool] | None = None) -> tuple[Tool, ...]:
    """Every tool of a list (None is none), in order.

    Args:
        known: tools read so far by their bytes, added to: files offer the same tools again and again, and equal ones
            then are one object, which saves most of the time and the memory. Nothing may write into such a tool.
    Raises: DataError: not a list, a tool that cannot be read, or two tools of one name.
    """
    if raw is None:
        return ()
    if not isinstance(raw, list | tuple):
        raise DataError(f"tools must be a list, not {type(raw).__name__}")
    tools = tuple(normalise_tool(tool) if known is None else _once(tool, known) for tool in raw)
    names = [tool["name"] for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"tool {name!r} is offered twice; names must differ")
    return tools


def _once(raw: Any, known: dict[bytes, Tool]) -> Tool:
    # Quicker than JSON, and never read back. Version 2 has no references, so that equal tools have equal bytes.
    key = marshal.dumps(raw, 2)
    if key not in known:
        known[key] = normalise_tool(raw)
    return known[key]


def normalise_tool(raw: Any) -> Tool:
    """One tool, flat or wrapped in `function`, as `{"name", "description", "parameters"}`; other keys are dropped.

    Raises: DataError: no name, or parameters that are not a schema.
    """
    flat = _unwrapped(raw, "tool")
    name = flat.get("name")
    if not isinstance(name, str) or not name:
        raise DataError("a tool needs a 'name' (a string)")
    description = flat.get("description")
    if description is not None and not isinstance(description, str):
        raise DataError(f"tool {name!r}: 'description' must be a string")
    try:
        parameters = _parameters(flat.get("parameters"))
    except ValueError as error:
        raise DataError(f"tool {name!r}: {error}") from error
    return {"name": name, "description": description or "", "parameters": parameters}


def normalise_call(raw: Any) -> ToolCall:
    """One call, flat or wrapped in `function`; arguments as an object, a JSON string of one, or nothing at all.

    Raises: DataError: no name, or arguments that are not an object.
    """
    flat = _unwrapped(raw, "call")
    name = flat.get("name")
    if not isinstance(name, str) or not name:
        raise DataError("a call needs a 'name' (a string)")
    arguments = flat.get("arguments")
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        arguments = {}
    if isinstance(arguments, str):
        try:
            arguments = strict_json.loads(arguments)
        except ValueError as error:
            raise DataError(f"call {name!r}: arguments are not JSON: {error}") from error
    if not isinstance(arguments, Mapping):
        raise DataError(f"call {name!r}: arguments must be an object, not {type(arguments).__name__}")
    return ToolCall(name, dict(arguments))


def _unwrapped(raw: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise DataError(f"a {what} must be an object, not {type(raw).__name__}")
    inner = raw.get("function", raw)
    if not isinstance(inner, Mapping):
        raise DataError(f"a {what}'s 'function' must be an object, not {type(inner).__name__}")
    return inner


def _parameters(raw: Any) -> dict[str, Any]:
    """The parameters of a tool: nothing, a JSON Schema object, or a bare mapping of parameter to schema."""
    if raw is None or raw == {}:
        return {"type": "object", "properties": {}}
    if not isinstance(raw, Mapping):
        raise ValueError(f"'parameters' must be an object, not {type(raw).__name__}")
    if isinstance(raw.get("properties"), Mapping):
        schema, _ = _schema({"type": "object", **raw}, "parameters", 0)
    elif _is_schema(raw):
        schema, _ = _schema({**raw, "properties": {}}, "parameters", 0)
    else:
        schema = _from_bare_mapping(raw)
    if schema.get("type") != "object":
        raise ValueError("'parameters' must describe an object")
    return schema


def _is_schema(raw: Mapping[str, Any]) -> bool:
    """`{"type": "object"}` alone is a schema without properties; a parameter may itself be called `type`."""
    kind = raw.get("type")
    has_parameters = any(isinstance(value, Mapping) for value in raw.values())
    return isinstance(kind, str) and not has_parameters and read_type(kind).schema.get("type") == "object"


def _from_bare_mapping(raw: Mapping[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, value in raw.items():
        properties[name], hint = _schema(value, name, 1)
        if not hint.optional and "default" not in properties[name]:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required}


def _schema(raw: Any, where: str, depth: int) -> tuple[dict[str, Any], TypeHint]:
    """A schema with its types in JSON Schema's words, and what its type hint said besides."""
    if depth > MAX_DEPTH:
        raise ValueError(f"parameter {where!r} nests deeper than {MAX_DEPTH}")
    if isinstance(raw, str):
        raw = {"type": raw}
    if not isinstance(raw, Mapping):
        raise ValueError(f"parameter {where!r} must be a schema, not {type(raw).__name__}")
    schema: dict[str, Any] = {}
    hint = TypeHint({})
    for key, value in raw.items():
        if key == "type":
            hint = _type_hint(value, where)
            schema.update({k: v for k, v in hint.schema.items() if k == "type" or k not in raw})
        elif key == "properties":
            schema[key], wanted = _properties(value, where, depth)
            if wanted is not None and not isinstance(raw.get("required"), list):
                schema["required"] = wanted
        elif not (key in ("required", "optional") and (value is None or isinstance(value, bool))):
            schema[key] = _keyword(key, value, where, depth)
    optional = hint.optional or raw.get("optional") is True or raw.get("required") is False
    return schema, TypeHint(hint.schema, optional)


def _properties(raw: Any, where: str, depth: int) -> tuple[dict[str, Any], list[str] | None]:
    """Schemas of the properties, and which are required when the properties themselves say so (else None)."""
    if not isinstance(raw, Mapping):
        raise ValueError(f"'properties' of {where!r} must be an object, not {type(raw).__name__}")
    schemas: dict[str, Any] = {}
    wanted: list[str] = []
    says_so = False
    for name, value in raw.items():
        schemas[name], hint = _schema(value, name, depth + 1)
        flag = value.get("required") if isinstance(value, Mapping) else None
        says_so = says_so or hint.optional or isinstance(flag, bool)
        if not hint.optional and "default" not in schemas[name]:
            wanted.append(name)
    return schemas, wanted if says_so else None


def _keyword(key: str, value: Any, where: str, depth: int) -> Any:
    if key in ("items", "additionalProperties", "not") and isinstance(value, Mapping | str):
        return _schema(value, where, depth + 1)[0]
    if key == "required" and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        raise ValueError(f"'required' of {where!r} must be a list of names, not {_shown(value)}")
    if key in _LISTS_OF_SCHEMAS:
        if not isinstance(value, list):
            raise ValueError(f"{key!r} of {where!r} must be a list of schemas, not {_shown(value)}")
        return [_schema(item, where, depth + 1)[0] for item in value]
    if key in _MAPS_OF_SCHEMAS and isinstance(value, Mapping):
        return {name: _schema(item, name, depth + 1)[0] for name, item in value.items()}
    return value


def _shown(value: Any) -> str:
    return repr(value)[:40]


def _type_hint(raw: Any, where: str) -> TypeHint:
    if isinstance(raw, list):
        hints = [_type_hint(item, where) for item in raw]
        names = [hint.schema["type"] for hint in hints if "type" in hint.schema]
        return TypeHint({"type": names} if names else {}, any(hint.optional for hint in hints))
    if not isinstance(raw, str):
        raise ValueError(f"the type of parameter {where!r} must be a string, not {type(raw).__name__}")
    try:
        return read_type(raw)
    except ValueError as error:
        raise ValueError(f"parameter {where!r}: {error}") from error
