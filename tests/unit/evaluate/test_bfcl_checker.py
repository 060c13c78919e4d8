"""Verdicts on invented functions, answers and calls; the comparison with the published checker is in
test_bfcl_official."""

from __future__ import annotations

from typing import Any

import pytest

from star_edge.calls.parse import format_calls
from star_edge.contracts import ToolCall
from star_edge.evaluate.bfcl.cases import BfclCase
from star_edge.evaluate.bfcl.checker import check, judge


def case_of(category: str, functions: list[dict[str, Any]], *answers: dict[str, Any]) -> BfclCase:
    return BfclCase("invented", category, ({"role": "user", "content": "?"},), tuple(functions), answers)


def function(name: str, required: list[str], **properties: Any) -> dict[str, Any]:
    schemas = {key: value if isinstance(value, dict) else {"type": value} for key, value in properties.items()}
    return {"name": name, "parameters": {"type": "dict", "properties": schemas, "required": required}}


def verdict(schema: Any, accepted: list[Any], value: Any, category: str = "simple_python") -> bool:
    """Whether `value` is right for the one parameter of a function."""
    case = case_of(category, [function("f", ["x"], x=schema)], {"f": {"x": accepted}})
    reason = check(case, [ToolCall("f", {"x": value})])
    assert reason is None or ("\n" not in reason and reason)
    return reason is None


INTEGERS = {"type": "array", "items": {"type": "integer"}}
STRINGS = {"type": "array", "items": {"type": "string"}}
DICTS = {"type": "array", "items": {"type": "dict"}}
PAIR = {"type": "tuple", "items": {"type": "float"}}


