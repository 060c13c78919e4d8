"""Values in the form that a description asks for."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from mix_rows import single, tool

from star_edge.contracts import Example, Tool
from star_edge.data.formats import formatted

BOOK = tool(
    "book", "Book a table.", city="City of the place.", day="Day of the visit?", at="When", who="Name of the guest"
)
ARGUMENTS = {"city": "Seattle", "day": "2019-03-05", "at": "18:05", "who": "2019-03-05 Ann"}


def booking(id: str = "row", tools: tuple[Tool, ...] = (BOOK,), earlier: Any = None, **arguments: Any) -> Example:
    """A table for Ann; `earlier` are the arguments of a call some turns before."""
    call = {"name": "book", "arguments": {**ARGUMENTS, **arguments}}
    turns = [] if earlier is None else [{**call, "arguments": earlier}]
    history = [{"role": "assistant", "content": "", "tool_calls": [turn]} for turn in turns]
    request = {"role": "user", "content": "Seattle, March 5th, five past six"}
    answer = {"role": "assistant", "content": "", "tool_calls": [call]}
    return Example(id, "test", (request, *history, request, answer), tools, "single")


def form(example: Example, seed: int = 1) -> Example:
    return formatted(example, share=1.0, seed=seed)


def descriptions(example: Example) -> dict[str, str]:
    return {name: each["description"] for name, each in example.tools[0]["parameters"]["properties"].items()}


def written() -> dict[str, set[tuple[str, str]]]:
    """Parameter -> every (what the description says of it, value) of many draws."""
    rows = [form(booking(f"row-{number}")) for number in range(200)]
    return {
        name: {(descriptions(row)[name], row.target["tool_calls"][0]["arguments"][name]) for row in rows}
        for name in ARGUMENTS
    }


def test_every_form_occurs_and_values_are_written_in_the_one_that_is_described() -> None:
    found = written()
    values = {name: {value for _, value in pairs} for name, pairs in found.items()}

    assert values["day"] == {
        "2019-03-05", "03/05/2019", "05/03/2019", "05.03.2019", "20190305", "March 5, 2019",
    }  # fmt: skip
    assert values["at"] == {"18:05", "6:05 PM", "18:05:00"}
    assert values["city"] == {"Seattle, WA", "Seattle, Washington", "Seattle, USA"}
    samples = {"03/05/2019": "08/24/2021", "March 5, 2019": "August 24, 2021", "20190305": "20210824"}
    for text, value in found["day"]:
        if value in samples:
            assert samples[value] in text or "'MM/DD/YYYY'" in text or "'Month D, YYYY'" in text or "'YYYYMMDD'" in text


def test_descriptions_keep_their_words_and_end_once() -> None:
    for text, _ in written()["day"]:
        assert re.fullmatch(r"Day of the visit[^?]*[^?.]\.", text)


def test_what_is_neither_date_nor_time_nor_city_stays() -> None:
    assert written()["who"] == {("Name of the guest", "2019-03-05 Ann")}


def test_earlier_calls_change_alike() -> None:
    row = form(booking(earlier={"day": "2019-12-01", "city": "Oakland"}))
    earlier, last = (each["tool_calls"][0]["arguments"] for each in row.messages if "tool_calls" in each)

    shape = lambda text: re.sub(r"[A-Z][a-z]+", "Word", re.sub(r"\d+", "N", text))  # noqa: E731
    assert earlier.keys() == {"day", "city"}
    assert shape(earlier["day"]) == shape(last["day"])
    assert earlier["city"].startswith("Oakland, ")


@pytest.mark.parametrize(
    "earlier",
    [{"day": "tomorrow"}, {"day": "2019-02-30"}, {"day": 5}],
)  # fmt: skip
def test_a_parameter_with_other_values_too_stays(earlier: dict[str, Any]) -> None:
    row = form(booking(earlier=earlier))

    assert descriptions(row)["day"] == "Day of the visit?"
    assert row.target["tool_calls"][0]["arguments"]["day"] == "2019-03-05"


@pytest.mark.parametrize(
    ("city", "written"),
    [
        ("Paris", {"Paris, France"}),
        ("paris", {"paris, France"}),
        ("Springfield", {"Springfield"}),
        ("25:10", {"25:10"}),
    ],
)
def test_cities_are_placed_where_everyone_would_place_them(city: str, written: set[str]) -> None:
    rows = [form(booking(f"row-{number}", city=city)) for number in range(20)]
    assert {row.target["tool_calls"][0]["arguments"]["city"] for row in rows} == written


@pytest.mark.parametrize(
    "day",
    [{"type": "string", "description": "Day, format YYYY-MM-DD"}, {"type": "string", "description": "Day, e.g. today"},
     {"type": "string"}, {"type": "string", "description": "Day", "enum": ["2019-03-05"]}],
)  # fmt: skip
def test_a_description_that_says_a_form_or_nothing_stays(day: dict[str, Any]) -> None:
    parameters = BOOK["parameters"]
    book = {**BOOK, "parameters": {**parameters, "properties": {**parameters["properties"], "day": day}}}
    row = form(booking(tools=(book,)))

    assert row.tools[0]["parameters"]["properties"]["day"] == day
    assert row.target["tool_calls"][0]["arguments"]["day"] == "2019-03-05"


def test_a_row_without_such_values_is_the_very_row() -> None:
    plain = single("row")
    assert form(plain) is plain


def test_the_given_row_is_left_alone_and_draws_depend_on_seed_and_row() -> None:
    row = booking()
    before = dataclasses.asdict(row)

    assert form(row) == form(row)
    assert len({form(row, seed).target["tool_calls"][0]["arguments"]["day"] for seed in range(20)}) > 2
    assert dataclasses.asdict(row) == before


def test_the_share_is_a_share_of_the_rows() -> None:
    rows = [booking(f"row-{number}") for number in range(300)]
    changed = [formatted(row, share=0.3, seed=5) is not row for row in rows]

    assert 60 < sum(changed) < 120
