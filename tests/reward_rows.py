"""What the tests of the rewards share: tools, strategies of calls and of garbage, and rows around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from star_edge.contracts import ToolCall

PARAMETERS = ("a", "b", "c")
TOOLS = [
    {"name": name, "description": "", "parameters": {"type": "object", "properties": {p: {} for p in PARAMETERS}}}
    for name in ("f", "g", "h")
]
WORDS = st.lists(st.sampled_from(["run", "Running", "dogs", "dog", "C++", "5", "é", "!", "", "day"]), max_size=8).map(
    " ".join
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner),
    max_leaves=5,
)
CALL = st.builds(ToolCall, st.sampled_from("fgh"), st.dictionaries(st.sampled_from(PARAMETERS), VALUES))
CALLS = st.lists(CALL, min_size=1, max_size=4)
FRAGMENTS = [
    "<tool_call>",
    "</tool_call>",
    '{"name": "f", "arguments": {"a": 1}}',
    "{",
    '"',
    "\ud800",
    "yyy",
    "<|im_end|>",
]
GARBAGE = st.lists(st.sampled_from(FRAGMENTS) | st.text(st.characters(), max_size=5), max_size=12).map("".join)


def target_of(calls: Sequence[ToolCall]) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"name": call.name, "arguments": call.arguments} for call in calls],
    }
