"""Reads and checks a grammar file; every error names the file and the key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml

from star_edge.contracts import Tool
from star_edge.data.grammar import (
    SIDES,
    Grammar,
    MissingParameter,
    Phrase,
    Phrases,
    Side,
    ToolGrammar,
    ValueList,
    slots_of,
)
from star_edge.errors import DataError

_TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}


def read_grammar(path: Path) -> dict[str, Any]:
    """The mapping in a grammar file.

    Raises: DataError: no such file, not YAML, or not a mapping.
    """
    try:
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot read ({error.strerror or error}); check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(spec, dict):
        raise DataError(f"{path}: expected a mapping with the keys name, rows, shares, values, tools, ...")
    return spec


def parse_grammar(spec: Mapping[str, Any], *, where: str = "grammar") -> Grammar:
    """Check a spec and make it a `Grammar`.

    Raises: DataError: names the file (`where`) and the key that is missing, unknown, of the wrong type, or the same on
        both sides.
    """
    root = _Node(where, "", spec)
    root.only("name rows shares tools_offered wrapped_share wrappers joins values tools irrelevant")
    values = {node.last: _value_list(node) for node in root.at("values", dict).children()}
    tools = tuple(_tool(node, values) for node in root.at("tools", dict).children())
    irrelevant = root.at("irrelevant", dict).only("answer not_offered phrases")
    names = {name: name for name in values}
    grammar = Grammar(
        name=root.at("name", str).value,
        rows={side: root.at("rows", dict).at(side, int).value for side in SIDES},
        shares=_shares(root.at("shares", dict), tools),
        tools_offered=_tools_offered(root.at("tools_offered", list), len(tools)),
        wrapped_share=root.at("wrapped_share", int, float).share(),
        wrappers=_patterns(root.at("wrappers", dict), ("request",), ("Request",)),
        joins=_patterns(root.at("joins", dict), ("first", "second")),
        values=values,
        tools=tools,
        refusal=irrelevant.at("answer", str).value,
        not_offered_share=irrelevant.at("not_offered", int, float).share(),
        off_topic=_phrases(irrelevant.at("phrases", dict), _Slots(names, values, {})),
    )
    _check_refusals(root.at("tools", dict), grammar)
    return grammar


class _Node:
    """One value of the spec, with the file and the key it came from."""

    def __init__(self, where: str, key: str, value: Any) -> None:
        self.where = where
        self.key = key
        self.value = value

    @property
    def last(self) -> str:
        return self.key.rsplit(".", 1)[-1]

    def fail(self, problem: str) -> NoReturn:
        raise DataError(f"{self.where}: {self.key or 'top level'}: {problem}")

    def child(self, name: str, value: Any) -> _Node:
        return _Node(self.where, f"{self.key}.{name}" if self.key else str(name), value)

    def at(self, name: str, *kinds: type, default: Any = None) -> _Node:
        """The value under a name, of one of the kinds; a boolean counts as no number."""
        if not isinstance(self.value, Mapping):
            self.fail("must be a mapping")
        node = self.child(name, self.value.get(name, default))
        if node.value is None:
            node.fail("missing")
        if not isinstance(node.value, kinds) or (isinstance(node.value, bool) and bool not in kinds):
            node.fail(
                f"must be of type {' or '.join(kind.__name__ for kind in kinds)}, not {type(node.value).__name__}"
            )
        return node

    def only(self, known: str) -> _Node:
        """The node itself, a mapping with no other keys than these."""
        if not isinstance(self.value, Mapping):
            self.fail("must be a mapping")
        for name in self.value:
            if name not in known.split():
                self.child(name, None).fail(f"unknown key; known are {', '.join(known.split())}")
        return self

    def children(self) -> Iterator[_Node]:
        """The entries of a mapping or a list."""
        if isinstance(self.value, Mapping):
            yield from (self.child(name, value) for name, value in self.value.items())
        else:
            yield from (_Node(self.where, f"{self.key}[{i}]", value) for i, value in enumerate(self.value))

    def share(self) -> float:
        if not 0.0 <= self.value <= 1.0:
            self.fail(f"{self.value} is not a share between 0 and 1")
        return float(self.value)

    def sides(self) -> dict[Side, _Node]:
        """The train and the held-out list; both hold something, and nothing is in both."""
        both = {side: self.at(side, list) for side in SIDES}
        for node in both.values():
            if not node.value:
                node.fail("is empty")
        said = {side: {_said(entry) for entry in node.value} for side, node in both.items()}
        if shared := said["train"] & said["heldout"]:
            both["heldout"].fail(f"{min(shared)!r} is also in train; held-out entries must be new")
        return both


class _Slots(NamedTuple):
    """What phrases may refer to: the value list of each slot, and the schemas that constants must fit."""

    lists: Mapping[str, str]
    values: Mapping[str, ValueList]
    properties: Mapping[str, Any]


def _said(entry: Any) -> str:
    """What two entries are compared by: their words, without case."""
    return str(entry.get("say") if isinstance(entry, Mapping) else entry).casefold()


def _shares(node: _Node, tools: tuple[ToolGrammar, ...]) -> dict[str, float]:
    node.only("irrelevant parallel missing")
    shares = {name: node.at(name, int, float).share() for name in ("irrelevant", "parallel", "missing")}
    if sum(shares.values()) > 1.0:
        node.fail("add up to more than 1")
    if shares["missing"] and not any(tool.missing for tool in tools):
        node.fail("missing is above 0, but no tool has a `missing` list")
    return shares


def _tools_offered(node: _Node, tools: int) -> tuple[int, ...]:
    if not node.value or not all(isinstance(count, int) and 2 <= count < tools for count in node.value):
        node.fail(f"must list whole numbers from 2 to {tools - 1}, one less than there are tools")
    return tuple(node.value)


def _patterns(node: _Node, *wanted: tuple[str, ...]) -> dict[Side, tuple[str, ...]]:
    """Texts around requests; each holds the slots of one of the wanted tuples."""
    both = node.sides()
    for side in SIDES:
        for entry in both[side].children():
            if not isinstance(entry.value, str) or slots_of(entry.value) not in wanted:
                entry.fail(
                    f"must be a text with {' or '.join(' '.join(f'{{{s}}}' for s in slots) for slots in wanted)}"
                )
    return {side: tuple(both[side].value) for side in SIDES}


def _value_list(node: _Node) -> ValueList:
    both = node.only("train heldout free_text").sides()
    is_free_text = node.at("free_text", bool, default=False).value
    return ValueList({side: tuple(both[side].value) for side in SIDES}, is_free_text)


def _tool(node: _Node, values: Mapping[str, ValueList]) -> ToolGrammar:
    node.only("description parameters required values phrases missing similar repeats")
    properties = node.at("parameters", dict).value
    required = node.at("required", list)
    for entry in required.children():
        if entry.value not in properties:
            entry.fail(f"{entry.value!r} is not a parameter")
    lists = node.at("values", dict)
    for entry in lists.children():
        _check_list(entry, properties, values)
    slots = _Slots(lists.value, values, properties)
    phrases = _phrases(node.at("phrases", dict), slots)
    for parameter in required.value:
        _check_stated(node.at("phrases", dict), phrases, parameter, stated=True)
    tool: Tool = {
        "name": node.last,
        "description": node.at("description", str).value,
        "parameters": {"type": "object", "properties": properties, "required": required.value},
    }
    missing = tuple(_missing(entry, slots) for entry in node.at("missing", list, default=[]).children())
    similar = frozenset(node.at("similar", list, default=[]).value)
    return ToolGrammar(tool, phrases, missing, similar, node.at("repeats", bool, default=True).value)


def _missing(node: _Node, slots: _Slots) -> MissingParameter:
    parameter = node.only("parameter ask phrases").at("parameter", str)
    if parameter.value not in slots.properties:
        parameter.fail(f"{parameter.value!r} is not a parameter of this tool")
    phrases = _phrases(node.at("phrases", dict), slots)
    _check_stated(node.at("phrases", dict), phrases, parameter.value, stated=False)
    return MissingParameter(node.at("ask", str).value, phrases)


def _phrases(node: _Node, slots: _Slots) -> dict[Side, tuple[Phrase, ...]]:
    both = node.sides()
    return {side: tuple(_phrase(entry, slots) for entry in both[side].children()) for side in SIDES}


def _phrase(node: _Node, slots: _Slots) -> Phrase:
    has_constants = isinstance(node.value, Mapping)
    text = node.only("say with").at("say", str).value if has_constants else node.value
    constants = node.at("with", dict, default={}) if has_constants else node.child("with", {})
    if not isinstance(text, str) or not text:
        node.fail("must be a text, or {say: text, with: {parameter: constant}}")
    for entry in constants.children():
        if entry.last not in slots.properties:
            entry.fail("is not a parameter of this tool")
        _check_value(entry, entry.value, slots.properties[entry.last])
    used = slots_of(text)
    for slot in used:
        if slot not in slots.lists or slot in constants.value or used.count(slot) > 1:
            node.fail(f"slot {{{slot}}} has no value list, is used twice, or is also a constant")
    ends_open = bool(used) and text.endswith("}") and slots.values[slots.lists[used[-1]]].is_free_text
    return Phrase(text, {slot: slots.lists[slot] for slot in used}, dict(constants.value), ends_open)


def _check_list(node: _Node, properties: Mapping[str, Any], values: Mapping[str, ValueList]) -> None:
    if node.last not in properties:
        node.fail("is not a parameter of this tool")
    if not isinstance(node.value, str) or node.value not in values:
        node.fail(f"no value list {node.value!r} under `values`")
    for side in SIDES:
        for value in values[node.value].sides[side]:
            _check_value(node, value, properties[node.last])


def _check_value(node: _Node, value: Any, schema: Mapping[str, Any]) -> None:
    if "enum" in schema and value not in schema["enum"]:
        node.fail(f"{value!r} is none of the parameter's enum values {schema['enum']}")
    kind = schema.get("type", "string" if isinstance(value, str) else "")
    is_stray_boolean = isinstance(value, bool) and kind != "boolean"
    if not isinstance(value, _TYPES.get(kind, ())) or is_stray_boolean:
        node.fail(f"{value!r} is not of type {kind or 'string'} (YAML reads a bare on, off, yes or no as a boolean)")


def _check_stated(node: _Node, phrases: Phrases, parameter: str, *, stated: bool) -> None:
    for side in SIDES:
        for entry, phrase in zip(node.at(side, list).children(), phrases[side], strict=True):
            if (parameter in phrase.slots or parameter in phrase.constants) != stated:
                entry.fail(f"{'leaves out the required' if stated else 'states'} {parameter!r}")


def _check_refusals(node: _Node, grammar: Grammar) -> None:
    """A refused request needs tools to offer that could not serve it."""
    names = {tool.name for tool in grammar.tools}
    for tool in grammar.tools:
        entry = node.at(tool.name, dict)
        if unknown := tool.similar - names:
            entry.child("similar", None).fail(f"{min(unknown)!r} is not a tool of this grammar")
        if len(names - tool.similar) <= max(grammar.tools_offered):
            entry.child("similar", None).fail("leaves too few tools to offer when this one is refused")
