"""Further tools among a row's own."""

from __future__ import annotations

import dataclasses

from mix_rows import THINGS, device, row, single, tool

from star_edge.contracts import Example
from star_edge.data.distractors import with_distractors
from star_edge.data.tool_pool import ToolPool

POOL = ToolPool(device(thing) for thing in THINGS)
OTHERS = ToolPool(tool(f"{thing}_report", f"Prints what a {thing} did.") for thing in THINGS)
ROWS = [single(f"row-{number}") for number in range(200)]


def test_half_of_the_added_tools_may_be_like_an_offered_one() -> None:
    near = [tool(f"switch_{word}", f"Changes what the {word} is.") for word in ("lens", "account", "plan", "host")]
    for example in ROWS[:60]:
        made = with_distractors(example, ToolPool([*OTHERS.tools, *near]), share=1.0, max_tools=5, seed=7, alike=True)
        added = [each["name"] for each in made.tools if each not in example.tools]
        alike = sum("switch" in name or "light" in name for name in added)
        assert (len(added) + 1) // 2 <= alike
        plain = with_distractors(example, OTHERS, share=1.0, max_tools=5, seed=7, alike=True)
        assert 2 <= len(plain.tools) <= 5, "a pool without any gives others"
        assert len({each["name"] for each in made.tools}) == len(made.tools)


def crowded(example: Example, pool: ToolPool = OTHERS, *, share: float = 1.0, max_tools: int = 4) -> Example:
    return with_distractors(example, pool, share=share, max_tools=max_tools, seed=7)


def test_single_candidate_rows_become_multiple_candidate() -> None:
    changed = [crowded(example) for example in ROWS]

    assert {len(example.tools) for example in changed} == {2, 3, 4}
    assert {example.kind for example in changed} == {"multiple"}
    assert all(example.messages == before.messages for example, before in zip(changed, ROWS, strict=True))


def test_own_tools_keep_their_order_and_may_stand_anywhere() -> None:
    two = [dataclasses.replace(example, tools=(device("light"), device("radio"))) for example in ROWS]
    places = set()
    for example in map(crowded, two):
        names = [each["name"] for each in example.tools]
        assert names.index("switch_light") < names.index("switch_radio")
        places.add(names.index("switch_light"))

    assert places == {0, 1, 2}


def test_no_added_tool_is_an_offered_one_or_like_it() -> None:
    pool = ToolPool([*POOL.tools, tool("lightSwitch", "Anything."), tool("x", "On or off: switch a light.")])
    for example in (crowded(each, pool, max_tools=8) for each in ROWS[:50]):
        names = [each["name"] for each in example.tools]
        assert len(set(names)) == len(names)
        assert not {"lightSwitch", "x"} & set(names)


def test_refused_request_gets_no_tool_that_could_serve_it() -> None:
    refused = row("r", "Brew coffee in the kettle.", reply="I can't.", tools=(device("light"),), kind="irrelevance")
    for number in range(50):
        names = [each["name"] for each in crowded(dataclasses.replace(refused, id=f"r{number}"), max_tools=8).tools]
        assert len(names) > 1
        assert "kettle_report" not in names


def test_share_of_the_rows_is_drawn() -> None:
    unchanged = sum(crowded(example, share=0.3) is example for example in ROWS)

    assert 120 < unchanged < 160
    assert all(crowded(example, share=0.0) is example for example in ROWS)


def test_rows_without_room_or_without_tools_stay() -> None:
    without = row("x", "hi", reply="Hello.")

    assert crowded(without) is without
    assert crowded(ROWS[0], max_tools=1) is ROWS[0]
    assert crowded(ROWS[0], ToolPool([device("light")])) is ROWS[0]


def test_what_a_row_gets_depends_on_seed_and_id_alone() -> None:
    alone = crowded(ROWS[3])
    for example in ROWS[:3]:
        crowded(example)

    assert crowded(ROWS[3]) == alone
    assert with_distractors(ROWS[3], OTHERS, share=1.0, max_tools=4, seed=8) != alone
