"""The strict reader against a golden table and properties; the lenient one against the shapes models fall into."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_edge.calls.match import same_value
from star_edge.calls.parse import END_TOKENS, format_calls, parse_completion, parse_lenient, strip_end_tokens
from star_edge.contracts import ToolCall

GOLDEN = Path(__file__).parents[2] / "golden" / "parse.jsonl"
ROWS = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
CALLS = st.lists(st.builds(ToolCall, TEXT, st.dictionaries(TEXT, JSON, max_size=4)), max_size=4)
FRAGMENTS = [
    *("<tool_call>", "</tool_call>", "{", "}", "[", "]", ":", ",", '"', "\\", "\\ud800", "\ud800", "NaN", "1e999"),
    *('"name"', '"arguments"', '{"name": "f", "arguments": {}}', "```json\n", "\r\n", "<|im_end|>", "\x00", "é"),
]
GARBAGE = st.lists(st.sampled_from(FRAGMENTS) | st.text(st.characters(), max_size=5), max_size=20).map("".join)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_reads_the_golden_table(row):
    parsed = parse_completion(row["text"])
    assert [{"name": call.name, "arguments": call.arguments} for call in parsed.calls] == row["calls"]
    assert json.dumps([dict(call.arguments) for call in parsed.calls]) == json.dumps(
        [call["arguments"] for call in row["calls"]]
    )
    assert parsed.reply == row["reply"]
    assert parsed.is_malformed is row["malformed"]


def test_golden_ids_are_unique():
    assert len({row["id"] for row in ROWS}) == len(ROWS) >= 60


@settings(deadline=None)
@given(CALLS, TEXT)
def test_what_is_formatted_is_read_back(calls, reply):
    text = format_calls(calls)
    parsed = parse_completion(text)
    assert parsed.error is None
    assert parsed.reply == ""
    assert [call.name for call in parsed.calls] == [call.name for call in calls]
    assert all(same_value(a.arguments, b.arguments) for a, b in zip(parsed.calls, calls, strict=True))
    assert [list(call.arguments) for call in parsed.calls] == [list(call.arguments) for call in calls]
    for ending in END_TOKENS:
        assert parse_completion(text + "\n" + ending).calls == parsed.calls


@settings(deadline=None)
@given(GARBAGE)
def test_garbage_never_raises_and_gives_calls_or_error_never_both(text):
    parsed = parse_completion(text)
    if "<tool_call>" not in text:
        assert parsed.error is None
        assert parsed.calls == ()
    else:
        assert bool(parsed.calls) is not parsed.is_malformed
    json.dumps([dict(call.arguments) for call in parsed.calls], ensure_ascii=False, allow_nan=False).encode()
    parse_lenient(text)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":', '{"name": "f", "arguments": {"a":' + "[" * 70])
@pytest.mark.parametrize("count", [65, 990, 100_000])
def test_deep_nesting_is_malformed_and_does_not_end_the_stack(opening, count):
    parsed = parse_completion("<tool_call>" + opening * count)
    assert parsed.is_malformed
    assert parse_lenient(opening * count) == ()


@pytest.mark.parametrize(("depth", "malformed"), [(60, False), (62, False), (63, True), (400, True), (900, True)])
def test_well_formed_nesting_has_a_limit(depth, malformed):
    value = "[" * depth + "]" * depth
    text = f'<tool_call>{{"name": "f", "arguments": {{"a": {value}}}}}</tool_call>'
    assert parse_completion(text).is_malformed is malformed


def test_many_brackets_side_by_side_are_not_deep():
    text = '<tool_call>{"name": "f", "arguments": {"a": [' + ",".join(["[]"] * 500) + "]}}</tool_call>"
    assert len(parse_completion(text).calls) == 1


def test_a_number_longer_than_python_takes_is_malformed():
    assert parse_completion('<tool_call>{"name": "f", "arguments": {"a": ' + "9" * 5000 + "}}").is_malformed


def test_the_error_says_which_call_and_where():
    parsed = parse_completion('<tool_call>{"name": "f", "arguments": {}}</tool_call>\n<tool_call>{</tool_call>')
    assert parsed.error is not None
    assert parsed.error.startswith("call 2 at character 54: ")


def test_end_tokens_inside_the_text_stay():
    assert strip_end_tokens(" a <|im_end|> b </s> <|im_end|>\n") == "a <|im_end|> b"


F = {"name": "f", "arguments": {"a": 1}}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("<tool_call>" + json.dumps(F) + "</tool_call>", ["f"]),
        ("```json\n" + json.dumps(F, indent=2) + "\n```", ["f"]),
        ("I call " + json.dumps(F) + " now", ["f"]),
        (json.dumps([F, {"name": "g", "arguments": {}}]), ["f", "g"]),
        ("<tool_call>" + json.dumps([F]) + "</tool_call>", ["f"]),
        (json.dumps({"type": "function", "function": F}), ["f"]),
        (json.dumps({"name": "f", "parameters": {"a": 1}}), ["f"]),
        ("[1, 2] {oops " + json.dumps(F), ["f"]),
        ('{"name": "f"}', []),
        ('{"answer": 42}', []),
        ("just words", []),
    ],
    ids=[
        "strict",
        "fence",
        "in words",
        "list",
        "list in block",
        "wrapped",
        "parameters",
        "junk",
        "no args",
        "other",
        "none",
    ],
)
def test_the_lenient_reader_finds_calls_in_other_shapes(text, names):
    assert [call.name for call in parse_lenient(text)] == names
