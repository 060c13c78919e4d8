"""Verdicts on BFCL's single-turn cases, equal to those of bfcl-eval 2026.3.23 on every case.

They are what its AST checker says of calls whose names keep their dots. Where that checker stops with an exception (a
type it does not know, an array without `items`, a Java collection it cannot read, shapes that cannot be compared), the
verdict here is "not right", with the exception as the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from star_edge.calls.parse import parse_completion
from star_edge.contracts import ToolCall
from star_edge.evaluate.bfcl.arguments import argument_error
from star_edge.evaluate.bfcl.cases import BfclCase
from star_edge.evaluate.bfcl.tools import Language

# How the reason of a case begins on which the published checker stops with an exception.
CANNOT_JUDGE = "cannot be judged"
# What the published checker can stop with on documents, values and accepted values of unexpected shape.
_UNJUDGEABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, StopIteration)


@dataclass(frozen=True, slots=True)
class BfclVerdict:
    """Whether one output is right; `reason` is one line, None when it is."""

    id: str
    category: str
    ok: bool
    reason: str | None


def judge(case: BfclCase, text: str) -> BfclVerdict:
    """The verdict on a completion, read strictly: a malformed one makes no call. Never raises."""
    completion = parse_completion(text)
    reason = check(case, completion.calls)
    if reason is not None and completion.error is not None:
        reason = f"malformed: {completion.error}"
    return BfclVerdict(case.id, case.category, reason is None, reason)


def check(case: BfclCase, calls: Sequence[ToolCall]) -> str | None:
    """Why the calls are wrong, in one line; None when they are right. Never raises.

    Where no call is due, any call is wrong; where only relevance is judged, any call is right.
    """
    if case.category.endswith("relevance"):
        return _presence_error(case, calls)
    try:
        return _calls_error(case, calls) or None
    except _UNJUDGEABLE as error:
        return f"{CANNOT_JUDGE}: {type(error).__name__}: {error}"


def _presence_error(case: BfclCase, calls: Sequence[ToolCall]) -> str | None:
    if case.expects_call:
        return None if calls else "no call, where one is due"
    return f"a call of {calls[0].name!r}, where none is due" if calls else None


def _calls_error(case: BfclCase, calls: Sequence[ToolCall]) -> str:
    is_one_call = "parallel" not in case.category and "multiple" not in case.category
    due = 1 if is_one_call else len(case.answers)
    if len(calls) != due:
        return f"{len(calls)} calls, where {due} are due"
    if "parallel" in case.category:
        return _parallel_error(case, calls)
    # With one function on offer, its own name is the expected one, whatever the answer says.
    function = case.functions[0] if is_one_call else _function_named(case, next(iter(case.answers[0])))
    return _call_error(calls[0], function, case.answers[0], case.language)


def _parallel_error(case: BfclCase, calls: Sequence[ToolCall]) -> str:
    """Each answer in turn takes the first call left that is right for it, and never gives it back."""
    left = list(calls)
    for answer in case.answers:
        name = next(iter(answer))
        function = _function_named(case, name)
        errors = []
        for position, call in enumerate(left):
            error = _call_error(call, function, answer, case.language)
            if not error:
                del left[position]
                break
            errors.append(error)
        else:
            return f"no call is right for {name!r}: {'; '.join(errors)}"
    return ""


def _function_named(case: BfclCase, name: str) -> Mapping[str, Any]:
    """The document of a function.

    Raises: LookupError: it is not on offer.
    """
    for function in case.functions:
        if function["name"] == name:
            return function
    raise LookupError(f"no function {name!r} is on offer")


def _call_error(
    call: ToolCall, function: Mapping[str, Any], answer: Mapping[str, Mapping[str, Any]], language: Language
) -> str:
    """Why a call is wrong, in one line; "" when it is right."""
    accepted = next(iter(answer.values()))
    name, parameters = function["name"], function["parameters"]
    schemas, required = parameters["properties"], parameters["required"]
    if call.name != name:
        return f"calls {call.name!r}, not {name!r}"
    missing = [parameter for parameter in required if parameter not in call.arguments]
    if missing:
        return f"{missing[0]!r} is required and missing"
    for parameter, value in call.arguments.items():
        if parameter not in schemas or parameter not in accepted:
            return f"{parameter!r} is not expected"
        error = argument_error(parameter, value, schemas[parameter], accepted[parameter], language)
        if error:
            return error
    for parameter, options in accepted.items():
        if parameter not in call.arguments and "" not in options:
            return f"{parameter!r} is missing"
    return ""
