"""Which rows a teacher and a student learn from by Sim-RL."""

import dataclasses
import re

import pytest

from star_edge.contracts import AdaptConfig, Example, OptimizerConfig, SimRlConfig, StudentRlConfig
from star_edge.errors import TrainingError
from star_edge.rl.rows import student_rows, teacher_rows

TOOL = {"name": "dim", "description": "Dim.", "parameters": {"type": "object", "properties": {}}}


def row(id: str, source: str, kind: str = "", calls: int = 0) -> Example:
    answer = {"role": "assistant", "content": "", "tool_calls": [{"name": "dim", "arguments": {}}] * calls}
    return Example(id, source, ({"role": "user", "content": "Dim"}, answer), (TOOL,), kind=kind)


# Rows of a plain file state no kind; it is told by their calls.
ROWS = [row("a", "apis", "irrelevance"), row("b", "apis", calls=1), row("c", "home", "single"), row("d", "chat")]
WARMUP = OptimizerConfig()


def left_for(config: AdaptConfig | StudentRlConfig) -> str:
    """The ids of the rows that are left when the teacher has answered a and c."""
    config = dataclasses.replace(config, sim_rl=SimRlConfig(prompts_per_step=1))
    if isinstance(config, AdaptConfig):
        found = teacher_rows(config, ROWS)
    else:
        found = student_rows(config, ROWS, distilled={"a", "c"})
    return "".join(example.id for example in found)


@pytest.mark.parametrize(
    ("config", "left"),
    [
        (StudentRlConfig(), "abcd"),
        (StudentRlConfig(skip_distilled=True), "bd"),
        (StudentRlConfig(sources=("apis", "home")), "abc"),
        (StudentRlConfig(kinds=("single",)), "bc"),
        (StudentRlConfig(kinds=("plain",)), "d"),
        (StudentRlConfig(sources=("apis",), kinds=("single",), skip_distilled=True), "b"),
        (AdaptConfig(), "abcd"),
        (AdaptConfig(warmup=WARMUP, warmup_rows=2), "abcd"),
        (AdaptConfig(warmup=WARMUP, warmup_rows=2, skip_warmup=True), "cd"),
        (AdaptConfig(warmup=None, warmup_rows=2, skip_warmup=True), "abcd"),
        (AdaptConfig(warmup=None, skip_warmup=True), "abcd"),
        (AdaptConfig(sources=("home", "apis")), "abc"),
        (AdaptConfig(kinds=("single", "plain")), "bcd"),
        (AdaptConfig(warmup=WARMUP, warmup_rows=1, skip_warmup=True, sources=("apis",), kinds=("single",)), "b"),
    ],
)
def test_rows_are_left_that_meet_all_that_is_asked_for(config: AdaptConfig | StudentRlConfig, left: str) -> None:
    assert left_for(config) == left


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            StudentRlConfig(sources=("apis", "apsi")),
            "sim_rl.sources: no training row of 'apsi'; there are apis, chat, home",
        ),
        (
            StudentRlConfig(sources=("chat",), kinds=("single",)),
            "sim_rl: skip_distilled, sources and kinds leave 0 of 4 training rows, fewer than prompts_per_step (1); "
            "ask for less in those, or lower it",
        ),
        (AdaptConfig(sources=("apsi",)), "adapt.sources: no training row of 'apsi'; there are apis, chat, home"),
        (
            AdaptConfig(warmup=WARMUP, warmup_rows=9, skip_warmup=True),
            "adapt: skip_warmup, sources and kinds leave 0 of 4 training rows, fewer than prompts_per_step (1); "
            "ask for less in those, or lower it",
        ),
    ],
)
def test_what_no_row_meets_is_refused_by_the_section_that_asks(
    config: AdaptConfig | StudentRlConfig, reason: str
) -> None:
    with pytest.raises(TrainingError, match=f"^{re.escape(reason)}$"):
        left_for(config)


def test_a_step_needs_as_many_rows_as_it_has_prompts() -> None:
    for prompts, is_enough in ((4, True), (5, False)):
        config = AdaptConfig(sim_rl=SimRlConfig(prompts_per_step=prompts))
        if is_enough:
            assert len(teacher_rows(config, ROWS)) == 4
        else:
            with pytest.raises(
                TrainingError, match=r"^adapt: there are 4 training rows, fewer than prompts_per_step \(5\); lower it$"
            ):
                teacher_rows(config, ROWS)
