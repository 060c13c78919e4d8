"""Prompts without an answer that lose the tool they are for, or get further ones."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import cast

import pytest
from mix_rows import THINGS, device, row, single, tool

from star_edge.contracts import Example, MixConfig
from star_edge.data.irrelevance import REFUSALS, is_for_its_tool
from star_edge.data.lengths import Lengths, Ruler
from star_edge.data.tool_pool import ToolPool
from star_edge.data.unlabelled import refused, reworked

EMPTY = {"role": "assistant", "content": ""}
KIND = {"role": "system", "content": "Be kind."}
MIX = MixConfig(rows=1, near_miss_share=0.5, unlabelled_irrelevance_share=0.4, max_tools=4)
ALIKE = [tool(f"switch_{word}", f"Change {word}s.") for word in ("camera", "account")]
OTHERS = [
    tool(name, description)
    for name, description in (
        ("tax_report", "Prints what is owed."),
        ("tell_joke", "Makes people laugh."),
        ("harvest_wheat", "Starts the machines."),
        ("buy_ticket", "Books seats for shows."),
    )
]
POOL = ToolPool([*ALIKE, *OTHERS])


def prompt(id: str, thing: str = "light") -> Example:
    asked = single(id, thing)
    return dataclasses.replace(asked, messages=(*asked.prompt, EMPTY), kind="")


PROMPTS = [prompt(f"p{number}", THINGS[number % len(THINGS)]) for number in range(400)]


class Short:
    """Takes what has at most so many tools."""

    def __init__(self, most: int) -> None:
        self.most = most

    def prompts(self, examples: Sequence[Example]) -> list[Lengths | None]:
        return [(len(example.tools), 0) if len(example.tools) <= self.most else None for example in examples]


def changed_rows(config: MixConfig, *, most: int = 9, pool: ToolPool = POOL) -> list[Example]:
    ruler = cast(Ruler, Short(most))
    rows = list(reworked(PROMPTS, config, pool, ruler, seed=3))
    for before, (made, lengths) in zip(PROMPTS, rows, strict=True):
        assert lengths == (None if made is before else (len(made.tools), 0))
    return [made for made, _ in rows]


@pytest.mark.parametrize(
    ("example", "answer"),
    [
        (PROMPTS[0], True),
        (dataclasses.replace(PROMPTS[0], messages=(KIND, *PROMPTS[0].messages)), True),
        (dataclasses.replace(PROMPTS[0], messages=(*PROMPTS[0].messages, *PROMPTS[0].messages)), False),
        (dataclasses.replace(PROMPTS[0], tools=(device("light"), device("radio"))), False),
        (dataclasses.replace(PROMPTS[0], tools=()), False),
        (single("answered"), False),
        (row("refused", "Sing.", reply="No.", tools=(device("light"),)), False),
    ],
)
def test_a_single_request_with_one_tool_and_no_answer_is_for_that_tool(example: Example, answer: bool) -> None:
    assert is_for_its_tool(example) is answer


def test_a_share_of_the_prompts_gets_one_tool_for_another_and_a_refusal() -> None:
    rows = changed_rows(MIX)
    lost = [(row, before) for row, before in zip(rows, PROMPTS, strict=True) if row.has_answer]
    alike = [row for row, _ in lost if row.id.endswith("(confusable)")]

    assert 130 <= len(lost) <= 190
    assert all(row is before for row, before in zip(rows, PROMPTS, strict=True) if not row.has_answer)
    assert all(row.target["content"] in REFUSALS and row.kind == "irrelevance" for row, _ in lost)
    assert all(row.prompt == before.prompt for row, before in lost)
    assert all(len(row.tools) == 1 and row.tools[0] != before.tools[0] for row, before in lost)
    assert 0.4 <= len(alike) / len(lost) <= 0.6
    assert {row.tools[0]["name"] for row in alike} == {"switch_camera", "switch_account"}
    shuffled = random.Random(2).sample(PROMPTS, len(PROMPTS))
    made = reworked(shuffled, MIX, POOL, cast(Ruler, Short(9)), seed=3)
    again = {before.id: row for before, (row, _) in zip(shuffled, made, strict=True)}
    assert rows == [again[before.id] for before in PROMPTS], "the draw hangs on seed and id"


def test_another_sort_of_tool_does_where_the_pool_has_none_of_one() -> None:
    config = dataclasses.replace(MIX, unlabelled_irrelevance_share=1.0)
    for pool, how in ((ToolPool(ALIKE), "confusable"), (ToolPool(OTHERS), "unrelated")):
        made = [refused(example, config, pool, seed=3) for example in PROMPTS[:40]]
        assert all(row is not None and row.id.endswith(f"({how})") for row in made)
    assert refused(PROMPTS[0], config, ToolPool([device("light")]), seed=3) is None


def test_distractors_join_calls_and_refusals_alike() -> None:
    rows = changed_rows(dataclasses.replace(MIX, unlabelled_distractor_share=0.5))
    for answered in (True, False):
        counts = [len(row.tools) for row in rows if row.has_answer is answered]
        assert 0.4 <= sum(count > 1 for count in counts) / len(counts) <= 0.6
        assert max(counts) == 4


def test_what_was_taken_away_does_not_come_back() -> None:
    twin = tool("radio_switch_now", "Switch the radio on or off.")
    pool = ToolPool([*(device(thing) for thing in THINGS), twin, *OTHERS])
    config = dataclasses.replace(MIX, unlabelled_irrelevance_share=1.0, unlabelled_distractor_share=1.0)
    crowds = [
        (before, made)
        for before, made in zip(PROMPTS, changed_rows(config, pool=pool), strict=True)
        if made.has_answer and len(made.tools) > 1
    ]
    assert len(crowds) > 200
    for before, made in crowds:
        names = {each["name"] for each in made.tools}
        assert before.tools[0]["name"] not in names
        assert before.tools[0]["name"] != "switch_radio" or twin["name"] not in names


def test_a_prompt_without_room_keeps_what_fits() -> None:
    config = dataclasses.replace(MIX, unlabelled_distractor_share=1.0)
    rows = changed_rows(config, most=1)

    assert {len(row.tools) for row in rows} == {1}
    assert [row.has_answer for row in rows] == [row.has_answer for row in changed_rows(MIX)]
