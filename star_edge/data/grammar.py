"""A synthetic request grammar: a YAML file that says which requests may be made of which tools.

The file is data; `star_edge.data.synth` turns it into rows. Its keys:

    name           source name of the rows
    rows           {train: N, heldout: N}
    shares         {irrelevant, parallel, missing}: shares of the rows; the rest are single calls
    tools_offered  list of counts, one of which is drawn for each row
    wrapped_share  share of the wrappable requests that a wrapper is put around
    wrappers       {train, heldout}: texts with {request}, or {Request} to begin it with a capital
    joins          {train, heldout}: texts with {first} and {second}, for parallel calls
    values         NAME: {train, heldout[, free_text: true]}: what may fill a slot, spoken as it is passed on
    tools          NAME: description, parameters (JSON Schema properties), required, values (PARAMETER: value list),
                   phrases, missing ({parameter, ask, phrases}); optional: similar (tools not offered when a request
                   for this one is to be refused), repeats (false: no parallel calls of this tool alone)
    irrelevant     answer, not_offered (share that asks for a tool which is not offered), phrases off every topic

`phrases` is {train, heldout}. A phrase is a text with {parameter} slots, or {say: text, with: {parameter: constant}};
in `irrelevant` the slots are names of value lists. A phrase that begins with a lower-case letter is an imperative and
may be wrapped and joined; any other stands as it is. Nothing is put behind a phrase that ends with a free-text slot.
Phrases, wrappers, joins and values of the two sides must differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from star_edge.contracts import Tool
from star_edge.errors import DataError

Side = Literal["train", "heldout"]
SIDES: tuple[Side, Side] = ("train", "heldout")
Value: TypeAlias = str | int | float | bool

_SLOT = re.compile(r"\{(\w+)\}")
_TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}


@dataclass(frozen=True, slots=True)
class ValueList:
    """What a slot may hold on each side."""

    sides: Mapping[Side, tuple[Value, ...]]
    is_free_text: bool


@dataclass(frozen=True, slots=True)
class Phrase:
    """One way to ask: `slots` maps slot names to value list names, `constants` are arguments the words imply."""

    text: str
    slots: Mapping[str, str]
    constants: Mapping[str, Value]
    ends_open: bool

    @property
    def is_imperative(self) -> bool:
        """True when other words may be put before it."""
        return self.text[0].islower()


Phrases: TypeAlias = Mapping[Side, tuple[Phrase, ...]]


@dataclass(frozen=True, slots=True)
class MissingParameter:
    """Requests that leave out a required parameter, and the question that answers them."""

    ask: str
    phrases: Phrases


@dataclass(frozen=True, slots=True)
class ToolGrammar:
    """One tool, and how people ask for it."""

    tool: Tool
    phrases: Phrases
    missing: tuple[MissingParameter, ...]
    similar: frozenset[str]
    repeats: bool

    @property
    def name(self) -> str:
        return str(self.tool["name"])


@dataclass(frozen=True, slots=True)
class Grammar:
    """The whole file, checked."""

    name: str
    rows: Mapping[Side, int]
    shares: Mapping[str, float]
    tools_offered: tuple[int, ...]
    wrapped_share: float
    wrappers: Mapping[Side, tuple[str, ...]]
    joins: Mapping[Side, tuple[str, ...]]
    values: Mapping[str, ValueList]
    tools: tuple[ToolGrammar, ...]
    refusal: str
    not_offered_share: float
    off_topic: Phrases


def read_spec(path: Path) -> dict[str, Any]:
    """The mapping in a grammar file.

    Raises: DataError: no such file, not YAML, or not a mapping.
    """
    try:
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot read ({error.strerror or error}); check the recipe's `synth:`") from error
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
    return _Reader(where).grammar(spec)


class _Reader:
    """Walks the spec and knows the file's name for the error line."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.values: dict[str, ValueList] = {}

    def fail(self, key: str, problem: str) -> DataError:
        return DataError(f"{self.where}: {key}: {problem}")

    def get(self, mapping: Any, key: str, kind: type | tuple[type, ...], at: str = "", default: Any = None) -> Any:
        path = f"{at}.{key}" if at else key
        value = mapping.get(key, default) if isinstance(mapping, Mapping) else None
        if value is None:
            raise self.fail(path, "missing")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.fail(path, f"has the wrong type ({type(value).__name__})")
        return value

    def known(self, mapping: Mapping[str, Any], keys: str, at: str) -> None:
        for key in mapping:
            if key not in keys.split():
                raise self.fail(f"{at}.{key}" if at else str(key), f"unknown key; known are {', '.join(keys.split())}")

    def share(self, mapping: Any, key: str, at: str = "") -> float:
        value = float(self.get(mapping, key, (int, float), at))
        if not 0.0 <= value <= 1.0:
            raise self.fail(f"{at}.{key}" if at else key, f"{value} is not a share between 0 and 1")
        return value

    def sides(self, pair: Mapping[str, Any], path: str) -> dict[Side, list[Any]]:
        """The train and the held-out list of a pair; both non-empty, nothing in both."""
        both = {side: list(self.get(pair, side, list, path)) for side in SIDES}
        for side, items in both.items():
            if not items:
                raise self.fail(f"{path}.{side}", "is empty")
        said = {side: {_said(item) for item in items} for side, items in both.items()}
        if shared := said["train"] & said["heldout"]:
            raise self.fail(f"{path}.heldout", f"{min(shared)!r} is also in train; held-out entries must be new")
        return both

    def grammar(self, spec: Mapping[str, Any]) -> Grammar:
        self.known(spec, "name rows shares tools_offered wrapped_share wrappers joins values tools irrelevant", "")
        shares = self.get(spec, "shares", dict)
        self.known(shares, "irrelevant parallel missing", "shares")
        for name, entry in self.get(spec, "values", dict).items():
            self.values[name] = self.value_list(entry, f"values.{name}")
        tools = tuple(self.tool(name, entry) for name, entry in self.get(spec, "tools", dict).items())
        irrelevant = self.get(spec, "irrelevant", dict)
        self.known(irrelevant, "answer not_offered phrases", "irrelevant")
        grammar = Grammar(
            name=self.get(spec, "name", str),
            rows={side: self.get(self.get(spec, "rows", dict), side, int, "rows") for side in SIDES},
            shares={key: self.share(shares, key, "shares") for key in ("irrelevant", "parallel", "missing")},
            tools_offered=self.counts(spec, len(tools)),
            wrapped_share=self.share(spec, "wrapped_share"),
            wrappers=self.texts(spec, "wrappers", (("request",), ("Request",))),
            joins=self.texts(spec, "joins", (("first", "second"),)),
            values=self.values,
            tools=tools,
            refusal=self.get(irrelevant, "answer", str, "irrelevant"),
            not_offered_share=self.share(irrelevant, "not_offered", "irrelevant"),
            off_topic=self.phrases(irrelevant, "irrelevant", {name: name for name in self.values}),
        )
        self.check_whole(grammar)
        return grammar

    def check_whole(self, grammar: Grammar) -> None:
        if sum(grammar.shares.values()) > 1.0:
            raise self.fail("shares", "add up to more than 1")
        if grammar.shares["missing"] and not any(tool.missing for tool in grammar.tools):
            raise self.fail("shares.missing", "no tool has a `missing` list")
        names = {tool.name for tool in grammar.tools}
        for tool in grammar.tools:
            if unknown := tool.similar - names:
                raise self.fail(f"tools.{tool.name}.similar", f"{min(unknown)!r} is not a tool of this grammar")
            if len(names - tool.similar - {tool.name}) < max(grammar.tools_offered):
                raise self.fail(f"tools.{tool.name}.similar", "leaves too few tools to offer when this one is refused")

    def counts(self, spec: Mapping[str, Any], tools: int) -> tuple[int, ...]:
        counts = tuple(self.get(spec, "tools_offered", list))
        if not counts or not all(isinstance(count, int) and 2 <= count < tools for count in counts):
            raise self.fail(
                "tools_offered", f"must list whole numbers from 2 to {tools - 1}, one less than there are tools"
            )
        return counts

    def texts(
        self, spec: Mapping[str, Any], key: str, wanted: tuple[tuple[str, ...], ...]
    ) -> dict[Side, tuple[str, ...]]:
        both = self.sides(self.get(spec, key, dict), key)
        for side, items in both.items():
            for index, text in enumerate(items):
                if not isinstance(text, str) or tuple(_SLOT.findall(text)) not in wanted:
                    slots = " or ".join(" ".join(f"{{{slot}}}" for slot in slots) for slots in wanted)
                    raise self.fail(f"{key}.{side}[{index}]", f"must be a text with {slots}")
        return {side: tuple(both[side]) for side in SIDES}

    def value_list(self, entry: Any, at: str) -> ValueList:
        if not isinstance(entry, Mapping):
            raise self.fail(at, "must be a mapping with train and heldout")
        self.known(entry, "train heldout free_text", at)
        both = self.sides(entry, at)
        return ValueList({side: tuple(both[side]) for side in SIDES}, bool(entry.get("free_text", False)))

    def tool(self, name: str, entry: Any) -> ToolGrammar:
        at = f"tools.{name}"
        if not isinstance(entry, Mapping):
            raise self.fail(at, "must be a mapping")
        self.known(entry, "description parameters required values phrases missing similar repeats", at)
        properties = self.get(entry, "parameters", dict, at)
        required = self.get(entry, "required", list, at)
        for parameter in required:
            if parameter not in properties:
                raise self.fail(f"{at}.required", f"{parameter!r} is not a parameter")
        slots = self.get(entry, "values", dict, at)
        self.check_slots(slots, properties, f"{at}.values")
        parameters = {"type": "object", "properties": properties, "required": required}
        tool: Tool = {"name": name, "description": self.get(entry, "description", str, at), "parameters": parameters}
        phrases = self.phrases(entry, at, slots, properties)
        self.check_complete(phrases, required, at)
        missing = [
            self.missing(item, f"{at}.missing[{i}]", slots, properties)
            for i, item in enumerate(entry.get("missing", []))
        ]
        repeats = self.get(entry, "repeats", bool, at, default=True)
        return ToolGrammar(tool, phrases, tuple(missing), frozenset(entry.get("similar", [])), repeats)

    def check_slots(self, slots: Mapping[str, str], properties: Mapping[str, Any], at: str) -> None:
        for parameter, name in slots.items():
            if parameter not in properties:
                raise self.fail(f"{at}.{parameter}", "is not a parameter of this tool")
            if name not in self.values:
                raise self.fail(f"{at}.{parameter}", f"no value list {name!r} under `values`")
            for side in SIDES:
                for value in self.values[name].sides[side]:
                    self.check_value(value, properties[parameter], f"values.{name}.{side}")

    def check_value(self, value: Any, schema: Mapping[str, Any], at: str) -> None:
        kind = schema.get("type", "string")  # an enum may go without a type; ours are words
        is_stray_bool = isinstance(value, bool) and kind != "boolean"
        if kind not in _TYPES or not isinstance(value, _TYPES[kind]) or is_stray_bool:
            raise self.fail(at, f"{value!r} is no {kind} (YAML reads a bare on, off, yes or no as a boolean)")
        if "enum" in schema and value not in schema["enum"]:
            raise self.fail(at, f"{value!r} is not one of the parameter's enum values")

    def phrases(
        self, entry: Mapping[str, Any], at: str, slots: Mapping[str, str], properties: Mapping[str, Any] | None = None
    ) -> dict[Side, tuple[Phrase, ...]]:
        both = self.sides(self.get(entry, "phrases", dict, at), f"{at}.phrases")
        return {
            side: tuple(
                self.phrase(item, f"{at}.phrases.{side}[{index}]", slots, properties or {})
                for index, item in enumerate(both[side])
            )
            for side in SIDES
        }

    def phrase(self, item: Any, at: str, slots: Mapping[str, str], properties: Mapping[str, Any]) -> Phrase:
        constants: Mapping[str, Any] = item.get("with", {}) if isinstance(item, Mapping) else {}
        text = item.get("say") if isinstance(item, Mapping) else item
        if not isinstance(text, str) or not text:
            raise self.fail(at, "must be a text, or {say: text, with: {parameter: constant}}")
        for parameter, value in constants.items():
            self.check_value(value, properties.get(parameter, {"type": "none"}), f"{at}.with.{parameter}")
        used = _SLOT.findall(text)
        for slot in used:
            if slot not in slots or slot in constants or used.count(slot) > 1:
                raise self.fail(at, f"slot {{{slot}}} is unknown, used twice, or also a constant")
        last = used[-1] if used and text.endswith("}") else None
        ends_open = last is not None and self.values[slots[last]].is_free_text
        return Phrase(text, {slot: slots[slot] for slot in used}, dict(constants), ends_open)

    def check_complete(self, phrases: Phrases, required: list[str], at: str) -> None:
        for side in SIDES:
            for index, phrase in enumerate(phrases[side]):
                for parameter in required:
                    if parameter not in phrase.slots and parameter not in phrase.constants:
                        raise self.fail(f"{at}.phrases.{side}[{index}]", f"says nothing of the required {parameter!r}")

    def missing(self, item: Any, at: str, slots: Mapping[str, str], properties: Mapping[str, Any]) -> MissingParameter:
        parameter = self.get(item, "parameter", str, at)
        self.known(item, "parameter ask phrases", at)
        if parameter not in properties:
            raise self.fail(f"{at}.parameter", f"{parameter!r} is not a parameter of this tool")
        phrases = self.phrases(item, at, slots, properties)
        if any(
            parameter in phrase.slots or parameter in phrase.constants for side in SIDES for phrase in phrases[side]
        ):
            raise self.fail(f"{at}.phrases", f"one of them states {parameter!r}, which they should leave out")
        return MissingParameter(self.get(item, "ask", str, at), phrases)


def _said(item: Any) -> str:
    """What two entries are compared by: their words, without case."""
    return str(item.get("say") if isinstance(item, Mapping) else item).casefold()
