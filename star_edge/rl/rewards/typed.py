"""`typed`: similarity of calls by their schemas, so that right is above nearly right is above wrong.

The reward of a completion, with s(value, target) in [0, 1] the similarity of two values:

- The decision comes first. -1: malformed; no call where calls are due; a call, or nothing at all, where a reply is
  due. 1: any words where a reply is due. So holding back never pays more than the worst attempt.
- Calls where calls are due earn Σ c / max(calls made, calls due), over the one-to-one matching of calls of the same
  function with the largest sum. So the order of calls is free, an extra call and a missing one cost the same, and a
  call of the wrong function earns nothing but costs no more than leaving it out.
- One matched pair of calls earns c = ½ · (1 + Σ w s) / (1 + Σ w + Σ w' (1 - s')) + ½ · min(s, s'), with w and s of the
  target's parameters, w' and s' of extra ones. The share (its 1 is for the function's name) tells how much is right;
  extra parameters only ever take from it. The minimum says that a call with one wrong argument does the wrong thing
  however many others are right; without it that would cost less the more there are.
- A parameter weighs 2 when its schema requires it, else 1. One that is missing has s = 0, as the worst value has: here
  too, holding back never pays more than an attempt. Only where an optional one's target is its schema's default,
  s = `NEAR`: the function cannot tell, but the exact-call score fills nothing in.
- An extra parameter has s' = `NEAR` when it is given its default, else 0. One that the schema does not have weighs 2:
  it costs more than an extra that exists, and not everything.

Values, with the schema's fragment for them:

- Numbers: equal or not, 1 == 1.0; but no number with a point fits a schema that says `integer`.
- Where the schema lists the values it takes (`enum`, `const`): `NEAR` for another spelling of the target's, else 0.
- 0 for true against false and for values of two types, but `NEAR` for a number and its text where the schema names
  both types.
- Strings: `rewards.text.string_similarity`.
- Objects: Σ w s / (Σ w + Σ w' (1 - s')) over their keys, as above, so that one wrong key costs its share.
- Arrays: similarity summed over the best alignment that keeps the order, over the longer length, so that one element
  missing in front does not shift all others out of place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from star_edge.calls.match import best_sum, same_value
from star_edge.calls.parse import parse_completion
from star_edge.calls.schema import normalise_call, normalise_tool
from star_edge.contracts import ToolCall
from star_edge.rl.rewards.text import NEAR, string_similarity

Schema: TypeAlias = Mapping[str, Any]

_REQUIRED = _UNKNOWN = 2.0
_OPTIONAL = _NAME = 1.0

# Alignment costs the product of the lengths; longer arrays, once their equal ends are off, go by position.
_MOST_PAIRS_ALIGNED = 1024


def typed(completion: str, target: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> float:
    """The reward as the module defines it: 1 for the target itself, and for nothing that is not the same JSON.

    Raises: DataError: the target's calls, or a tool that they name, cannot be read.
    """
    parsed = parse_completion(completion)
    wanted = [normalise_call(call) for call in target.get("tool_calls") or ()]
    if not wanted:
        return 1.0 if parsed.reply and not parsed.calls else -1.0
    if not parsed.calls:
        return -1.0
    schemas = _schemas(tools, {call.name for call in wanted})
    gains = [[_call_similarity(call, other, schemas.get(other.name, {})) for other in wanted] for call in parsed.calls]
    return best_sum(gains) / max(len(parsed.calls), len(wanted))


def _schemas(tools: Sequence[Mapping[str, Any]], names: set[str]) -> dict[str, Schema]:
    """The parameters' schema of each tool of these names."""
    named = [tool for tool in tools if (tool.get("function") or tool).get("name") in names]
    return {tool["name"]: tool["parameters"] for tool in map(normalise_tool, named)}


def _call_similarity(call: ToolCall, wanted: ToolCall, schema: Schema) -> float:
    if call.name != wanted.name:
        return 0.0
    earned, due, least = _compare(call.arguments, wanted.arguments, schema)
    return ((_NAME + earned) / (_NAME + due) + least) / 2


def _compare(value: Mapping[str, Any], wanted: Mapping[str, Any], schema: Schema) -> tuple[float, float, float]:
    """What the keys of an object earn together, what there was to earn, and the least similarity of any."""
    properties = schema.get("properties") or {}
    required = schema.get("required") or ()
    # An object whose schema names no properties takes any; the one of a tool always names them.
    takes_any = "properties" not in schema or bool(schema.get("additionalProperties"))
    similarities, earned, due = [1.0], [], []
    for key, wanted_value in wanted.items():
        weight = _REQUIRED if key in required else _OPTIONAL
        inner = properties.get(key, {})
        if key in value:
            similarity = _similarity(value[key], wanted_value, inner)
        else:
            similarity = 0.0 if key in required else _as_default(wanted_value, inner)
        similarities.append(similarity)
        earned.append(weight * similarity)
        due.append(weight)
    for key in value.keys() - wanted.keys():
        weight = _OPTIONAL if key in properties or takes_any else _UNKNOWN
        similarities.append(_as_default(value[key], properties.get(key, {})))
        due.append(weight * (1 - similarities[-1]))
    # fsum rounds once, so that the order of keys changes nothing at all.
    return math.fsum(earned), math.fsum(due), min(similarities)


