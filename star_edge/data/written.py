"""Rows that a model writes: a call of a given function, and what a person would have said to get exactly that call.

The model is shown some functions with a call or more and a request each, of rows that are there, and goes on for a
function of a pool: arguments first, then the words. Then it is asked the other way round, for the arguments that the
words mean. What it wrote is kept when the arguments fit the function's schema, have their numbers and most of their
words in the request, and come back the same: round-trip consistency as of Alberti et al. (arXiv 1906.05416), for calls.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from star_edge.calls import strict_json
from star_edge.calls.match import same_calls, same_value
from star_edge.contracts import Example, Tool, ToolCall
from star_edge.data.draws import draws
from star_edge.data.quota import kind_of
from star_edge.data.spoken import can_be_read, is_said

SOURCE = "written"
SHOTS = 3
LONGEST_SHOT = 700  # characters of a shown function and its request: three fit beside the one that is asked for
SHORTEST_REQUEST, LONGEST_REQUEST = 12, 400
OPTIONAL_SHARE = 0.4  # of optional parameters that a request mentions: where all are, a reader learns to fill all
_ANSWER = re.compile(r"\s*Arguments\b[^:{\n]*:\s*(?=\{)")  # some models write "Arguments for get_weather:"
_PERSON = re.compile(r"\s*Person:\s*(\S[^\n]*)")
_PERSON_LINE = re.compile(r"^[ \t]*Person:\s*(\S[^\n]*)", re.MULTILINE)
_OFFERED = re.compile(
    r"\b(would|do|did) you (like|want|need|prefer|care)\b|\byou(['’]d| would) like\b|\b(help|assist) you\b|"
    r"\byou want\b|\byour request\b|^(sure|yes|ok|okay|sorry|i['’]m sorry|here (is|are))\b",
    re.IGNORECASE,
)  # words of the one who is asked, which a model writes now and then in a person's place
_ASKED = (2, 3, 3, 4, 4)  # calls of a request for several: the more, the fewer are read back
_SIZES = (2, 2, 3, 4)  # requests that are joined
MOST_CALLS = 5  # of a row that joins requests of several functions
_GOING_ON = ("{0} Also, {1}", "{0} And then: {1}", "{0}\n{1}", "{0} After that, {1}")
_JOINED = (*_GOING_ON, "First: {0} Second: {1}")


@dataclass(frozen=True, slots=True)
class Shot:
    """A function, the arguments of one or more calls of it, and what a person had said."""

    tool: Tool
    calls: tuple[Mapping[str, Any], ...]
    request: str


def shots_of(examples: Sequence[Example]) -> list[Shot]:
    """What rows have to show: one request that calls of one function answer, which is not long."""
    shots = []
    for example in examples:
        turns = [message for message in example.prompt if message["role"] != "system"]
        calls = example.target_calls
        names = {call.name for call in calls}
        if len(names) != 1 or len(calls) > max(_ASKED) or [turn["role"] for turn in turns] != ["user"]:
            continue
        tool = next((tool for tool in example.tools if tool["name"] in names), None)
        request = turns[0]["content"].strip()
        if tool and "\n" not in request and len(_shown(tool)) + len(request) <= LONGEST_SHOT:
            shots.append(Shot(tool, tuple(call.arguments for call in calls), request))
    return shots


@dataclass(frozen=True, slots=True)
class Wish:
    """What a model is asked to write: so many calls of a function, with some of its parameters."""

    tool: Tool
    id: str
    parameters: tuple[str, ...]
    calls: int = 1


def wishes(tools: Sequence[Tool], *, parallel_share: float, seed: int) -> list[Wish]:
    """One for each function, in order: all its required parameters, some of the others, and mostly one call.

    Args:
        parallel_share: of the functions that are to be called several times by one request.
    """
    return [_wish(tool, f"{SOURCE}-{number}-{tool['name']}", parallel_share, seed) for number, tool in enumerate(tools)]


def _wish(tool: Tool, id: str, parallel_share: float, seed: int) -> Wish:
    parameters = tool["parameters"]
    chance = draws(seed, "parameters", id)
    names = tuple(
        name
        for name in parameters.get("properties", {})
        if chance.random() < OPTIONAL_SHARE or name in parameters.get("required", ())
    )
    several = draws(seed, "calls", id)
    is_parallel = several.random() < parallel_share and names
    return Wish(tool, id, names, several.choice(_ASKED) if is_parallel else 1)


def asking(wish: Wish, shots: Sequence[Shot], *, seed: int) -> Example:
    """The prompt that asks for it, with shots that the seed draws."""
    shown = "".join(
        f"Function: {_shown(shot.tool)}\n{_arguments(shot)}Person: {shot.request}\n\n"
        for shot in _drawn(shots, wish.id, wish.calls, seed)
    )
    names = ", ".join(wish.parameters)
    values = f"with realistic values of your own for {names} and nothing else" if names else "which are {}"
    made, exactly = ("one call", "this call") if wish.calls == 1 else ("several calls, a line each", "these calls")
    lines, end = "one line that begins with Arguments", "one line that begins with Person"
    if wish.calls > 1:
        lines = f"{wish.calls} lines that begin with Arguments, for {wish.calls} different calls"
        end += ", who asks for all of them at once, in one or two sentences"
    text = (
        f"Each function below is followed by the arguments of {made}, and by what a person had said to an assistant "
        f"that made exactly {exactly}. The person says every value as people do (March 5th, 2024 for 2024-03-05, 6:30 "
        "in the evening for 18:30, Spanish for es, US dollars for USD, 5 percent for 0.05, a wish for true), and never "
        f"the names of the function or its parameters.\n\n{shown}Function: {_shown(wish.tool)}\n\n"
        f"Continue for this last function: {lines}, {values}, and {end}."
    )
    return _prompt(wish.id, text)


def reading(row: Example, shots: Sequence[Shot], *, seed: int) -> Example:
    """A prompt that asks for the arguments which a written row's request means."""
    tool, request, calls = row.tools[0], row.prompt[0]["content"], len(row.target_calls)
    shown = "".join(
        f"Function: {_shown(shot.tool)}\nPerson: {shot.request}\n{_arguments(shot)}\n"
        for shot in _drawn(shots, row.id, calls, seed)
    )
    # Of how many calls is not said; in other words than these the model does not begin its lines so.
    made, lines = ("the call", "one line that begins") if calls == 1 else ("the calls", "lines that begin")
    text = (
        f"Each function below is followed by what a person said to an assistant, and by the arguments of {made} that "
        "it made. They hold what the person said, written as the descriptions ask for it, and no parameter of which "
        f"nothing was said.\n\n{shown}Function: {_shown(tool)}\nPerson: {request}\n\nContinue for this last function "
        f"with {lines} with Arguments."
    )
    # What is asked is in the id: the row's number alone would let an answer stand for another prompt.
    return _prompt(f"{row.id} {hashlib.sha256(text.encode()).hexdigest()[:12]}", text)


