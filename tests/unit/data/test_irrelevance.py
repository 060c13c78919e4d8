"""Requests whose tools are taken away."""

from __future__ import annotations

import dataclasses

import pytest
from mix_rows import THINGS, device, row, single, tool

from star_edge.contracts import Example
from star_edge.data.irrelevance import REFUSALS, confusable, is_derivable, near_miss, unrelated
from star_edge.data.tool_pool import ToolPool

POOL = ToolPool([*(device(thing) for thing in THINGS), tool("get_news", "Read the headlines."), tool("sum", "Adds.")])
DIMMER = tool("dim_lamp", "Dim a lamp in any room slowly, or turn it off.")
CONVERTER = tool("convert_currency", "Convert an amount of money between currencies.", amount="How much.")
NEWS = tool("get_news", "Read the headlines.")
CALL = row("call", "Please switch the radio on.", "switch_radio", tools=(device("radio"), device("light")))


def names(example: Example | None) -> list[str]:
    assert example is not None
    return [each["name"] for each in example.tools]


@pytest.mark.parametrize(
    ("example", "answer"),
    [
        (CALL, True),
        (dataclasses.replace(CALL, messages=({"role": "system", "content": "Be kind."}, *CALL.messages)), True),
        (dataclasses.replace(CALL, messages=(*CALL.messages, *CALL.messages)), False),
        (row("r", "hi", reply="Hello.", tools=(device("radio"),)), False),
    ],
)
def test_only_single_requests_answered_with_calls_are_used(example: Example, answer: bool) -> None:
    assert is_derivable(example) is answer


def test_unrelated_tools_share_no_word_with_tool_or_request() -> None:
    for number in range(30):
        made = unrelated(dataclasses.replace(CALL, id=f"call-{number}"), POOL, max_tools=8, seed=1)
        assert set(names(made)) <= {"get_news", "sum"}
        assert made is not None
        assert made.kind == "irrelevance"
        assert made.target["content"] in REFUSALS
        assert made.target_calls == ()
        assert made.prompt == CALL.prompt
        assert made.id == f"call-{number} (unrelated)"


def test_request_words_count_besides_the_tools() -> None:
    asked = row("s", "What is the sum of this, in the news?", "adder", tools=(tool("adder", "Add numbers."),))

    assert unrelated(asked, POOL, max_tools=1, seed=1) is not None
    assert not {"sum", "get_news"} & set(names(unrelated(asked, POOL, max_tools=8, seed=1)))


def test_pool_without_an_unrelated_tool_makes_no_row() -> None:
    assert unrelated(CALL, ToolPool([device("radio"), device("light")]), max_tools=8, seed=1) is None


def test_near_miss_keeps_the_related_tools_and_drops_the_needed_one() -> None:
    made = near_miss(dataclasses.replace(CALL, tools=(DIMMER, device("radio"), NEWS)), seed=1)

    assert names(made) == ["dim_lamp", "get_news"]
    assert made is not None
    assert (made.kind, made.id) == ("irrelevance", "call (near miss)")
    assert made.target["content"] in REFUSALS


@pytest.mark.parametrize(
    "tools",
    [
        (device("radio"),),  # nothing is left
        (device("radio"), NEWS),  # nothing related is left
        (device("radio"), tool("wireless", "Switch on or off.")),  # may do the same
        (device("radio"), tool("play", "Hear a radio station of your choice, please.")),  # as near to the request
    ],
)
def test_near_miss_is_refused_where_what_is_left_is_unrelated_or_serves_the_request(tools: tuple[object, ...]) -> None:
    assert near_miss(dataclasses.replace(CALL, tools=tools), seed=1) is None  # type: ignore[arg-type]


ALIKE = (
    tool("switch_account", "Log in as someone else."),
    tool("radio_guide", "Stations and what they play."),
    tool("switch_lens", "Choose what a camera looks through."),
    tool("play_radio", "Switch to a station and hear it."),  # as many of its words are in the request
)


