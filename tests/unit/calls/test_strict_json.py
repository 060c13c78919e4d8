"""What counts as JSON, beyond what the parser's golden table shows."""

from __future__ import annotations

import pytest

from star_edge.calls.strict_json import MAX_DEPTH, loads, read_value


@pytest.mark.parametrize(
    ("text", "value"),
    [(" 1 ", 1), ('"é"', "é"), ("[]", []), ("\t{}\r\n", {}), ("-0.0", 0.0), ("1e2", 100.0), ('"\\ud83c\\udf89"', "🎉")],
)
def test_reads_any_json_value(text, value):
    assert loads(text) == value


@pytest.mark.parametrize("text", ["", " ", "NaN", "[Infinity]", "-Infinity", "1e400", "01", "{} {}", "'a'", "\ufeff1"])
def test_refuses_what_is_not_json(text):
    with pytest.raises(ValueError):
        loads(text)


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\udfff": 1}', '"\ud800"'])
def test_refuses_lone_surrogates(text):
    with pytest.raises(ValueError, match="surrogate"):
        loads(text)


def test_depth_is_counted_exactly():
    assert loads("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    with pytest.raises(ValueError, match="nested deeper"):
        loads("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))


def test_says_where_the_value_ends():
    assert read_value('x {"a": 1} y', 1) == ({"a": 1}, 10)