def _arguments(shot: Shot) -> str:
    return "".join(f"Arguments: {_json(arguments)}\n" for arguments in shot.calls)


def _prompt(id: str, text: str, tools: Sequence[Tool] = ()) -> Example:
    return Example(id, SOURCE, ({"role": "user", "content": text}, {"role": "assistant", "content": ""}), tuple(tools))


def _drawn(shots: Sequence[Shot], id: str, calls: int, seed: int) -> list[Shot]:
    """Shots of one call where one is due; else of several as far as there are any, for how many is not to be copied."""
    likely = [shot for shot in shots if (len(shot.calls) > 1) == (calls > 1)] or list(shots)
    return draws(seed, "shots", id).sample(likely, min(SHOTS, len(likely)))


def _shown(tool: Tool) -> str:
    return _json({name: tool[name] for name in ("name", "description", "parameters")})


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# ------------------------------------------------------------------------------------------------------- reading


def read_written(wish: Wish, text: str, id: str) -> Example | None:
    """A completion of `asking` as a row, or None where it cannot be right."""
    found, end = _argument_lines(text)
    said = _PERSON.match(text, end)
    if len(found) != wish.calls or said is None or text[said.end() :].strip():
        return None
    request = _words(said)
    calls = [_meant(arguments, request, wish.tool) for arguments in found]
    if len({_key([arguments]) for arguments in calls}) < len(calls) or not _is_natural(request, wish.tool["name"]):
        return None
    for arguments in calls:
        if not arguments.keys() <= set(wish.parameters) or not fits(arguments, wish.tool["parameters"]):
            return None
        if not all(can_be_read(value, request) for value in arguments.values()):
            return None
    return _row(id, request, [{"name": wish.tool["name"], "arguments": arguments} for arguments in calls], [wish.tool])


def read_request(wish: Wish, text: str, id: str) -> Example | None:
    """The request of a completion of `asking`, whatever its arguments are worth; None where no person would say it."""
    said = _PERSON_LINE.search(text, _argument_lines(text)[1])
    request = _words(said) if said else ""
    return _prompt(id, request, [wish.tool]) if _is_natural(request, wish.tool["name"]) else None


def _words(person: re.Match[str]) -> str:
    return person.group(1).strip().strip('"')


def _meant(arguments: Mapping[str, Any], request: str, tool: Tool) -> dict[str, Any]:
    """Without defaults that nobody said: the call is as right without them."""
    return {
        name: value
        for name, value in arguments.items()
        if is_said(value, request) or not _is_default(name, value, tool)
    }


def reads_back(row: Example, text: str) -> bool:
    """Whether a completion of `reading` has the row's calls in any order, defaults of optional parameters aside.

    A default that was read because the request says it, and that the row has less often, is not aside: the label would
    teach to leave out what was said.
    """
    found, end = _argument_lines(text)
    if text[end:].strip():
        return False
    tool, request = row.tools[0], row.prompt[0]["content"]
    said = Counter(name for arguments in found for name, value in arguments.items() if is_said(value, request))
    if said - Counter(name for call in row.target_calls for name in call.arguments):
        return False
    told = [ToolCall(tool["name"], _without_defaults(arguments, tool)) for arguments in found]
    meant = [ToolCall(tool["name"], _without_defaults(call.arguments, tool)) for call in row.target_calls]
    return same_calls(told, meant)


