"""Rows that a model writes: a call of a given function, and what a person would have said to get exactly that call.

The model is shown some functions with a call and a request each, of rows that are there, and goes on for a function of
a pool: arguments first, then the words. A pair is kept when the arguments fit the function's schema and the words say
every value, so that the call can be read off them; what cannot be checked so is dropped, right or not.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from star_edge.calls import strict_json
from star_edge.contracts import Example, Tool
from star_edge.data.draws import draws
from star_edge.data.quota import kind_of

SOURCE = "written"
SHOTS = 3
LONGEST_SHOT = 700  # characters of a shown function and its request: three fit beside the one that is asked for
SHORTEST_REQUEST, LONGEST_REQUEST = 12, 400
_ANSWER = re.compile(r"\s*Arguments:\s*(?=\{)")
_PERSON = re.compile(r"\s*Person:\s*(\S[^\n]*)")
_SIZES = (2, 2, 3, 4)  # calls of a joined row
_JOINED = ("{0} Also, {1}", "{0} And then: {1}", "{0}\n{1}", "First: {0} Second: {1}", "{0} After that, {1}")


@dataclass(frozen=True, slots=True)
class Shot:
    """A function, the arguments of one call of it, and what a person had said."""

    tool: Tool
    arguments: Mapping[str, Any]
    request: str


def shots_of(examples: Sequence[Example]) -> list[Shot]:
    """What rows have to show: one request that one call answers, of a function that is not long."""
    shots = []
    for example in examples:
        turns = [message for message in example.prompt if message["role"] != "system"]
        calls = example.target_calls
        if len(calls) != 1 or [turn["role"] for turn in turns] != ["user"]:
            continue
        tool = next((tool for tool in example.tools if tool["name"] == calls[0].name), None)
        request = turns[0]["content"].strip()
        if tool and "\n" not in request and len(_shown(tool)) + len(request) <= LONGEST_SHOT:
            shots.append(Shot(tool, calls[0].arguments, request))
    return shots


def asking(tools: Sequence[Tool], shots: Sequence[Shot], *, seed: int) -> list[Example]:
    """A prompt for each function, in order, with shots that the seed draws for it."""
    return [_asked(tool, shots, f"{SOURCE}-{number}-{tool['name']}", seed) for number, tool in enumerate(tools)]


def _asked(tool: Tool, shots: Sequence[Shot], id: str, seed: int) -> Example:
    drawn = draws(seed, "shots", id).sample(list(shots), min(SHOTS, len(shots)))
    shown = "".join(
        f"Function: {_shown(shot.tool)}\nArguments: {_json(shot.arguments)}\nPerson: {shot.request}\n\n"
        for shot in drawn
    )
    text = (
        "Each function below is followed by the arguments of one call, and by what a person had said to an assistant "
        "that made exactly this call. The person says every value in plain words, and never the names of the function "
        f"or its parameters.\n\n{shown}Function: {_shown(tool)}\n\nContinue for this last function: one line that "
        "begins with Arguments, with realistic values of your own, and one line that begins with Person."
    )
    turns = ({"role": "user", "content": text}, {"role": "assistant", "content": ""})
    return Example(id, SOURCE, turns, ())


def _shown(tool: Tool) -> str:
    return _json({name: tool[name] for name in ("name", "description", "parameters")})


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# ------------------------------------------------------------------------------------------------------- reading


def read_written(tool: Tool, text: str, id: str) -> Example | None:
    """A completion of `asking` as a row, or None where it cannot be trusted."""
    found = _parsed(text)
    if found is None:
        return None
    arguments, request = found
    properties = tool["parameters"].get("properties", {})
    required = set(tool["parameters"].get("required", ()))
    # Values that nobody said: of an optional parameter the call is as right without it, if it was only the default.
    silent = [name for name, value in arguments.items() if not is_said(value, request)]
    if any(name in required or arguments[name] != properties.get(name, {}).get("default") for name in silent):
        return None
    arguments = {name: value for name, value in arguments.items() if name not in silent}
    if not fits(arguments, tool["parameters"]) or not _is_natural(request, tool["name"]):
        return None
    return _row(id, request, [{"name": tool["name"], "arguments": arguments}], [tool])


def _parsed(text: str) -> tuple[dict[str, Any], str] | None:
    """Arguments and request, or None when the two lines are not there."""
    if (begin := _ANSWER.match(text)) is None:
        return None
    try:
        arguments, end = strict_json.read_value(text, begin.end())
    except ValueError:
        return None
    said = _PERSON.match(text, end)
    if said is None or text[said.end() :].strip():
        return None
    return arguments, said.group(1).strip().strip('"')


def fits(arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Whether arguments meet a function's JSON Schema, name nothing else, and leave nothing null.

    A schema that is not one itself is met by nothing.
    """
    schema = {**parameters, "type": "object", "additionalProperties": False}
    try:
        Draft202012Validator.check_schema(schema)
        validator = Draft202012Validator(schema, registry=Registry())  # which fetches nothing
        return not _has_null(arguments) and validator.is_valid(arguments)
    except (SchemaError, Unresolvable, RecursionError):
        return False


