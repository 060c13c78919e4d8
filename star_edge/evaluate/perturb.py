"""Answers to BFCL cases with one thing changed, right ones and wrong ones, to hold a checker or a reward against.

A kind says what was changed, not whether the result is right: that is for a checker to say. Everything is drawn from
the seed and the case's id.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from star_edge.contracts import ToolCall
from star_edge.evaluate.bfcl.answers import accepted_values, canonical, parameters
from star_edge.evaluate.bfcl.cases import BfclCase
from star_edge.evaluate.changed_values import (
    another_type,
    another_value,
    changed_inside,
    changed_number,
    float_for_integer,
    listed_spelling,
    made_up,
    other_spelling,
    same_spelling,
)

__all__ = ["CANONICAL", "PerturbedAnswer", "canonical", "perturbed"]

Calls: TypeAlias = tuple[ToolCall, ...]
Change: TypeAlias = Callable[[BfclCase, Calls, random.Random], Calls | None]

CANONICAL = "canonical"
_INVENTED = ("verbose", "output_format", "api_key", "max_results", "language_code")


@dataclass(frozen=True, slots=True)
class PerturbedAnswer:
    """One answer: the kind of change, and the calls; no call is a reply in words."""

    kind: str
    calls: Calls


def perturbed(case: BfclCase, *, seed: int, count: int) -> list[PerturbedAnswer]:
    """Answers that differ, the canonical one first, then changes that mostly break it and mostly do not, in turn.

    Returns: at most `count`; fewer where the case has too little to change.
    """
    rng = random.Random(f"{seed} {case.id}")
    if not case.answers:
        return list(_without_answers(case, rng))[:count]
    first = PerturbedAnswer(CANONICAL, canonical(case))
    found = {_written(first.calls): first}
    for _ in range(count):
        before = len(found)
        for kind, change in _kinds_in_turn(rng):
            calls = change(case, first.calls, rng)
            if calls is not None:
                found.setdefault(_written(calls), PerturbedAnswer(kind, calls))
            if len(found) >= count:
                return list(found.values())[:count]
        if len(found) == before:
            break
    return list(found.values())[:count]


def _written(calls: Calls) -> str:
    return json.dumps([(call.name, call.arguments) for call in calls])


def _kinds_in_turn(rng: random.Random) -> Iterator[tuple[str, Change]]:
    breaking, harmless = (
        rng.sample([*_BREAKING.items()], len(_BREAKING)),
        rng.sample([*_HARMLESS.items()], len(_HARMLESS)),
    )
    for position, kind in enumerate(breaking):
        yield kind
        yield from harmless[position : position + 1]


def _without_answers(case: BfclCase, rng: random.Random) -> Iterator[PerturbedAnswer]:
    """Where only the presence of a call is judged: words, a call of each function, and all these calls at once."""
    yield PerturbedAnswer("no call", ())
    calls = []
    for function in rng.sample(case.functions, len(case.functions)):
        schemas, required = function["parameters"]["properties"], function["parameters"]["required"]
        arguments = {name: made_up(schemas.get(name, {}), rng) for name in required}
        calls.append(ToolCall(function["name"], arguments))
        yield PerturbedAnswer("call", (calls[-1],))
    if len(calls) > 1:
        yield PerturbedAnswer("call", tuple(calls))


# ----------------------------------------------------------------------------------------------------- whole calls


def _call_order(case: BfclCase, calls: Calls, rng: random.Random) -> Calls | None:
    return tuple(rng.sample(calls, len(calls))) if len(calls) > 1 else None


def _duplicated_call(case: BfclCase, calls: Calls, rng: random.Random) -> Calls:
    return (*calls, rng.choice(calls))


def _dropped_call(case: BfclCase, calls: Calls, rng: random.Random) -> Calls | None:
    left_out = rng.randrange(len(calls))
    return (*calls[:left_out], *calls[left_out + 1 :]) if len(calls) > 1 else None


def _no_call(case: BfclCase, calls: Calls, rng: random.Random) -> Calls:
    return ()


@dataclass(frozen=True, slots=True)
class _Due:
    """A call that is due: the canonical one, the accepted values and the schema of each parameter, as published."""

    case: BfclCase
    call: ToolCall
    accepted: Mapping[str, Sequence[Any]]
    schemas: Mapping[str, Any]

    def is_required(self, name: str) -> bool:
        functions = (one for one in self.case.functions if one["name"] == self.call.name)
        return any(name in function["parameters"]["required"] for function in functions)

    def may_be_left_out(self, name: str) -> bool:
        return not self.is_required(name) and "" in self.accepted.get(name, ())

    def with_arguments(self, arguments: Mapping[str, Any]) -> ToolCall:
        return ToolCall(self.call.name, arguments)

    def with_value(self, name: str, value: Any) -> ToolCall:
        return self.with_arguments({**self.call.arguments, name: value})


def _of_one_call(change: Callable[[_Due, random.Random], ToolCall | None]) -> Change:
    """The change at the first call, in random order, at which it can be made."""

    def on_one(case: BfclCase, calls: Calls, rng: random.Random) -> Calls | None:
        for position in rng.sample(range(len(calls)), len(calls)):
            call, answer = calls[position], case.answers[position]
            changed = change(_Due(case, call, answer[call.name], parameters(case, call.name)), rng)
            if changed is not None:
                return (*calls[:position], changed, *calls[position + 1 :])
        return None

    return on_one


def _other_function(due: _Due, rng: random.Random) -> ToolCall | None:
    names = [function["name"] for function in due.case.functions if function["name"] != due.call.name]
    return ToolCall(rng.choice(names), due.call.arguments) if names else None


def _unknown_function(due: _Due, rng: random.Random) -> ToolCall:
    name = due.call.name
    return ToolCall(rng.choice([f"{name}_v2", f"get_{name}", name[:-1]]), due.call.arguments)


# ------------------------------------------------------------------------------------------------------ parameters


def _key_order(due: _Due, rng: random.Random) -> ToolCall | None:
    items = [*due.call.arguments.items()]
    return due.with_arguments(dict(rng.sample(items, len(items)))) if len(items) > 1 else None


def _swapped_values(due: _Due, rng: random.Random) -> ToolCall | None:
    given = due.call.arguments
    pairs = [(a, b) for a in given for b in given if a < b and given[a] != given[b]]
    if not pairs:
        return None
    a, b = rng.choice(pairs)
    return due.with_arguments({**given, a: given[b], b: given[a]})


def _without(is_meant: Callable[[_Due, str], bool]) -> Change:
    def leave_out(due: _Due, rng: random.Random) -> ToolCall | None:
        names = [name for name in due.call.arguments if is_meant(due, name)]
        if not names:
            return None
        left_out = rng.choice(names)
        return due.with_arguments({name: value for name, value in due.call.arguments.items() if name != left_out})

    return _of_one_call(leave_out)


def _accepted_value(due: _Due, rng: random.Random) -> ToolCall | None:
    others = [
        (name, value)
        for name, given in due.call.arguments.items()
        for value in accepted_values(due.case, due.call.name, name, due.accepted[name])
        if value != given
    ]
    return due.with_value(*rng.choice(others)) if others else None


def _extra_parameter(due: _Due, rng: random.Random) -> ToolCall | None:
    names = [name for name in due.schemas if name not in due.call.arguments]
    if not names:
        return None
    name = rng.choice(names)
    schema = due.schemas[name] if due.case.language == "python" else {"type": "string"}
    return due.with_value(name, made_up(schema, rng))


def _hallucinated_parameter(due: _Due, rng: random.Random) -> ToolCall:
    name = rng.choice([name for name in _INVENTED if name not in due.schemas])
    return due.with_value(name, rng.choice(["en", True, 10]))


def _of_one_value(change: Callable[[Any, Mapping[str, Any], random.Random], Any]) -> Change:
    """The change at the first parameter, in random order, at which it makes a difference."""

    def on_one(due: _Due, rng: random.Random) -> ToolCall | None:
        for name in rng.sample([*due.call.arguments], len(due.call.arguments)):
            value = due.call.arguments[name]
            changed = change(value, due.schemas.get(name, {}), rng)
            if json.dumps(changed) != json.dumps(value):
                return due.with_value(name, changed)
        return None

    return _of_one_call(on_one)


_HARMLESS: Mapping[str, Change] = {
    "call order": _call_order,
    "key order": _of_one_call(_key_order),
    "same spelling": _of_one_value(same_spelling),
    "listed value's spelling": _of_one_value(listed_spelling),
    "accepted value": _of_one_call(_accepted_value),
    "optional left out": _without(_Due.may_be_left_out),
}
_BREAKING: Mapping[str, Change] = {
    "wrong type": _of_one_value(another_type),
    "float for integer": _of_one_value(float_for_integer),
    "swapped values": _of_one_call(_swapped_values),
    "missing required": _without(_Due.is_required),
    "missing optional": _without(lambda due, name: not due.is_required(name) and not due.may_be_left_out(name)),
    "extra parameter": _of_one_call(_extra_parameter),
    "hallucinated parameter": _of_one_call(_hallucinated_parameter),
    "other spelling": _of_one_value(other_spelling),
    "changed number": _of_one_value(changed_number),
    "other value": _of_one_value(another_value),
    "changed inside": _of_one_value(changed_inside),
    "other function": _of_one_call(_other_function),
    "unknown function": _of_one_call(_unknown_function),
    "duplicated call": _duplicated_call,
    "dropped call": _dropped_call,
    "no call": _no_call,
}