def test_a_request_without_related_tools_of_its_own_gets_some_of_the_pool() -> None:
    alone, seen = dataclasses.replace(CALL, tools=(device("radio"), NEWS)), set()
    for number in range(30):
        pool = ToolPool([*POOL.tools, *ALIKE])
        made = near_miss(dataclasses.replace(alone, id=f"call-{number}"), pool, max_tools=3, seed=1)
        assert 2 <= len(names(made)) <= 3
        assert names(made).count("get_news") == 1
        seen |= {*names(made)}
    assert seen == {"get_news", "switch_account", "radio_guide", "switch_lens"}
    many = ToolPool(
        [tool(f"radio_{word}", "Something else.") for word in ("mast", "play", "show", "host", "wave", "tube")]
    )
    counts = {len(names(near_miss(dataclasses.replace(alone, id=str(n)), many, seed=1))) - 1 for n in range(60)}
    assert counts == {1, 2, 3, 4, 5}
    places = {
        names(near_miss(dataclasses.replace(alone, id=str(n)), many, seed=1)).index("get_news") for n in range(60)
    }
    assert len(places) > 2, "tools of the pool stand anywhere"
    assert near_miss(alone, ToolPool([NEWS, device("radio")]), max_tools=4, seed=1) is None
    assert near_miss(alone, ToolPool(ALIKE), max_tools=1, seed=1) is None, "there is no room"


def test_a_request_with_related_tools_of_its_own_gets_none_of_the_pool() -> None:
    crowded = dataclasses.replace(CALL, tools=(DIMMER, device("radio"), NEWS))
    assert near_miss(crowded, POOL, max_tools=8, seed=1) == near_miss(crowded, seed=1)


def test_parallel_calls_lose_every_called_tool() -> None:
    tools = (device("light"), device("radio"), DIMMER)
    both = row("p", "Switch light and radio on.", "switch_light", "switch_radio", tools=tools)

    assert names(near_miss(both, seed=1)) == ["dim_lamp"]


def test_refusals_vary_and_depend_on_seed_and_id() -> None:
    made = [unrelated(single(f"row-{number}"), POOL, max_tools=2, seed=1) for number in range(100)]
    texts = {example.target["content"] for example in made if example is not None}

    assert texts == set(REFUSALS)
    assert unrelated(single("row-0"), POOL, max_tools=2, seed=1) == made[0]


def test_a_confusable_tool_shares_most_words_with_the_request_and_is_another() -> None:
    asked = row("c", "Convert 5 dollars to euros at the rate of today.", "convert_currency", tools=(CONVERTER,))
    twin = tool("currency_convert_now", "Convert an amount of money between currencies.", amount="How much.")
    rates = tool("list_offers", "Shows offers.", rate="At least.", dollars="At most.")
    fewer = tool("rate_movie", "Say how good it was.", stars="How many.")
    for number in range(20):
        named = dataclasses.replace(asked, id=f"c{number}")
        made = confusable(named, ToolPool([fewer, twin, rates, NEWS, CONVERTER]), seed=1)
        assert made is not None
        assert names(made) == ["list_offers"], "its parameters are asked of, and the twin does the same"
        assert (made.kind, made.prompt, made.id) == ("irrelevance", asked.prompt, f"c{number} (confusable)")
        assert made.target["content"] in REFUSALS
        assert names(confusable(named, ToolPool([fewer, twin]), seed=1)) == ["rate_movie"]
        assert confusable(named, ToolPool([twin, NEWS, CONVERTER]), seed=1) is None
    many = ToolPool([tool(f"rate_{word * 3}", "Other.", stars="x") for word in "abcdefghijklmnop" * 60])
    drawn = {names(confusable(dataclasses.replace(asked, id=str(n)), many, seed=1))[0] for n in range(20)}
    assert len(drawn) > 2, "not the same tool for every request"


def test_the_first_tool_that_joins_a_near_miss_is_the_nearest_to_the_request() -> None:
    asked = row("n", "Convert 5 dollars to euros at the rate of today.", "convert_currency", tools=(CONVERTER,))
    nearest = tool("show_offers", "Offers of money at hand.", rate="At least.", dollars="At most.", euros="As many.")
    near = tool("dollars_rate_today", "Euros.")  # nearer still, and not related to what is missing
    others = [tool(f"currency_{word}", "Something else.") for word in ("fair", "mint", "coin", "note")]
    for number in range(20):
        named = dataclasses.replace(asked, id=f"n{number}")
        made = names(near_miss(named, ToolPool([*others, NEWS, nearest, near]), max_tools=3, seed=1))
        assert "show_offers" in made
        assert not {"get_news", "dollars_rate_today"} & set(made)
        assert 1 <= len(made) <= 3
