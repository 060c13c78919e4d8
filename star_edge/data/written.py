"""Rows that a model writes: a call of a given function, and what a person would have said to get exactly that call.

The model is shown some functions with a call and a request each, of rows that are there, and goes on for a function of
a pool: arguments first, then the words. Then it is asked the other way round, for the arguments that the words mean. A
pair is kept when the arguments fit the function's schema, have their numbers and most of their words in the request,
and come back the same: round-trip consistency as of Alberti et al. (arXiv 1906.05416), for calls.
"""

from __future__ import annotations

import functools
import hashlib
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
from star_edge.calls.match import same_value
from star_edge.contracts import Example, Tool
from star_edge.data.draws import draws
from star_edge.data.quota import kind_of

SOURCE = "written"
SHOTS = 3
LONGEST_SHOT = 700  # characters of a shown function and its request: three fit beside the one that is asked for
SHORTEST_REQUEST, LONGEST_REQUEST = 12, 400
OPTIONAL_SHARE = 0.4  # of optional parameters that a request mentions: where all are, a reader learns to fill all
_ANSWER = re.compile(r"\s*Arguments:\s*(?=\{)")
_PERSON = re.compile(r"\s*Person:\s*(\S[^\n]*)")
_STEM = 4  # letters by which two forms of a word are taken for one
_CODE = re.compile(r"[A-Za-z]{1,3}")
_NUMBER_WORDS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
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
    shown = "".join(
        f"Function: {_shown(shot.tool)}\nArguments: {_json(shot.arguments)}\nPerson: {shot.request}\n\n"
        for shot in _drawn(shots, id, seed)
    )
    names = wanted_parameters(tool, id, seed)
    values = f"with realistic values of your own for {', '.join(names)} and nothing else" if names else "which are {}"
    text = (
        "Each function below is followed by the arguments of one call, and by what a person had said to an assistant "
        "that made exactly this call. The person says every value as people do (March 5th, 2024 for 2024-03-05, 6:30 "
        "in the evening for 18:30, Spanish for es, US dollars for USD, a wish for true), and never the names "
        f"of the function or its parameters.\n\n{shown}Function: {_shown(tool)}\n\n"
        f"Continue for this last function: one line that begins with Arguments, {values}, and one line that begins "
        "with Person."
    )
    return _prompt(id, text)


def wanted_parameters(tool: Tool, id: str, seed: int) -> list[str]:
    """The parameters that a request for this function is to mention: all required ones, and some of the others."""
    parameters = tool["parameters"]
    chance = draws(seed, "parameters", id)
    return [
        name
        for name in parameters.get("properties", {})
        if chance.random() < OPTIONAL_SHARE or name in parameters.get("required", ())
    ]


def reading(row: Example, shots: Sequence[Shot], *, seed: int) -> Example:
    """A prompt that asks for the arguments which a written row's request means."""
    tool, request = row.tools[0], row.prompt[0]["content"]
    shown = "".join(
        f"Function: {_shown(shot.tool)}\nPerson: {shot.request}\nArguments: {_json(shot.arguments)}\n\n"
        for shot in _drawn(shots, row.id, seed)
    )
    text = (
        "Each function below is followed by what a person said to an assistant, and by the arguments of the call that "
        "it made. They hold what the person said, written as the descriptions ask for it, and no parameter of which "
        f"nothing was said.\n\n{shown}Function: {_shown(tool)}\nPerson: {request}\n\nContinue for this last function "
        "with one line that begins with Arguments."
    )
    # What is asked is in the id: the row's number alone would let an answer stand for another prompt.
    return _prompt(f"{row.id} {hashlib.sha256(text.encode()).hexdigest()[:12]}", text)


def _prompt(id: str, text: str) -> Example:
    return Example(id, SOURCE, ({"role": "user", "content": text}, {"role": "assistant", "content": ""}), ())