@pytest.mark.parametrize(
    ("schema", "accepted", "value", "ok"),
    [
        # types are strict, but for an integer where a float is due
        ("integer", [5], 5, True),
        ("integer", [5], 6, False),
        ("integer", [5], 5.0, False),
        ("integer", [5], "5", False),
        ("integer", [1], True, False),
        ("float", [5.0], 5, True),
        ("float", [5], 5, True),
        ("float", [5], 5.0, True),
        ("float", [1.0], True, False),
        ("float", [5.0], 10**400, False),
        ("boolean", [True], True, True),
        ("boolean", [True], 1, False),
        ("boolean", [True, False], False, True),
        ("any", ["oak"], "oak", True),
        ("any", [5], 5, True),
        ("any", [5], 5.0, False),
        ("any", ["5"], 5, False),
        ("integer", [5], None, False),
        ("integer", [None], None, True),
        # strings without case, spaces and some punctuation
        ("string", ["Elm Street 5"], "elm-street_5.", True),
        ("string", ["don't"], 'DON"T', True),
        ("string", ["a^b*c/d"], "A, B C D", True),
        ("string", ["a+b"], "ab", False),
        ("string", ["oak"], "oaks", False),
        ("string", ["oak", "elm"], "Elm", True),
        ("string", ["oak", ""], " ", True),
        ("string", ["oak"], " ", False),
        ("string", [""], " ", True),
        ("string", ["5"], 5, False),
        ("string", ["\n"], "", False),
        # a variable: accepted values of another type than the document's, compared as they stand
        ("integer", ["count"], "count", True),
        ("integer", ["count"], "Count", False),
        ("integer", ["count"], 5, False),
        ("string", [5], 5, True),
        ("string", [5, "five"], "five", True),
        ("string", [5, "five"], "FIVE", False),
        ("dict", ["settings"], "settings", True),
        # lists keep their order; strings directly inside are standardised
        (INTEGERS, [[1, 2]], [1, 2], True),
        (INTEGERS, [[1, 2]], [2, 1], False),
        (INTEGERS, [[1, 2]], [1.0, 2.0], False),
        (INTEGERS, [[1, 2]], [True, 2], False),
        (INTEGERS, [[1, 2], [3]], [3], True),
        (INTEGERS, [[1, 2]], [], False),
        (INTEGERS, [[1, 2], ""], [], True),
        (INTEGERS, [""], [], True),
        (STRINGS, ["", ["Oak"]], ["oak"], True),
        (INTEGERS, [[1, 2]], "[1, 2]", False),
        (INTEGERS, ["numbers"], "numbers", True),
        (INTEGERS, ["numbers"], ["n"], False),
        (STRINGS, [["Oak Tree", "elm"]], ["oak-tree", "ELM"], True),
        (STRINGS, [["oak"]], [["oak"]], False),
        ({"type": "array", "items": {"type": "array"}}, [[["a"], ["b"]]], [["a"], ["b"]], True),
        ({"type": "array", "items": {"type": "array"}}, [[["a"], ["b"]]], [["A"], ["b"]], False),
        # elements may also have the type of the accepted list's first one
        (INTEGERS, [["a", "b"]], ["A", "b"], True),
        (INTEGERS, [["", 1]], [1], False),
        ({"type": "array", "items": {"type": "float"}}, [[1, 2]], [1, 2], True),
        ({"type": "array", "items": {"type": "float"}}, [[1.0, 2.0]], [1, 2], False),
        (PAIR, [[1.5, 2.5]], [1.5, 2.5], True),
        # "" among the accepted values lets any elements pass the test of types, not that of values
        (STRINGS, [["oak"], ""], [1], False),
        (INTEGERS, [[1]], [True], False),
        (INTEGERS, [[1], ""], [True], True),
        # dictionaries: accepted values a key, one level deep
        ("dict", [{"a": [1, 2], "b": ["x"]}], {"b": "X", "a": 2}, True),
        ("dict", [{"a": [1, 2], "b": ["x"]}], {"a": 2}, False),
        ("dict", [{"a": [1, 2], "b": ["x", ""]}], {"a": 2}, True),
        ("dict", [{"a": [1]}], {"a": 1, "c": 0}, False),
        ("dict", [{"a": [1]}], {"a": True}, True),
        ("dict", [{"a": [1]}], {"a": 1.0}, True),
        ("dict", [{"a": ["x"]}, {"b": ["y"]}], {"b": "y"}, True),
        ("dict", [{"a": [["X"]]}], {"a": ["x"]}, False),
        ("dict", ["", {"a": [1]}], {}, False),
        ("dict", ["", {"a": [1]}], {"a": 1}, True),
        ("dict", [{}], {}, True),
        # lists of dictionaries, in their order
        (DICTS, [[{"a": [1]}, {"a": [2]}]], [{"a": 1}, {"a": 2}], True),
        (DICTS, [[{"a": [1]}, {"a": [2]}]], [{"a": 2}, {"a": 1}], False),
        (DICTS, [[{"a": [1]}, {"a": [2]}]], [{"a": 1}], False),
        (DICTS, [[{"a": [1]}], ""], [], True),
        (DICTS, [[{"a": [1]}]], ["a"], False),
    ],
)
def test_python_values(schema: Any, accepted: list[Any], value: Any, ok: bool) -> None:
    assert verdict(schema, accepted, value) is ok


@pytest.mark.parametrize(
    ("category", "schema", "accepted", "value", "ok"),
    [
        ("simple_java", "long", [7], "7L", True),
        ("simple_java", "long", [7], "7", False),
        ("simple_java", "long", [7], 7, False),
        ("simple_java", "integer", [7], 7, False),
        ("simple_java", "long", ["size()"], "size()", True),
        ("simple_java", "String", ["oak tree"], "Oak Tree", True),
        ("simple_java", "String", ["oak"], '"oak"', False),
        ("simple_java", "double", [2], "2", True),
        ("simple_java", "boolean", [True], "true", True),
        ("simple_java", {"type": "Array", "items": {"type": "integer"}}, [[1, 2]], "new int[]{1, 2}", True),
        ("simple_java", {"type": "Array", "items": {"type": "integer"}}, [["x", "y"]], "new int[]{x, Y}", True),
        ("simple_java", {"type": "Array", "items": {"type": "integer"}}, ["xs"], "xs", True),
        ("simple_java", {"type": "ArrayList", "items": {"type": "String"}}, [["a"]], "new ArrayList<>()", False),
        ("simple_java", "HashMap", [{"a": [1]}], 'new HashMap<>() {{ put("a", 1); }}', True),
        ("simple_java", "HashMap", [{"a": [1]}], {"a": 1}, False),
        ("simple_javascript", "String", ["oak"], "'Oak'", True),
        ("simple_javascript", "float", [2.5], "2.5", True),
        ("simple_javascript", "float", [2], "2", True),
        ("simple_javascript", "Boolean", [True], True, False),
        ("simple_javascript", "Bigint", [7], "7n", True),
        ("simple_javascript", {"type": "array", "items": {"type": "String"}}, [["a", "b"]], "['A', \"b\"]", True),
        ("simple_javascript", "dict", [{"a": [1], "b": [""]}], "{a: 1}", True),
        ("simple_javascript", "any", ["callback"], "callback", True),
    ],
)
def test_source_text(category: str, schema: Any, accepted: list[Any], value: Any, ok: bool) -> None:
    assert verdict(schema, accepted, value, category) is ok


