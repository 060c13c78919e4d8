"""`typed`: similarity of calls by their schemas, so that right is above nearly right is above wrong.

The reward of a completion, with s(value, target) in [0, 1] the similarity of two values:

- The decision comes first. -1: malformed; no call where calls are due; a call, or nothing at all, where a reply is
  due. 1: any words where a reply is due. So holding back never pays more than the worst attempt.
- Calls where calls are due earn Σ c / (max(calls made but repeats, calls due) + 2 · repeats), over a one-to-one
  matching of calls of the same function: exact calls first, then the pairs with the largest sum. So the order of calls
  is free, an extra call and a missing one cost the same, and a call of the wrong function earns nothing but costs no
  more than leaving it out.
- A repeat is a call that is the same JSON as an earlier one, once it is made more often than the target makes it. It is
  in no pair, and doing a thing twice costs twice an extra call: leaving a repeat out always pays.
- One matched pair of calls earns c = ½ · (1 + Σ w s) / (1 + Σ w + Σ w' (1 - s')) + ½ · min(s, s'), with w and s of the
  target's parameters, w' and s' of extra ones. The share (its 1 is for the function's name) tells how much is right;
  extra parameters only ever take from it. The minimum says that a call with one wrong argument does the wrong thing
  however many others are right; without it that would cost less the more there are.
- A parameter of the target weighs 2 when its schema requires it, else 1. One that is missing has s = 0, as the
  worst value has: here too, holding back never pays more than an attempt. Only where an optional one's target is its
  schema's default, s = `NEAR`: the function cannot tell, but the exact-call score fills nothing in.
- An extra parameter has s' = `NEAR` when it is given its default, else 0. It weighs 1, required or not, for it is the
  target that left it out; one that the schema does not have weighs 2: it costs more, and not everything.

Values, with the schema's fragment for them:

- Numbers: equal or not, 1 == 1.0; but no number with a point fits a schema that says `integer`.
- Where the schema lists the values it takes (`enum`, `const`): `NEAR` for another spelling of the target's, else 0.
- 0 for true against false and for values of two types, but `NEAR` for a number and its text where the schema names
  both types.
- Strings: `rewards.text.string_similarity`.
- Objects: Σ w s / (Σ w + Σ w' (1 - s')) over their keys, as above, so that one wrong key costs its share.
- Arrays: similarity summed over the best alignment that keeps the order, over the longer length, so that one element
  missing in front does not shift all others out of place. Numbers and truth values are aligned whatever their number;
  of other elements, once equal ends are off, those of long arrays are paired by position, or only the equal ones
  aligned, whichever is more, and those of very long ones of arrays or objects only the latter (`_MOST_PAIRS_ALIGNED`).
  So the cost grows with the size, and not with its powers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from rapidfuzz.distance import LCSseq

from star_edge.calls.match import best_sum, same_value
from star_edge.calls.parse import parse_completion
from star_edge.calls.schema import normalise_call, normalise_tool
from star_edge.calls.strict_json import MAX_DEPTH
from star_edge.contracts import ToolCall
from star_edge.rl.rewards.text import NEAR, string_similarity

Schema: TypeAlias = Mapping[str, Any]

_REQUIRED = _UNKNOWN = 2.0
_OPTIONAL = _NAME = 1.0

_REPEAT = 2

# Pairs of elements, a few µs each, that comparing all calls of one function may look at for alignment's sake. Pairs of
# calls share them, and what an array takes, its elements' own arrays lack.
_MOST_PAIRS_ALIGNED = 128

_FROZEN = frozenset({int, str})
_COMPARED_BY_EQUALITY = frozenset({int, float, bool, type(None)})


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
    calls, repeats = _without_repeats(parsed.calls, wanted)
    letters = _Letters()
    earned = [_matched(calls, wanted, name, schemas.get(name, {}), letters) for name in {call.name for call in wanted}]
    return math.fsum(earned) / (max(len(calls), len(wanted)) + _REPEAT * repeats)


def _schemas(tools: Sequence[Mapping[str, Any]], names: set[str]) -> dict[str, Schema]:
    """The parameters' schema of each tool of these names."""
    named = [tool for tool in tools if (tool.get("function") or tool).get("name") in names]
    return {tool["name"]: tool["parameters"] for tool in map(normalise_tool, named)}