def _drawn(shots: Sequence[Shot], id: str, seed: int) -> list[Shot]:
    return draws(seed, "shots", id).sample(list(shots), min(SHOTS, len(shots)))


def _shown(tool: Tool) -> str:
    return _json({name: tool[name] for name in ("name", "description", "parameters")})


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# ------------------------------------------------------------------------------------------------------- reading


def read_written(tool: Tool, text: str, id: str, wanted: Sequence[str]) -> Example | None:
    """A completion of `asking` as a row, or None where it cannot be right.

    Args:
        wanted: the parameters that were asked for; a call with others is not kept.
    """
    begin = _ANSWER.match(text)
    found = _value(text, begin.end()) if begin else None
    said = _PERSON.match(text, found[1]) if found else None
    if found is None or said is None or text[said.end() :].strip():
        return None
    request = said.group(1).strip().strip('"')
    # Nobody said it: the call is as right without an optional parameter at its default.
    arguments = {
        name: value for name, value in found[0].items() if is_said(value, request) or not _is_default(name, value, tool)
    }
    if not arguments.keys() <= set(wanted) or not fits(arguments, tool["parameters"]):
        return None
    if not all(can_be_read(value, request) for value in arguments.values()) or not _is_natural(request, tool["name"]):
        return None
    return _row(id, request, [{"name": tool["name"], "arguments": arguments}], [tool])


def reads_back(row: Example, text: str) -> bool:
    """Whether a completion of `reading` has the row's arguments, defaults of optional parameters aside."""
    begin = _ANSWER.match(text)
    found = _value(text, begin.end()) if begin else None
    if found is None or text[found[1] :].strip():
        return False
    tool, meant = row.tools[0], row.target_calls[0].arguments
    return same_value(_without_defaults(found[0], tool), _without_defaults(meant, tool))


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


def can_be_read(value: Any, request: str) -> bool:
    """Whether a request may mean a value: each of its texts is said, or has its numbers and half of its words there.

    Numbers may be said as words, as months or on a clock of twelve hours, words in another form; codes of up to three
    letters and truth values cannot be looked for.
    """
    return all(_is_verbatim(leaf, request) or _is_likely(leaf, request) for leaf in _leaves(value))


def is_said(value: Any, request: str) -> bool:
    """Whether a value has texts or numbers, and a request all of them word by word; truth values are never said."""
    leaves = list(_leaves(value))
    return bool(leaves) and all(_is_verbatim(leaf, request) for leaf in leaves)


def _is_verbatim(leaf: str, request: str) -> bool:
    return f" {_plain(leaf)} " in f" {_plain(request)} "


def _is_likely(leaf: str, request: str) -> bool:
    if _CODE.fullmatch(leaf):
        return True
    if not _numbers(leaf) <= _spoken_numbers(request):
        return False
    words = [word[:_STEM] for word in _letters(leaf) if len(word) >= _STEM]
    heard = {word[:_STEM] for word in _letters(request)}
    if not words:
        return bool(_numbers(leaf))
    return 2 * sum(word in heard for word in words) >= len(words)


def _numbers(text: str) -> set[float]:
    """Numbers of digits; parts of dates and clocks are numbers of their own, and signs are not looked at."""
    return {float(found) for found in re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d{3}\b)", "", text))}


def _spoken_numbers(request: str) -> set[float]:
    numbers = _numbers(request)
    words = _letters(request)
    numbers |= {
        float(number) for each in (_NUMBER_WORDS, _MONTHS) for number, word in enumerate(each, 1) if word in words
    }
    if re.search(r"(?<![a-z])p\.?m\b|afternoon|evening|tonight|o'clock", request, re.IGNORECASE):
        numbers |= {number + 12 for number in numbers if number < 12}
    return (
        numbers | {0.0} if re.search(r"(?<![a-z])[ap]\.?m\b|o'clock|midnight|zero", request, re.IGNORECASE) else numbers
    )


def _letters(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.casefold())


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