@pytest.mark.parametrize(
    ("category", "schema", "accepted", "value"),
    [
        ("simple_python", "number", [1], 1),
        ("simple_python", ["string"], ["a"], "a"),
        ("simple_python", {}, ["a"], "a"),
        ("simple_python", {"type": "array"}, [[1]], [1]),
        ("simple_python", {"type": "array", "items": {"type": "unknown"}}, [[1]], [1]),
        ("simple_python", INTEGERS, [[1], 5], [2]),
        ("simple_python", "dict", [{"a": 1}], {"a": 1}),
        ("simple_python", "dict", [{"a": {"b": [1]}}], {"a": {"b": 1}}),
        ("simple_python", "dict", [{"b": 5, "a": [1]}], {"a": 1}),
        ("simple_java", "Set", [["a"]], "new HashSet<>()"),
        ("simple_java", "integer", [1], "9" * 5000),
        ("simple_javascript", "Array", [[1]], "[1]"),
    ],
)
def test_what_the_published_checker_stops_at_is_not_right(
    category: str, schema: Any, accepted: list[Any], value: Any
) -> None:
    case = case_of(category, [function("f", ["x"], x=schema)], {"f": {"x": accepted}})
    reason = check(case, [ToolCall("f", {"x": value})])
    assert reason is not None
    assert reason.startswith("cannot be judged: ")


@pytest.mark.parametrize(
    ("arguments", "ok"),
    [
        ({"to": "a", "size": 1}, True),
        ({"size": 1, "to": "a"}, True),
        ({"to": "a"}, True),
        ({"size": 1}, False),
        ({"to": "a", "colour": "red"}, False),
        ({"to": "a", "note": "n"}, False),
        ({}, False),
    ],
)
def test_parameters(arguments: dict[str, Any], ok: bool) -> None:
    offered = function("f", ["to"], to="string", size="integer", note="string", colour="string")
    case = case_of("simple_python", [offered], {"f": {"to": ["a"], "size": [1, ""]}})
    assert (check(case, [ToolCall("f", arguments)]) is None) is ok


@pytest.mark.parametrize("name", ["unknown", "note"])
def test_a_parameter_must_be_in_the_document_and_in_the_answer(name: str) -> None:
    offered = function("f", [], note="string")
    case = case_of("simple_python", [offered], {"f": {"unknown": ["n", ""]}})
    assert check(case, [ToolCall("f", {name: "n"})]) == f"{name!r} is not expected"


def test_an_optional_parameter_that_the_answer_wants_may_not_be_left_out() -> None:
    case = case_of("simple_python", [function("f", [], size="integer")], {"f": {"size": [1]}})
    assert check(case, [ToolCall("f", {})]) == "'size' is missing"


def test_a_required_parameter_may_not_be_left_out_though_the_answer_would_let_it() -> None:
    case = case_of("simple_python", [function("f", ["size"], size="integer")], {"f": {"size": [1, ""]}})
    assert check(case, [ToolCall("f", {})]) == "'size' is required and missing"


def test_with_one_function_its_own_name_counts_and_elsewhere_the_answers() -> None:
    offered = [function("house.lamp", ["x"], x="integer"), function("other", ["x"], x="integer")]
    answer = {"house.lamp": {"x": [1]}}
    right = [ToolCall("house.lamp", {"x": 1})]
    assert check(case_of("multiple", offered, answer), right) is None
    assert check(case_of("multiple", offered[::-1], answer), right) is None
    assert check(case_of("simple_python", offered, {"renamed": {"x": [1]}}), right) is None
    assert check(case_of("simple_python", offered, answer), [ToolCall("house_lamp", {"x": 1})]) is not None
    assert check(case_of("multiple", offered, answer), [ToolCall("other", {"x": 1})]) is not None
    assert check(case_of("multiple", offered[1:], answer), right) is not None