def _has_null(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    return any(map(_has_null, value)) if isinstance(value, list) else value is None


def is_said(value: Any, request: str) -> bool:
    """Whether every text and number in a value stands in the request; truth values cannot be looked for and are not."""
    spoken = f" {_plain(request)} "
    return all(f" {_plain(leaf)} " in spoken for leaf in _leaves(value))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif not isinstance(value, bool):
        yield "" if value is None else str(value)


def _plain(text: str) -> str:
    """Words and numbers alone, in lower case; signs and points stay with their numbers."""
    found = re.findall(r"-?\d+(?:[.,:]\d+)*|[^\W\d_]+", text.casefold())
    return " ".join(found) or "\0"  # a value of signs alone is never said


def _is_natural(request: str, name: str) -> bool:
    """Whether a person could have said it: no code, and no name that only a program has."""
    is_coded = "_" in name or not name.islower()
    return (
        SHORTEST_REQUEST <= len(request) <= LONGEST_REQUEST
        and not re.search(r"[{}<>_=]|\w\(", request)
        and not (is_coded and name.casefold() in request.casefold())
    )


def _row(id: str, request: str, calls: Sequence[Mapping[str, Any]], tools: Sequence[Tool]) -> Example:
    answer = {"role": "assistant", "content": "", "tool_calls": [dict(call) for call in calls]}
    row = Example(id, SOURCE, ({"role": "user", "content": request}, answer), tuple(tools))
    return replace(row, kind=kind_of(row))


# ------------------------------------------------------------------------------------------------------- rows


def rows_of(written: Mapping[str, Sequence[Example]], *, parallel_share: float, seed: int) -> list[Example]:
    """The rows of all functions: one a request, and some requests joined to rows of two to four calls.

    Args:
        written: what was kept for each function, under any name.
        parallel_share: of the functions, whose requests are joined: those of one function where it has several, else
            with those of other functions.
    """
    chance = draws(seed, "parallel", SOURCE)
    rows: list[Example] = []
    waiting: list[Example] = []
    size = chance.choice(_SIZES)
    for found in written.values():
        found = _distinct(found)
        if not found or chance.random() >= parallel_share:
            rows += found
            continue
        if len(found) > 1:
            own = chance.choice(_SIZES)
            rows += [_joined(found[:own], chance), *found[own:]]
            continue
        waiting += found
        if len(waiting) == size:
            rows.append(_joined(waiting, chance))
            waiting, size = [], chance.choice(_SIZES)
    return [*rows, _joined(waiting, chance)] if waiting else rows


def _distinct(rows: Sequence[Example]) -> list[Example]:
    """One row a call: several ways to say the same teach little."""
    found: dict[str, Example] = {}
    for row in rows:
        found.setdefault(_json([dict(call.arguments) for call in row.target_calls]), row)
    return list(found.values())


def _joined(rows: Sequence[Example], chance: random.Random) -> Example:
    """One row that asks for all the calls, in order; a single row stays as it is."""
    return functools.reduce(lambda one, other: _pair(one, other, chance), rows)


def _pair(one: Example, other: Example, chance: random.Random) -> Example:
    first, second = (row.prompt[-1]["content"] for row in (one, other))
    pattern = chance.choice(_JOINED)
    if pattern.endswith(", {1}") and second[1:2].islower():
        second = second[0].lower() + second[1:]  # it goes on in the middle of a sentence
    tools = [*one.tools, *(tool for tool in other.tools if tool["name"] not in {each["name"] for each in one.tools})]
    calls = [*one.target["tool_calls"], *other.target["tool_calls"]]
    return _row(f"{one.id} + {other.id}", pattern.format(first, second), calls, tools)
