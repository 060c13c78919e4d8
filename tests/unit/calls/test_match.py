"""Equality of calls, and the best matching behind argument accuracy."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_edge.calls.match import argument_hits, same_calls, same_value
from star_edge.contracts import ToolCall


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1, 1.0, True),
        (0, -0.0, True),
        (2**53 + 1, float(2**53), False),
        (True, True, True),
        (True, 1, False),
        (1, True, False),
        (0, False, False),
        (False, None, False),
        (0, None, False),
        (None, None, True),
        ("7", 7, False),
        ("a", "a", True),
        ("a", "A", False),
        ("a", "a ", False),
        ("é", "e\u0301", False),
        ("", None, False),
        ([], {}, False),
        ([1, 2], [1.0, 2], True),
        ([1, 2], [2, 1], False),
        ([1], [1, 1], False),
        ([True], [1], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ({"a": [{"b": "x"}]}, {"a": [{"b": "x"}]}, True),
        ({"a": [{"b": "x"}]}, {"a": [{"b": "y"}]}, False),
    ],
)
def test_values_are_equal_as_json_values(a, b, same):
    assert same_value(a, b) is same
    assert same_value(b, a) is same


F1, F2, G1 = ToolCall("f", {"a": 1}), ToolCall("f", {"a": 2}), ToolCall("g", {"a": 1})


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ([], [], True),
        ([F1], [ToolCall("f", {"a": 1.0})], True),
        ([F1, F2], [F2, F1], True),
        ([F1, F1, F2], [F1, F2, F1], True),
        ([F1, F1, F2], [F1, F2, F2], False),
        ([F1], [F1, F1], False),
        ([F1], [G1], False),
        ([F1], [], False),
    ],
)
def test_calls_are_equal_as_multisets(a, b, same):
    assert same_calls(a, b) is same
    assert same_calls(b, a) is same


@pytest.mark.parametrize(
    ("predicted", "target", "hits"),
    [
        ([], [], (0, 0)),
        ([F1], [], (0, 0)),
        ([], [F1, G1], (0, 2)),
        ([F1], [F1], (1, 1)),
        ([F2], [F1], (0, 1)),
        ([G1], [F1], (0, 1)),
        ([ToolCall("f", {"a": 1, "z": 9})], [ToolCall("f", {"a": 1, "b": 2})], (1, 2)),
        ([ToolCall("f", {"b": None})], [ToolCall("f", {"a": None})], (0, 1)),
        ([F2, F1], [F1, F2], (2, 2)),
        ([F1, F1], [F1, F2], (1, 2)),
        ([F1], [F2, F1], (1, 2)),
        ([ToolCall("f", {})], [ToolCall("f", {})], (0, 0)),
    ],
)
def test_argument_hits_by_hand(predicted, target, hits):
    assert argument_hits(predicted, target) == hits


def test_the_best_matching_beats_taking_the_first_best():
    """Greedily the first call takes the first target (2 hits) and leaves nothing for the second (0); best is 1 + 2."""
    first = ToolCall("f", {"a": 1, "b": 2, "c": 5})
    second = ToolCall("f", {"a": 1, "b": 2, "c": 9})
    x = ToolCall("f", {"a": 1, "b": 2, "c": 3})
    y = ToolCall("f", {"a": 0, "b": 0, "c": 5})
    assert argument_hits([first, second], [x, y]) == (3, 6)


SMALL_CALLS = st.lists(
    st.builds(ToolCall, st.sampled_from("fg"), st.dictionaries(st.sampled_from("abc"), st.integers(0, 1), max_size=3)),
    max_size=4,
)


@settings(deadline=None)
@given(SMALL_CALLS, SMALL_CALLS)
def test_argument_hits_are_the_best_over_every_matching(predicted, target):
    shorter, longer = sorted([predicted, target], key=len)

    def hits(a: ToolCall, b: ToolCall) -> int:
        return sum(a.arguments.get(k) == v for k, v in b.arguments.items()) if a.name == b.name else 0

    best = max(sum(map(hits, shorter, chosen)) for chosen in permutations(longer, len(shorter)))
    assert argument_hits(predicted, target) == (best, sum(len(call.arguments) for call in target))
