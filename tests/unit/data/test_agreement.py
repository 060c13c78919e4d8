"""What completions agree on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from mix_rows import device, row

from star_edge.calls.parse import format_calls
from star_edge.contracts import ToolCall
from star_edge.data.agreement import agreed

PROMPT = row("p", "Light and radio on.", reply="", tools=(device("light"), device("radio")))
LIGHT, RADIO = ToolCall("switch_light", {"state": "on"}), ToolCall("switch_radio", {"state": "on"})
OFF = ToolCall("switch_light", {"state": "off"})
ON = format_calls([LIGHT])


@pytest.mark.parametrize(
    ("completions", "needed", "called"),
    [
        ([ON, ON, ON, "Sorry."], 3, ["switch_light"]),
        ([ON, ON, "Sorry.", format_calls([OFF])], 3, None),
        ([format_calls([LIGHT, RADIO]), format_calls([RADIO, LIGHT])], 2, ["switch_light", "switch_radio"]),
        ([format_calls([OFF]), ON, ON], 1, ["switch_light"]),
        (["Sorry."] * 4, 1, None),  # replies are no label
        ([format_calls([ToolCall("unknown", {})])] * 4, 1, None),
        ([format_calls([ToolCall("switch_light", {"level": "7"})])] * 4, 1, None),
        (["<tool_call>\n{broken"] * 4, 1, None),
        ([], 1, None),
    ],
)
def test_enough_equal_calls_make_a_row(completions: Sequence[str], needed: int, called: list[str] | None) -> None:
    made = agreed(PROMPT, completions, needed=needed)

    assert (None if made is None else [call.name for call in made.target_calls]) == called


def test_row_is_the_prompt_with_the_first_of_the_equal_answers() -> None:
    made = agreed(PROMPT, [format_calls([RADIO, LIGHT]), format_calls([LIGHT, RADIO])], needed=2)

    assert made is not None
    assert made.prompt == PROMPT.prompt
    assert made.target_calls == (RADIO, LIGHT)
    assert (made.id, made.kind) == ("p", "parallel")


def test_the_largest_group_wins_whatever_came_first() -> None:
    made = agreed(PROMPT, [format_calls([OFF]), ON, ON], needed=1)

    assert made is not None
    assert made.target_calls == (LIGHT,)
    assert made.kind == "multiple"
