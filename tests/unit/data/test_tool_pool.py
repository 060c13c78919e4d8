"""Words of tools, tools that may do the same, and what is drawn from a pool."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from mix_rows import THINGS, device, tool

from star_edge.contracts import Tool
from star_edge.data import tool_pool
from star_edge.data.tool_pool import (
    ToolPool,
    ToolWords,
    are_related,
    is_near_duplicate,
    read_tool_pool,
    words,
    words_of,
)
from star_edge.errors import DataError


@pytest.mark.parametrize("text", ["get_weather_alerts", "getWeatherAlerts", "Weather.alert", "the weather's ALERTS!"])
def test_words_are_the_same_in_every_spelling(text: str) -> None:
    assert words(text) == {"weather", "alert"}


@pytest.mark.parametrize(("one", "other"), [("currencies", "currency"), ("movies", "movie"), ("taxis", "taxi")])
def test_words_are_the_same_in_both_numbers(one: str, other: str) -> None:
    assert words(one) == words(other)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (tool("get_weather"), tool("fetchWeather"), True),
        (tool("get_weather"), tool("current_weather"), True),
        (tool("get_weather"), tool("get_news"), False),
        (tool("lookup", "Current temperature in a city."), tool("meteo", "The temperature of a city, current."), True),
        (tool("lookup", "Current temperature in a city."), tool("stocks", "Price of a share in a city."), False),
        (tool("42", ""), tool("43", ""), False),
    ],
)
def test_tools_that_may_do_the_same_are_told_by_their_words(one: Tool, other: Tool, same: bool) -> None:
    assert is_near_duplicate(words_of(one), words_of(other)) is same
    assert is_near_duplicate(words_of(other), words_of(one)) is same


def test_tools_are_related_by_any_word() -> None:
    assert are_related(words_of(tool("play_music", "Play a song.")), words_of(tool("find_song", "")))
    assert not are_related(words_of(tool("play_music", "Play a song.")), words_of(tool("get_news", "Read the news.")))


POOL = ToolPool(device(thing) for thing in THINGS)


def test_drawn_tools_differ_in_name_and_fit() -> None:
    twice = ToolPool([*POOL.tools, *POOL.tools])
    offered = [device("light")]
    drawn = twice.draw(20, offered, lambda tool: "radio" not in tool.name, random.Random(1))
    names = [each["name"] for each in drawn]

    assert sorted(names) == sorted(f"switch_{thing}" for thing in THINGS if thing not in ("light", "radio"))


def test_pool_too_small_gives_what_it_has() -> None:
    assert POOL.draw(3, [], lambda _: False, random.Random(1)) == []
    assert len(POOL.draw(50, [], lambda _: True, random.Random(1))) == len(THINGS)
    assert ToolPool([]).draw(2, [], lambda _: True, random.Random(1)) == []


def test_tools_can_be_left_out_by_name() -> None:
    assert len(POOL.without(["switch_light", "unknown"]).tools) == len(THINGS) - 1


@pytest.mark.parametrize("name", ["pool.jsonl", "pool.jsonl.gz"])
def test_pool_is_read_flat_or_wrapped_without_other_keys(tmp_path: Path, name: str) -> None:
    lines = [{"source": "x", **device("light")}, {"type": "function", "function": device("radio")}]
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)

    assert read_tool_pool(tmp_path / name).tools == (device("light"), device("radio"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{\n", r"pool\.jsonl:1: broken JSON .*; mend the line"),
        ('{"name": "f"}\n{"description": "d"}\n', r"pool\.jsonl:2: a tool needs a 'name'.*; mend the line"),
        ("\n", "holds no tools; give a JSONL file"),
    ],
)
def test_bad_pool_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pool.jsonl").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_tool_pool(tmp_path / "pool.jsonl")
    assert "\n" not in str(caught.value)


def test_tools_are_found_by_the_words_of_their_names() -> None:
    found = ToolPool([tool("play_music"), tool("get_news", "Music news."), tool("musicRadio")]).naming(
        ["music", "xylophone"]
    )
    assert [each["name"] for each in found.tools] == ["play_music", "musicRadio"]
    assert POOL.naming([]).tools == ()


def test_the_nearest_tool_is_the_one_of_those_drawn_with_most_words(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ToolPool(
        [*(tool(f"plan_{word * 3}", "Other.") for word in "abcdefghij"), tool("trip", "Plan it.", hotel="H.")]
    )

    def found(to: set[str], fits: Callable[[ToolWords], bool] = lambda tool: True) -> set[str]:
        drawn = (pool.nearest(to, [], fits, random.Random(seed)) for seed in range(60))
        return {tools[0]["name"] if tools else "none" for tools in drawn}

    assert found({"plan", "hotel", "spa"}) == {"trip"}, "the words of its description and its parameter"
    assert found({"spa"}) == {"none"}
    assert len(found({"plan"}, lambda tool: "trip" not in tool.name)) > 5, "of tools alike another each time"
    assert not pool.nearest({"hotel"}, [pool.tools[-1]], lambda tool: True, random.Random(1)), "it is offered already"
    monkeypatch.setattr(tool_pool, "NEAREST_OF_LEAST", 1)
    assert found({"hotel"}) == {"trip", "none"}, "a third of the pool is looked through"
    assert not ToolPool([]).nearest({"plan"}, [], lambda tool: True, random.Random(1))


def test_the_nearest_tool_is_not_the_wordiest() -> None:
    few = tool("buy_ticket", "Book a seat.")
    many = tool("plan_ticket", "Everything about travel, seats, hotels, meals, luggage, visas, insurance and weather.")
    assert ToolPool([many, few]).nearest({"ticket"}, [], lambda tool: True, random.Random(1)) == [few]
