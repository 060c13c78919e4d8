"""Held-out tools are called in no training row."""

from __future__ import annotations

import pytest

from star_edge.contracts import Example
from star_edge.data.split import called_tools, split_by_tool
from star_edge.errors import DataError


def row(name: str, *called: str, earlier: tuple[str, ...] = ()) -> Example:
    messages = [{"role": "user", "content": name}]
    for names in ([earlier] if earlier else []) + [called]:
        message = {"role": "assistant", "content": "" if names else "Hello."}
        if names:
            message["tool_calls"] = [{"name": tool, "arguments": {}} for tool in names]
        messages.append(message)
    return Example(name, "test", tuple(messages), ())


SINGLE = [row(f"{tool}{number}", tool) for tool in "abcdefghij" for number in range(3)]


def test_sides_share_no_called_tool_and_lose_no_row() -> None:
    split = split_by_tool(SINGLE, share=0.3, seed=1)

    assert len(split.heldout_tools) == 3
    assert {tool for example in split.heldout for tool in called_tools(example)} == set(split.heldout_tools)
    assert not {tool for example in split.train for tool in called_tools(example)} & set(split.heldout_tools)
    assert sorted(e.id for e in (*split.train, *split.heldout)) == sorted(e.id for e in SINGLE)


def test_same_seed_gives_the_same_split_whatever_the_order() -> None:
    forward, backward = (split_by_tool(rows, share=0.3, seed=1) for rows in (SINGLE, SINGLE[::-1]))

    assert forward.heldout_tools == backward.heldout_tools
    assert {e.id for e in forward.train} == {e.id for e in backward.train}


def test_seeds_differ() -> None:
    assert len({split_by_tool(SINGLE, share=0.3, seed=seed).heldout_tools for seed in range(10)}) > 1


def test_rows_of_both_sides_are_dropped_and_counted() -> None:
    held = split_by_tool(SINGLE, share=0.1, seed=1).heldout_tools[0]
    other = "a" if held != "a" else "b"
    mixed = [row("now", held, other), row("before", held, earlier=(other,))]
    split = split_by_tool([*SINGLE, *mixed], share=0.1, seed=1)

    assert split.heldout_tools == (held,)
    assert [e.id for e in split.mixed] == ["now", "before"]
    assert not {"now", "before"} & {e.id for e in (*split.train, *split.heldout)}


def test_rows_without_calls_are_shared_out_and_stay_where_they_are() -> None:
    silent = [row(f"silent{number}") for number in range(400)]
    few = split_by_tool([*SINGLE, *silent[:200]], share=0.2, seed=1)
    many = split_by_tool([*SINGLE, *silent], share=0.2, seed=1)
    held = {e.id for e in many.heldout if not called_tools(e)}

    assert 50 < len(held) < 110
    assert {e.id for e in few.heldout if not called_tools(e)} == held & {e.id for e in silent[:200]}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_each_side_keeps_a_tool(share: float) -> None:
    split = split_by_tool([row("a", "a"), row("b", "b")], share=share, seed=1)

    assert len(split.train) == len(split.heldout) == 1


def test_tools_to_keep_are_not_held_out() -> None:
    split = split_by_tool(SINGLE, share=1.0, seed=1, keep=frozenset("abcdefgh"))

    assert split.heldout_tools == ("i", "j")


def test_nothing_free_to_hold_out_cannot_be_split() -> None:
    with pytest.raises(DataError, match="name a `heldout` source"):
        split_by_tool(SINGLE, share=0.5, seed=1, keep=frozenset("abcdefghij"))


@pytest.mark.parametrize("rows", [[], [row("a")], [row("a", "a"), row("b", "a", "a")]])
def test_fewer_than_two_called_tools_cannot_be_split(rows: list[Example]) -> None:
    with pytest.raises(DataError, match="name a `heldout` source"):
        split_by_tool(rows, share=0.5, seed=1)