def _as_default(value: Any, schema: Schema) -> float:
    """The similarity of a value and what the function takes where none is given."""
    return NEAR if "default" in schema and same_value(value, schema["default"]) else 0.0


def _similarity(value: Any, wanted: Any, schema: Schema) -> float:
    fitting = _fitting(schema, wanted)
    if isinstance(value, str) and isinstance(wanted, str):
        if value == wanted:
            return 1.0
        similarity = string_similarity(value, wanted)
        return similarity if not _lists_values(fitting) or _can_only_mean(similarity, value, wanted, fitting) else 0.0
    if isinstance(value, dict) and isinstance(wanted, dict):
        earned, due, least = _compare(value, wanted, fitting)
        return earned / due if wanted else least
    if isinstance(value, list) and isinstance(wanted, list):
        items = fitting.get("items")
        return _list_similarity(value, wanted, items if isinstance(items, Mapping) else {})
    if same_value(value, wanted):
        is_other_form = isinstance(value, float) and isinstance(wanted, int)
        return float(not is_other_form or _types(fitting) & {"integer", "number"} != {"integer"})
    return NEAR if not _lists_values(fitting) and _is_number_for_text(value, wanted, schema) else 0.0


def _lists_values(schema: Schema) -> bool:
    return "enum" in schema or "const" in schema


def _can_only_mean(similarity: float, value: str, wanted: str, schema: Schema) -> bool:
    """True when only spelling differs, and the schema does not list both spellings as two values."""
    listed = schema.get("enum")
    are_both_listed = isinstance(listed, list) and value in listed and wanted in listed
    return similarity >= NEAR and not are_both_listed


def _is_number_for_text(value: Any, wanted: Any, schema: Schema) -> bool:
    """A number and its text, either way round, where the schema names both types."""
    types = _types(schema)
    if "string" not in types or not types & {"integer", "number"}:
        return False
    is_pair = {_type(value), _type(wanted)} in ({"string", "integer"}, {"string", "number"})
    return is_pair and string_similarity(str(value), str(wanted)) >= NEAR


def _list_similarity(value: Sequence[Any], wanted: Sequence[Any], items: Schema) -> float:
    longest = max(len(value), len(wanted))
    if longest == 0:
        return 1.0
    head = _equal_ahead(value, wanted, items)
    value, wanted = value[head:], wanted[head:]
    tail = _equal_ahead(value[::-1], wanted[::-1], items)
    value, wanted = value[: len(value) - tail], wanted[: len(wanted) - tail]
    if len(value) * len(wanted) > _MOST_PAIRS_ALIGNED:
        matched = math.fsum(_similarity(a, b, items) for a, b in zip(value, wanted, strict=False))
    else:
        matched = _best_alignment(value, wanted, items)
    return (head + tail + matched) / longest


def _equal_ahead(a: Sequence[Any], b: Sequence[Any], items: Schema) -> int:
    """How many elements both begin with; an alignment loses nothing by pairing them."""
    shorter = min(len(a), len(b))
    return next((n for n in range(shorter) if _similarity(a[n], b[n], items) < 1.0), shorter)


def _best_alignment(value: Sequence[Any], wanted: Sequence[Any], items: Schema) -> float:
    """The largest sum of similarities over pairs whose order is that of both lists, a row of the table at a time."""
    row = [0.0] * (len(wanted) + 1)
    for item in value:
        above, row = row, [0.0]
        for column, other in enumerate(wanted):
            row.append(max(above[column + 1], row[column], above[column] + _similarity(item, other, items)))
    return row[-1]


def _type(value: Any) -> str:
    """The JSON Schema type of a JSON value; a number without a fraction is an integer."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if isinstance(value, int) or value.is_integer() else "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def _types(schema: Schema) -> set[str]:
    """The types a schema names, its alternatives' included."""
    named = schema.get("type")
    types = {named} if isinstance(named, str) else set(named or ())
    return types.union(*map(_types, _alternatives(schema)))


def _fitting(schema: Schema, wanted: Any) -> Schema:
    """The alternative of the target's type, where a schema has alternatives."""
    if "anyOf" not in schema and "oneOf" not in schema:
        return schema
    kinds = {_type(wanted)} | ({"number"} if _type(wanted) == "integer" else set())
    return next((option for option in _alternatives(schema) if _types(option) & kinds), schema)


def _alternatives(schema: Schema) -> list[Schema]:
    options = [*(schema.get("anyOf") or ()), *(schema.get("oneOf") or ())]
    return [option for option in options if isinstance(option, Mapping)]