def _argument_lines(text: str) -> tuple[list[dict[str, Any]], int]:
    """The JSON objects of the lines that a completion begins with, and where they end."""
    found: list[dict[str, Any]] = []
    end = 0
    while (begin := _ANSWER.match(text, end)) and (value := _value(text, begin.end())):
        found.append(value[0])
        end = value[1]
    return found, end


def _value(text: str, begin: int) -> tuple[dict[str, Any], int] | None:
    """A JSON object and where it ends, or None."""
    try:
        value, end = strict_json.read_value(text, begin)
    except ValueError:
        return None
    return (value, end) if isinstance(value, dict) else None


def _without_defaults(arguments: Mapping[str, Any], tool: Tool) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if not _is_default(name, value, tool)}


def _is_default(name: str, value: Any, tool: Tool) -> bool:
    """Whether an optional parameter has the value that its schema calls the default."""
    parameters = tool["parameters"]
    schema = parameters.get("properties", {}).get(name)
    if name in parameters.get("required", ()) or not isinstance(schema, Mapping) or "default" not in schema:
        return False
    return same_value(value, schema["default"])


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


def _is_natural(request: str, name: str) -> bool:
    """Whether a person could have asked it: no offer, no code, and no name that only a program has."""
    is_coded = "_" in name or not name.islower()
    return (
        SHORTEST_REQUEST <= len(request) <= LONGEST_REQUEST
        and not re.search(r"[{}<>_=]|\w\(", request)
        and not _OFFERED.search(request)
        and not (is_coded and name.casefold() in request.casefold())
    )


def _row(id: str, request: str, calls: Sequence[Mapping[str, Any]], tools: Sequence[Tool]) -> Example:
    answer = {"role": "assistant", "content": "", "tool_calls": [dict(call) for call in calls]}
    row = Example(id, SOURCE, ({"role": "user", "content": request}, answer), tuple(tools))
    return replace(row, kind=kind_of(row))


# ------------------------------------------------------------------------------------------------------- rows


def rows_of(written: Mapping[str, Sequence[Example]], *, parallel_share: float, seed: int) -> list[Example]:
    """The rows of all functions: one a request, and some of two to four requests joined.

    Args:
        written: what was kept for each function, under any name.
        parallel_share: of the functions whose requests are joined: those of one function where it has several for one
            call each, else one of them with those of other functions.
    """
    chance = draws(seed, "parallel", SOURCE)
    rows: list[Example] = []
    waiting: list[Example] = []
    size = chance.choice(_SIZES)
    for found in written.values():
        found = _distinct(found)
        if not found or chance.random() >= parallel_share:
            rows += found
        elif len(found) > 1 and len(found[0].target_calls) == 1:
            own = chance.choice(_SIZES)
            rows += [_joined(found[:own], chance), *found[own:]]
        elif not _can_join(found[0], waiting):
            rows += found
        else:
            waiting.append(found[0])
            rows += found[1:]
            if len(waiting) == size or (len(waiting) > 1 and _calls(waiting) >= max(_SIZES)):
                rows.append(_joined(waiting, chance))
                waiting, size = [], chance.choice(_SIZES)
    return [*rows, _joined(waiting, chance)] if waiting else rows


def _can_join(row: Example, others: Sequence[Example]) -> bool:
    """Whether a row may be joined with others: few calls in all, and no two functions of one name."""
    names = {tool["name"] for other in others for tool in other.tools}
    return _calls([*others, row]) <= MOST_CALLS and names.isdisjoint(tool["name"] for tool in row.tools)


def _calls(rows: Sequence[Example]) -> int:
    return sum(len(row.target_calls) for row in rows)


def _distinct(rows: Sequence[Example]) -> list[Example]:
    """One row a call, whatever its case: several ways to say the same teach little."""
    found: dict[str, Example] = {}
    for row in rows:
        found.setdefault(_key([call.arguments for call in row.target_calls]), row)
    return list(found.values())


def _key(calls: Sequence[Mapping[str, Any]]) -> str:
    return _json([dict(arguments) for arguments in calls]).casefold()


def _joined(rows: Sequence[Example], chance: random.Random) -> Example:
    """One row that asks for all the calls, in order; a single row stays as it is."""
    joined, *others = rows
    for number, other in enumerate(others, 1):
        joined = _pair(joined, other, chance.choice(_JOINED if number == len(others) else _GOING_ON))
    return joined


def _pair(one: Example, other: Example, pattern: str) -> Example:
    first, second = (row.prompt[-1]["content"] for row in (one, other))
    if pattern.endswith(", {1}") and second[1:2].islower():
        second = second[0].lower() + second[1:]  # it goes on in the middle of a sentence
    tools = [*one.tools, *(tool for tool in other.tools if tool["name"] not in {each["name"] for each in one.tools})]
    calls = [*one.target["tool_calls"], *other.target["tool_calls"]]
    return _row(f"{one.id} + {other.id}", pattern.format(first, second), calls, tools)
