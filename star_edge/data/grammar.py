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
from typing import Literal, TypeAlias

from star_edge.contracts import Tool

Side = Literal["train", "heldout"]
SIDES: tuple[Side, Side] = ("train", "heldout")
Value: TypeAlias = str | int | float | bool

_SLOT = re.compile(r"\{(\w+)\}")


def slots_of(text: str) -> tuple[str, ...]:
    """Names of the slots in a text, in order."""
    return tuple(_SLOT.findall(text))


def fill(text: str, values: Mapping[str, Value]) -> str:
    """The text with its slots filled."""
    return _SLOT.sub(lambda match: str(values[match[1]]), text)


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