PLUS = function("plus", ["x"], x="integer")
MINUS = function("minus", ["x"], x="integer")


def plus(x: Any) -> ToolCall:
    return ToolCall("plus", {"x": x})


@pytest.mark.parametrize(
    ("calls", "ok"),
    [
        ([plus(1), plus(2), ToolCall("minus", {"x": 1})], True),
        ([ToolCall("minus", {"x": 1}), plus(2), plus(1)], True),
        ([plus(1), plus(2)], False),
        ([plus(1), plus(2), plus(2)], False),
        ([plus(1), plus(2), ToolCall("minus", {"x": 1}), plus(1)], False),
        ([], False),
    ],
)
def test_parallel_calls_count_without_order(calls: list[ToolCall], ok: bool) -> None:
    answers = [{"plus": {"x": [1]}}, {"plus": {"x": [2]}}, {"minus": {"x": [1]}}]
    case = case_of("live_parallel_multiple", [PLUS, MINUS], *answers)
    assert (check(case, calls) is None) is ok


def test_an_answer_takes_the_first_call_that_fits_and_keeps_it() -> None:
    """1 fits both answers; taken by the wider one, it leaves 2 for the answer that wants 1."""
    case = case_of("parallel", [PLUS], {"plus": {"x": [1, 2]}}, {"plus": {"x": [1]}})
    assert check(case, [plus(1), plus(2)]) is not None
    assert check(case, [plus(2), plus(1)]) is None


def test_equal_calls_of_other_types_are_told_apart() -> None:
    """True == 1 in Python, so the call that is taken must be told by its place."""
    case = case_of("parallel", [function("plus", ["x"], x="any")], {"plus": {"x": [1]}}, {"plus": {"x": [True]}})
    assert check(case, [plus(True), plus(1)]) is None
    assert check(case, [plus(1), plus(1)]) is not None


def test_one_unjudgeable_pair_spoils_a_parallel_answer() -> None:
    offered = function("f", [], x="integer", y="number")
    case = case_of("parallel", [offered, PLUS], {"f": {"x": [1], "y": [1, ""]}}, {"plus": {"x": [1]}})
    assert check(case, [plus(1), ToolCall("f", {"x": 1})]) is None
    assert "cannot be judged" in (check(case, [ToolCall("f", {"y": 1}), ToolCall("f", {"x": 1})]) or "")


@pytest.mark.parametrize(
    ("category", "text", "ok"),
    [
        ("irrelevance", "I cannot do that.", True),
        ("irrelevance", "", True),
        ("irrelevance", "<tool_call>{broken</tool_call>", True),
        ("live_irrelevance", format_calls([plus(1)]), False),
        ("live_relevance", format_calls([plus(1)]), True),
        ("live_relevance", format_calls([ToolCall("not on offer", {})]), True),
        ("live_relevance", "I cannot do that.", False),
        ("live_relevance", "<tool_call>{broken</tool_call>", False),
    ],
)
def test_relevance_asks_for_a_readable_call_alone(category: str, text: str, ok: bool) -> None:
    assert judge(case_of(category, []), text).ok is ok


def test_a_verdict_names_its_case_and_its_reason() -> None:
    case = case_of("simple_python", [PLUS], {"plus": {"x": [1]}})
    right = judge(case, "Sure.\n" + format_calls([plus(1)]))
    assert (right.id, right.category, right.ok, right.reason) == ("invented", "simple_python", True, None)
    assert judge(case, "2").reason == "0 calls, where 1 are due"
    assert judge(case, format_calls([plus(2)])).reason == "'x' must be one of [1], not 2"
    malformed = judge(case, format_calls([plus(1)]) + "<tool_call>plus")
    assert not malformed.ok
    assert (malformed.reason or "").startswith("malformed: call 2")


def test_a_reason_stays_one_short_line() -> None:
    case = case_of("simple_python", [function("f", ["x"], x="string")], {"f": {"x": ["a" * 5000]}})
    reason = check(case, [ToolCall("f", {"x": "b\n" * 5000})])
    assert reason is not None
    assert "\n" not in reason
    assert len(reason) < 200