def _without_repeats(calls: Sequence[ToolCall], wanted: Sequence[ToolCall]) -> tuple[list[ToolCall], int]:
    """The calls, each as often as the target makes it and once at least, and how many were more than that."""
    if len(calls) == 1:
        return [*calls], 0
    allowed = Counter((call.name, _frozen(call.arguments, is_form_free=True)) for call in wanted)
    seen: Counter[Any] = Counter()
    kept = []
    # Of `5` and `5.0`, one call in two forms, the shorter is kept whichever comes first.
    for call in sorted(calls, key=lambda call: (len(repr(call.arguments)), repr(call.arguments))):
        key = (call.name, _frozen(call.arguments, is_form_free=True))
        seen[key] += 1
        if seen[key] <= max(allowed[key], 1):
            kept.append(call)
    return kept, len(calls) - len(kept)


def _matched(
    calls: Sequence[ToolCall], wanted: Sequence[ToolCall], name: str, schema: Schema, letters: _Letters
) -> float:
    """What the calls of one function earn: exact ones first, which saves comparing them with all others."""
    due = [call.arguments for call in wanted if call.name == name]
    keys = [_frozen(arguments) for arguments in due]
    exact, rest = 0, []
    for arguments in (call.arguments for call in calls if call.name == name):
        if (key := _frozen(arguments)) in keys:
            place = keys.index(key)
            del keys[place], due[place]
            exact += 1
        else:
            rest.append(arguments)
    if not rest or not due:
        return float(exact)
    scope = _Scope(_MOST_PAIRS_ALIGNED // (len(rest) * len(due)), letters)
    return exact + best_sum([[_call_similarity(one, other, schema, scope) for other in due] for one in rest])


def _call_similarity(arguments: Mapping[str, Any], wanted: Mapping[str, Any], schema: Schema, scope: _Scope) -> float:
    earned, due, least = _compare(arguments, wanted, schema, scope)
    return ((_NAME + earned) / (_NAME + due) + least) / 2


def _compare(
    value: Mapping[str, Any], wanted: Mapping[str, Any], schema: Schema, scope: _Scope
) -> tuple[float, float, float]:
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
            similarity = _similarity(value[key], wanted_value, inner, scope)
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
    if "default" not in schema:
        return 0.0
    return NEAR if _frozen(value, is_form_free=True) == _frozen(schema["default"], is_form_free=True) else 0.0


def _similarity(value: Any, wanted: Any, schema: Schema, scope: _Scope) -> float:
    fitting = _fitting(schema, wanted)
    if isinstance(value, str) and isinstance(wanted, str):
        if value == wanted:
            return 1.0
        similarity = string_similarity(value, wanted)
        return similarity if not _lists_values(fitting) or _can_only_mean(similarity, value, wanted, fitting) else 0.0
    if isinstance(value, dict) and isinstance(wanted, dict):
        earned, due, least = _compare(value, wanted, fitting, scope)
        return earned / due if wanted else least
    if isinstance(value, list) and isinstance(wanted, list):
        items = fitting.get("items")
        return _list_similarity(value, wanted, items if isinstance(items, Mapping) else {}, scope)
    if same_value(value, wanted):
        is_other_form = isinstance(value, float) and isinstance(wanted, int)
        return float(not is_other_form or not _takes_no_point(fitting))
    return NEAR if not _lists_values(fitting) and _is_number_for_text(value, wanted, schema) else 0.0


def _takes_no_point(schema: Schema) -> bool:
    return _types(schema) & {"integer", "number"} == {"integer"}


def _lists_values(schema: Schema) -> bool:
    return isinstance(schema.get("enum"), list) or "const" in schema


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


def _list_similarity(value: Sequence[Any], wanted: Sequence[Any], items: Schema, scope: _Scope) -> float:
    longest = max(len(value), len(wanted))
    if longest == 0:
        return 1.0
    types, wanted_types = scope.letters.types(value), scope.letters.types(wanted)
    if types | wanted_types <= _COMPARED_BY_EQUALITY:
        # A row that writes integers with a point is no reason to punish what fits the schema.
        is_form_free = float in wanted_types or not _takes_no_point(_fitting(items, 0))
        sides = [scope.letters.of(side, is_form_free=is_form_free) for side in (value, wanted)]
        return int(LCSseq.similarity(*sides)) / longest
    a, b = scope.letters.of(value), scope.letters.of(wanted)
    head = _equal_ahead(a, b)
    tail = _equal_ahead(a[head:][::-1], b[head:][::-1])
    left, wanted_left = slice(head, len(a) - tail), slice(head, len(b) - tail)
    value, wanted = value[left], wanted[wanted_left]
    pairs = len(value) * len(wanted)
    if pairs <= scope.room:
        matched = _best_alignment(value, wanted, items, scope._replace(room=scope.room // max(pairs, 1)))
    else:
        matched = float(LCSseq.similarity(a[left], b[wanted_left]))
        inside = scope._replace(room=scope.room // min(len(value), len(wanted)))
        if inside.room or types <= {str}:
            by_position = (_similarity(one, other, items, inside) for one, other in zip(value, wanted, strict=False))
            matched = max(matched, math.fsum(by_position))
    return (head + tail + matched) / longest


class _Letters:
    """Arrays as texts of a letter for each value, the same for equal ones; an array is written once a completion."""

    def __init__(self) -> None:
        self._letters: dict[Any, str] = {}
        # By identity, which holds while the calls are compared.
        self._written: dict[tuple[int, bool], str] = {}
        self._types: dict[int, set[type]] = {}

    def of(self, values: Sequence[Any], depth: int = 0, *, is_form_free: bool = False) -> str:
        place = (id(values), is_form_free)
        if place not in self._written:
            keys = values if self.types(values) <= _FROZEN else [self._key(one, depth, is_form_free) for one in values]
            self._written[place] = "".join([self._letters.setdefault(key, chr(len(self._letters))) for key in keys])
        return self._written[place]

    def _key(self, value: Any, depth: int, is_form_free: bool) -> Any:
        """As `_frozen`, with arrays by their text: otherwise each level of nesting would read all that are below."""
        if isinstance(value, list) and depth < MAX_DEPTH:
            return (list, self.of(value, depth + 1, is_form_free=is_form_free))
        if isinstance(value, dict) and depth < MAX_DEPTH:
            return frozenset((key, self._key(inner, depth + 1, is_form_free)) for key, inner in value.items())
        return _frozen(value, depth, is_form_free=is_form_free)

    def types(self, values: Sequence[Any]) -> set[type]:
        if id(values) not in self._types:
            self._types[id(values)] = set(map(type, values))
        return self._types[id(values)]


class _Scope(NamedTuple):
    """`room`: pairs of elements that a comparison may look at in each of its arrays, for alignment's sake."""

    room: int
    letters: _Letters


def _equal_ahead(a: str, b: str) -> int:
    """How many elements both begin with; an alignment loses nothing by pairing them."""
    return next((n for n, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b)))


def _best_alignment(value: Sequence[Any], wanted: Sequence[Any], items: Schema, scope: _Scope) -> float:
    """The largest sum of similarities over pairs whose order is that of both lists, a row of the table at a time."""
    row = [0.0] * (len(wanted) + 1)
    for item in value:
        above, row = row, [0.0]
        for column, other in enumerate(wanted):
            row.append(max(above[column + 1], row[column], above[column] + _similarity(item, other, items, scope)))
    return row[-1]


def _frozen(value: Any, depth: int = 0, *, is_form_free: bool = False) -> Any:
    """A hashable value, equal for equal JSON; `5` and `5.0` are told apart unless the form is free.

    What nests deeper than completions may, which a target's own values can, equals nothing.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, float):
        return value if is_form_free or not value.is_integer() else (float, value)
    if isinstance(value, dict | list) and depth >= MAX_DEPTH:
        return object()
    if isinstance(value, dict):
        items = value.items()
        return frozenset((key, _frozen(inner, depth + 1, is_form_free=is_form_free)) for key, inner in items)
    if isinstance(value, list):
        if set(map(type, value)) <= _FROZEN:  # nearly every array, several times as fast
            return tuple(value)
        return tuple([_frozen(inner, depth + 1, is_form_free=is_form_free) for inner in value])
    return value


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
