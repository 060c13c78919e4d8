"""Tools and calls from every shape that data sets use, to the canonical one."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_edge.calls.schema import normalise_call, normalise_tool, normalise_tools
from star_edge.contracts import ToolCall
from star_edge.errors import DataError

CANONICAL = {
    "name": "set.alarm",
    "description": "Set an alarm.",
    "parameters": {
        "type": "object",
        "properties": {
            "time": {"description": "HH:MM", "type": "string", "pattern": "^..:..$"},
            "days": {"type": "array", "items": {"type": "string", "enum": ["mon", "tue"]}, "default": []},
            "sound": {"type": "object", "properties": {"type": {"type": "string"}}, "required": ["type"]},
            "volume": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        },
        "required": ["time"],
        "additionalProperties": False,
    },
}


def properties(raw: dict) -> dict:
    return normalise_tool({"name": "f", "parameters": {"type": "object", "properties": raw}})["parameters"][
        "properties"
    ]


def test_a_canonical_tool_passes_unchanged_in_key_order():
    tool = normalise_tool(CANONICAL)
    assert tool == CANONICAL
    assert list(tool) == ["name", "description", "parameters"]
    assert list(tool["parameters"]["properties"]["time"]) == ["description", "type", "pattern"]


def test_wrapped_tools_are_unwrapped_and_other_keys_dropped():
    assert normalise_tool({"type": "function", "function": {**CANONICAL, "strict": True}}) == CANONICAL


@pytest.mark.parametrize(
    "parameters", [None, {}, {"type": "object"}, {"type": "dict"}, {"type": "object", "required": []}]
)
def test_a_tool_without_parameters_gets_an_empty_object_schema(parameters):
    tool = normalise_tool({"name": "f", "parameters": parameters})
    assert tool["description"] == ""
    assert tool["parameters"]["type"] == "object"
    assert tool["parameters"]["properties"] == {}


def test_missing_parameters_and_null_description_are_filled_in():
    assert normalise_tool({"name": "f", "description": None}) == {
        "name": "f",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    }


def test_a_bare_mapping_requires_what_is_neither_optional_nor_defaulted():
    raw = {
        "city": {"type": "str", "description": "City."},
        "days": {"type": "int, optional", "description": "Days."},
        "units": {"type": "str", "default": "metric"},
        "tags": "List[str]",
        "type": {"type": "str = any"},
    }
    assert normalise_tool({"name": "f", "parameters": raw})["parameters"] == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "City."},
            "days": {"type": "integer", "description": "Days."},
            "units": {"type": "string", "default": "metric"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "type": {"type": "string", "default": "any"},
        },
        "required": ["city", "tags"],
    }


@pytest.mark.parametrize(
    ("raw", "schema"),
    [
        ({"type": "List[int]"}, {"type": "array", "items": {"type": "integer"}}),
        ({"type": "List", "items": {"type": "str"}}, {"type": "array", "items": {"type": "string"}}),
        ({"type": "List[int]", "items": {"type": "number"}}, {"type": "array", "items": {"type": "number"}}),
        (
            {"type": "dict", "properties": {"a": {"type": "float"}}},
            {"type": "object", "properties": {"a": {"type": "number"}}},
        ),
        ({"type": ["str", "null"]}, {"type": ["string", "null"]}),
        ({"type": "any", "description": "d"}, {"description": "d"}),
        ({"enum": ["a", 1]}, {"enum": ["a", 1]}),
        ({"oneOf": [{"type": "str"}, {"type": "int"}]}, {"oneOf": [{"type": "string"}, {"type": "integer"}]}),
        ({"type": "float = 3", "default": 4}, {"type": "number", "default": 4}),
        (
            {"type": "dict", "additionalProperties": {"type": "int"}},
            {"type": "object", "additionalProperties": {"type": "integer"}},
        ),
        ("bool", {"type": "boolean"}),
    ],
)
def test_types_are_read_at_every_depth(raw, schema):
    assert properties({"p": raw, "q": {"type": "array", "items": raw}}) == {
        "p": schema,
        "q": {"type": "array", "items": schema},
    }


@pytest.mark.parametrize(
    ("raw", "required"),
    [
        ({"a": {"type": "str"}, "b": {"type": "str, optional"}}, ["a"]),
        ({"a": {"type": "str", "required": True}, "b": {"type": "str", "required": False}}, ["a"]),
        ({"a": {"type": "str"}, "b": {"type": "int", "optional": True}}, ["a"]),
        ({"a": {"type": "str"}, "b": {"type": "str"}}, None),
    ],
)
def test_required_comes_from_the_properties_when_the_schema_has_no_list(raw, required):
    schema = normalise_tool({"name": "f", "parameters": {"properties": raw}})["parameters"]
    assert schema.get("required") == required
    assert "required" not in schema["properties"]["a"]


def test_a_given_required_list_is_kept():
    raw = {"type": "object", "properties": {"a": {"type": "str, optional"}}, "required": ["a"]}
    assert normalise_tool({"name": "f", "parameters": raw})["parameters"]["required"] == ["a"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("f", "must be an object, not str"),
        ({"function": "f"}, "'function' must be an object"),
        ({"description": "no name"}, "needs a 'name'"),
        ({"name": ""}, "needs a 'name'"),
        ({"name": 3}, "needs a 'name'"),
        ({"name": "f", "description": 3}, "'description' must be a string"),
        ({"name": "f", "parameters": [1]}, "'parameters' must be an object, not list"),
        ({"name": "f", "parameters": {"type": "array", "properties": {}}}, "must describe an object"),
        ({"name": "f", "parameters": {"a": 3}}, "parameter 'a' must be a schema, not int"),
        ({"name": "f", "parameters": {"a": {"type": "strnig"}}}, "parameter 'a': unknown type 'strnig'"),
        ({"name": "f", "parameters": {"a": {"type": 3}}}, "type of parameter 'a' must be a string"),
        ({"name": "f", "parameters": {"properties": {"a": {"properties": 3}}}}, "'properties' of 'a'"),
        ({"name": "f", "parameters": {"properties": {}, "required": 3}}, "'required' of 'parameters' .* not 3"),
        ({"name": "f", "parameters": {"properties": {"a": {}}, "required": "a"}}, "must be a list of names, not 'a'"),
        ({"name": "f", "parameters": {"properties": {"a": {}}, "required": ["a", 3]}}, "must be a list of names"),
        ({"name": "f", "parameters": {"properties": {"a": {"required": 5}}}}, "'required' of 'a' .* not 5"),
        ({"name": "f", "parameters": {"properties": {}, "anyOf": 5}}, "'anyOf' of 'parameters' .* schemas, not 5"),
        (
            {"name": "f", "parameters": {"properties": {"a": {"oneOf": {"type": "int"}}}}},
            "'oneOf' of 'a' must be a list",
        ),
    ],
)
def test_a_bad_tool_is_refused_in_one_line(raw, reason):
    with pytest.raises(DataError, match=reason) as caught:
        normalise_tool(raw)
    assert "\n" not in str(caught.value)


def test_a_schema_that_never_ends_is_refused():
    schema: dict = {"type": "string"}
    for _ in range(40):
        schema = {"type": "array", "items": schema}
    with pytest.raises(DataError, match="nests deeper"):
        normalise_tool({"name": "f", "parameters": {"properties": {"a": schema}}})


def test_normalising_leaves_its_input_alone_and_is_idempotent():
    raw = {"name": "f", "parameters": {"a": {"type": "List[int], optional"}, "b": "str"}}
    before = copy.deepcopy(raw)
    tool = normalise_tool(raw)
    assert raw == before
    assert normalise_tool(tool) == tool
    jsonschema.Draft202012Validator.check_schema(tool["parameters"])


def test_lists_of_tools():
    assert normalise_tools(None) == ()
    assert [tool["name"] for tool in normalise_tools([{"name": "b"}, {"name": "a"}])] == ["b", "a"]
    with pytest.raises(DataError, match="offered twice"):
        normalise_tools([{"name": "a"}, {"name": "a"}])
    with pytest.raises(DataError, match="must be a list"):
        normalise_tools({"name": "a"})


@pytest.mark.parametrize(
    "raw",
    [
        {"name": "f.g", "arguments": {"b": "7", "a": 7}},
        {"name": "f.g", "arguments": '{"b": "7", "a": 7}'},
        {"type": "function", "id": "c1", "function": {"name": "f.g", "arguments": {"b": "7", "a": 7}}},
        {"function": {"name": "f.g", "arguments": '{"b": "7", "a": 7}'}},
    ],
)
def test_calls_become_flat_with_types_and_key_order_kept(raw):
    call = normalise_call(raw)
    assert call == ToolCall("f.g", {"b": "7", "a": 7})
    assert list(call.arguments) == ["b", "a"]


@pytest.mark.parametrize("raw", [{"name": "f"}, {"name": "f", "arguments": None}, {"name": "f", "arguments": " "}])
def test_a_call_without_arguments_has_none(raw):
    assert normalise_call(raw) == ToolCall("f", {})


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "must be an object"),
        ({"arguments": {}}, "needs a 'name'"),
        ({"name": "f", "arguments": [1]}, "must be an object, not list"),
        ({"name": "f", "arguments": 0}, "must be an object, not int"),
        ({"name": "f", "arguments": "{a: 1}"}, "are not JSON"),
        ({"name": "f", "arguments": '{"a": NaN}'}, "NaN is not JSON"),
        ({"name": "f", "arguments": "[1]"}, "must be an object, not list"),
    ],
)
def test_a_bad_call_is_refused_in_one_line(raw, reason):
    with pytest.raises(DataError, match=reason) as caught:
        normalise_call(raw)
    assert "\n" not in str(caught.value)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "str", "List[int]", "f", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "type", "properties", "items", "required", "anyOf", "a", "function"]), inner
        )
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["name", "function", "parameters", "arguments", "description"]), JUNK))
def test_junk_is_normalised_or_refused(raw):
    for normalise in (normalise_tool, normalise_call):
        with contextlib.suppress(DataError):
            normalise(raw)


def test_a_null_list_of_required_names_is_none_at_all():
    parameters = normalise_tool({"name": "f", "parameters": {"properties": {"a": {}}, "required": None}})["parameters"]
    assert parameters == {"type": "object", "properties": {"a": {}}}


def test_equal_tools_of_several_rows_are_read_once() -> None:
    known: dict[bytes, Any] = {}
    first = normalise_tools([{"name": "a"}, {"name": "b"}], known=known)
    second = normalise_tools([{"name": "b"}, {"name": "a", "description": "Another."}], known=known)

    assert second[0] is first[1]
    assert second[1] == normalise_tool({"name": "a", "description": "Another."})
    assert first == normalise_tools([{"name": "a"}, {"name": "b"}])
    with pytest.raises(DataError, match="offered twice"):
        normalise_tools([{"name": "a"}, {"name": "a"}], known=known)
