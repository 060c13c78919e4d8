from __future__ import annotations

import pytest

from star_edge.calls.offered import all_offered
from star_edge.contracts import ToolCall

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}}
FLAT = [{"name": "f", "parameters": SCHEMA}, {"name": "g", "parameters": {"type": "object"}}]
WRAPPED = [{"type": "function", "function": tool} for tool in FLAT]
BARE = [{"name": "f", "parameters": {"a": {"type": "str"}, "b": {"type": "int"}}}, {"name": "g"}]


@pytest.mark.parametrize("tools", [FLAT, WRAPPED, BARE], ids=["flat", "wrapped", "bare mapping"])
@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([], True),
        ([ToolCall("f", {})], True),
        ([ToolCall("f", {"b": 1, "a": "x"}), ToolCall("g", {})], True),
        ([ToolCall("f", {"c": 1})], False),
        ([ToolCall("g", {"a": 1})], False),
        ([ToolCall("f", {}), ToolCall("h", {})], False),
        ([ToolCall("F", {})], False),
    ],
)
def test_only_offered_functions_and_parameters_pass(tools, calls, expected):
    assert all_offered(calls, tools) is expected


def test_nothing_is_offered_by_no_tools():
    assert all_offered([], [])
    assert not all_offered([ToolCall("f", {})], [])
