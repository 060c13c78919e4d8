"""Which rows a student learns from by Sim-RL."""

import re

import pytest

from star_edge.contracts import Example, StudentRlConfig
from star_edge.errors import TrainingError
from star_edge.rl.rows import chosen

TOOL = {"name": "dim", "description": "Dim.", "parameters": {"type": "object", "properties": {}}}


def row(id: str, source: str, kind: str = "", calls: int = 0) -> Example:
    answer = {"role": "assistant", "content": "", "tool_calls": [{"name": "dim", "arguments": {}}] * calls}
    return Example(id, source, ({"role": "user", "content": "Dim"}, answer), (TOOL,), kind=kind)


# Rows of a plain file state no kind; it is told by their calls.
ROWS = [row("a", "apis", "irrelevance"), row("b", "apis", calls=1), row("c", "home", "single"), row("d", "chat")]


@pytest.mark.parametrize(
    ("config", "left"),
    [
        (StudentRlConfig(), "abcd"),
        (StudentRlConfig(skip_distilled=True), "bd"),
        (StudentRlConfig(sources=("apis", "home")), "abc"),
        (StudentRlConfig(kinds=("single",)), "bc"),
        (StudentRlConfig(kinds=("plain",)), "d"),
        (StudentRlConfig(sources=("apis",), kinds=("single",), skip_distilled=True), "b"),
    ],
)
def test_rows_are_left_that_meet_all_that_is_asked_for(config: StudentRlConfig, left: str) -> None:
    assert "".join(example.id for example in chosen(config, ROWS, distilled={"a", "c"})) == left


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (StudentRlConfig(sources=("apis", "apsi")), "no training row of 'apsi'; there are apis, chat, home"),
        (StudentRlConfig(sources=("chat",), kinds=("single",)), "leave no row; ask for less in them"),
    ],
)
def test_what_no_row_meets_is_refused(config: StudentRlConfig, reason: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(reason)):
        chosen(config, ROWS, distilled=())
