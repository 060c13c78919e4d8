"""Numbers, truth values, lists and objects that a function wants in a string."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from mix_rows import device

from star_edge.contracts import Example, Tool
from star_edge.data.stringified import stringified

PROPERTIES = {
    "ids": {"type": "array", "items": {"type": "integer"}, "description": "Which ones."},
    "deep": {"type": "boolean", "description": "Whether to look inside"},
    "name": {"type": "string", "description": "Whose"},
    "limit": {"type": "integer", "description": "At most", "minimum": 1},
    "bare": {"type": "number"},
    "box": {"type": "object", "description": "Where."},
    "keyed": {"type": "object", "description": "Who", "properties": {"x": {"type": "number", "description": "Left"}}},
    "pairs": {"type": "array", "description": "Which", "items": {"type": "object", "properties": {}}},
    "either": {"type": ["integer", "null"], "description": "How many"},
}
FIND: Tool = {"name": "find", "description": "Find.", "parameters": {"type": "object", "properties": PROPERTIES}}
ARGUMENTS = {
    "ids": [1, 2],
    "deep": True,
    "name": "Ann",
    "limit": 3,
    "bare": 1.5,
    "box": {"x": 0.5, "é": [None, 7.0]},
    "keyed": {},
    "pairs": [{}],
    "either": 2,
}


def found(id: str = "row", tools: tuple[Tool, ...] = (FIND,), **arguments: Any) -> Example:
    call = {"name": "find", "arguments": {**ARGUMENTS, **arguments}}
    turns = (
        {"role": "user", "content": "Find 1."},
        {"role": "assistant", "content": "", "tool_calls": [{"name": "find", "arguments": {"ids": [1]}}]},
        {"role": "tool", "content": "[1]"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    )
    return Example(id, "test", turns, tools, "single")


def changed(example: Example, seed: int = 1) -> Example:
    return stringified(example, share=1.0, seed=seed)


def test_values_become_strings_of_their_json_where_the_schema_is_plain() -> None:
    row = changed(found())
    assert row.target["tool_calls"][0]["arguments"] == {
        **ARGUMENTS, "ids": "[1, 2]", "deep": "true", "box": '{"x": 0.5, "é": [null, 7]}'
    }  # fmt: skip
    assert row.messages[1]["tool_calls"][0]["arguments"] == {"ids": "[1]"}
    assert (row.messages[0], row.messages[2]) == (found().messages[0], found().messages[2])


def test_descriptions_say_what_is_in_the_string() -> None:
    rows = [changed(found(f"row-{number}")) for number in range(60)]
    schemas = [row.tools[0]["parameters"]["properties"] for row in rows]
    assert {each["ids"]["description"] for each in schemas} == {
        "Which ones, as a JSON array in a string.",
        "Which ones (JSON array in string representation).",
        "Which ones, written as text: array.",
    }
    assert {each["deep"]["description"] for each in schemas} > {"Whether to look inside, as a JSON boolean in a string"}
    for each in schemas:
        assert [each[name].keys() for name in ("ids", "deep", "box")] == [{"type", "description"}] * 3
        assert {each[name]["type"] for name in ("ids", "deep", "box")} == {"string"}
        left = ("name", "limit", "bare", "keyed", "pairs", "either")
        assert {name: each[name] for name in left} == {name: PROPERTIES[name] for name in left}


def test_tools_that_are_not_called_change_alike_and_strings_stay_what_they_are() -> None:
    other = {**FIND, "name": "look"}
    row = changed(found(tools=(FIND, other), ids="[7]"))
    assert row.tools[1]["parameters"]["properties"]["ids"]["type"] == "string"
    assert row.target["tool_calls"][0]["arguments"]["ids"] == "[7]"


@pytest.mark.parametrize("tools", [(device("radio"),), ({**FIND, "parameters": {}},), ()])
def test_a_row_without_such_parameters_is_the_very_row(tools: tuple[Tool, ...]) -> None:
    row = found(tools=tools)
    assert changed(row) is row


def test_the_share_is_a_share_of_the_rows_and_the_given_row_is_left_alone() -> None:
    rows = [found(f"row-{number}") for number in range(400)]
    before = json.dumps([dataclasses.asdict(row) for row in rows])
    drawn = [stringified(row, share=0.25, seed=3) for row in rows]
    assert 70 < sum(new is not row for new, row in zip(drawn, rows, strict=True)) < 130
    assert drawn == [stringified(row, share=0.25, seed=3) for row in rows]
    assert drawn != [stringified(row, share=0.25, seed=4) for row in rows]
    assert json.dumps([dataclasses.asdict(row) for row in rows]) == before


def test_a_call_of_a_function_that_is_not_offered_stays() -> None:
    row = changed(found(tools=({**FIND, "name": "look"},)))
    assert row.target["tool_calls"][0]["arguments"] == ARGUMENTS
