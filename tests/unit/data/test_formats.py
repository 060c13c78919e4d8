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
    "book", "Book a table.", city="City of the place.", day="Day of the visit", at="When", who="Name of the guest"
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


FORMS = {
    "2019-03-05": {"'YYYY-MM-DD'", "'2021-08-24'"},
    "03/05/2019": {"'MM/DD/YYYY'", "'08/24/2021'"},
    "05/03/2019": {"'DD/MM/YYYY'", "'24/08/2021'"},
    "05.03.2019": {"'DD.MM.YYYY'", "'24.08.2021'"},
    "20190305": {"'YYYYMMDD'", "'20210824'"},
    "March 5, 2019": {"'Month D, YYYY'", "'August 24, 2021'"},
    "18:05": {"'HH:MM', 24-hour clock", "'18:45'"},
    "6:05 PM": {"'H:MM AM/PM'", "'6:45 PM'"},
    "18:05:00": {"'HH:MM:SS', 24-hour clock", "'18:45:00'"},
    "Seattle, WA": {"'Madison, WI'"},
    "Seattle, Washington": {"'Madison, Wisconsin'"},
    "Seattle, USA": {"'Madison, USA'", "'Helsinki, Finland'"},
}
"""Value -> what its description says: the pattern, or another value in the same form."""


def written() -> dict[str, set[tuple[str, str]]]:
    """Parameter -> every (what the description says of it, value) of many draws."""
    rows = [form(booking(f"row-{number}")) for number in range(300)]
    return {
        name: {(descriptions(row)[name], row.target["tool_calls"][0]["arguments"][name]) for row in rows}
        for name in ARGUMENTS
    }


def test_every_form_occurs_and_values_are_written_in_the_one_that_is_described() -> None:
    found = {value: set[str]() for value in FORMS}
    for name in ("day", "at", "city"):
        for text, value in written()[name]:
            found[value].add(text)

    for value, texts in found.items():
        assert texts, value
        for text in texts:
            assert {words for words in FORMS[value] if words in text}, f"{value}: {text}"
            others = {words for other in FORMS.keys() - {value} for words in FORMS[other]}
            assert not {words for words in others if words in text}, f"{value}: {text}"


def test_descriptions_keep_their_words_and_end_once() -> None:
    for text, _ in written()["day"]:
        assert re.fullmatch(r"Day of the visit.*[^.]", text)
    for text, _ in written()["city"]:
        assert re.fullmatch(r"City of the place[^.].*[^.]\.", text)


def test_what_is_neither_date_nor_time_nor_city_stays() -> None:
    assert written()["who"] == {("Name of the guest", "2019-03-05 Ann")}


def test_parameters_of_a_kind_get_one_form() -> None:
    trip = tool("book", "Book.", city="City of the place.", day="Day of arrival", until="Day of departure", at="When")
    for number in range(30):
        call = form(booking(f"row-{number}", tools=(trip,), until="2019-03-09")).target["tool_calls"][0]["arguments"]
        assert call["until"] in {call["day"].replace("5", "9", 1), call["day"].replace("05", "09", 1)}


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

    assert descriptions(row)["day"] == "Day of the visit"
    assert row.target["tool_calls"][0]["arguments"]["day"] == "2019-03-05"


@pytest.mark.parametrize(
    ("city", "written"),
    [("Paris", {"Paris, France"}), ("Springfield", {"Springfield"}), ("paris", {"paris"}), ("25:10", {"25:10"}),
     ("London", {"London"})],
)  # fmt: skip
def test_cities_are_placed_where_everyone_would_place_them(city: str, written: set[str]) -> None:
    """London is left out because its country has several names."""
    rows = [form(booking(f"row-{number}", city=city)) for number in range(20)]
    assert {row.target["tool_calls"][0]["arguments"]["city"] for row in rows} == written


def with_day(schema: dict[str, Any]) -> Tool:
    parameters = BOOK["parameters"]
    return {**BOOK, "parameters": {**parameters, "properties": {**parameters["properties"], "day": schema}}}


@pytest.mark.parametrize(
    "text",
    ["Day, E.g. today", "The day (hh:mm)", "Day as dd.mm.yyyy", "Day, %Y-%m-%d", "An ISO day", "Day, i.e. a date",
     "Which day?", "Day code", "Enum: a day, another day", "Day 1 or 2", "City, State of the day", "Day, like Monday"],
)  # fmt: skip
def test_a_description_that_says_a_form_stays(text: str) -> None:
    row = form(booking(tools=(with_day({"type": "string", "description": text}),)))

    assert descriptions(row)["day"] == text
    assert row.target["tool_calls"][0]["arguments"]["day"] == "2019-03-05"


@pytest.mark.parametrize(
    "schema",
    [{"type": "string"}, {"type": "string", "description": ""}, {"description": "Day"},
     {"type": "string", "description": "Day", "enum": ["2019-03-05"]},
     {"type": "string", "description": "Day", "default": "2019-03-05"},
     {"type": "string", "description": "Day", "pattern": "[0-9-]+"}],
)  # fmt: skip
def test_a_schema_with_rules_or_without_a_description_stays(schema: dict[str, Any]) -> None:
    row = form(booking(tools=(with_day(schema),)))

    assert row.tools[0]["parameters"]["properties"]["day"] == schema
    assert row.target["tool_calls"][0]["arguments"]["day"] == "2019-03-05"


@pytest.mark.parametrize(
    ("name", "description", "value"),
    [("league", "League of the city", "Orlando"), ("subbreed", "Breed of the town's dog", "Boston"),
     ("movie", "Film in town", "Paris"), ("key", "The api key of the day", "2023-10-27"),
     ("version", "Version date", "2020-01-02"), ("status", "Status as of the day", "2020-01-02"),
     ("policy", "The updated policy", "2022-01-01"), ("song", "Song about a city", "Paris"),
     ("state", "Where the state is", "New York"), ("period", "The timeline", "18:15"),
     ("origin", "IATA code of the city", "Paris"), ("dentist_name", "Dentist in the city", "Palo Alto"),
     ("person", "Person of the town", "Charlotte"), ("metadata", "Updated metadata", "2003-10-11")],
)  # fmt: skip
def test_values_that_only_look_like_a_date_a_time_or_a_city_stay(name: str, description: str, value: str) -> None:
    call = {"name": "find", "arguments": {name: value}}
    answer = {"role": "assistant", "content": "", "tool_calls": [call]}
    find = tool("find", "Find it.", **{name: description})
    row = Example("row", "test", ({"role": "user", "content": "Find it"}, answer), (find,), "single")

    assert form(row) is row


@pytest.mark.parametrize("sibling", [("state", "State"), ("area", "Country of the place"), ("province", "Which one")])
def test_a_city_beside_its_state_or_country_stays(sibling: tuple[str, str]) -> None:
    name, description = sibling
    book = tool("book", "Book.", city="City of the place.", **{name: description})
    row = form(booking(tools=(book,)))

    assert row.target["tool_calls"][0]["arguments"]["city"] == "Seattle"


def test_a_function_or_a_request_that_names_a_form_stays() -> None:
    book = tool("book", "Book.", day="Day of the visit", out="Output format")
    asked = booking()
    literal = dataclasses.replace(
        asked, messages=({"role": "user", "content": "From YYYY-MM-DD: 2019-03-05, please"}, *asked.messages[1:])
    )

    assert descriptions(form(booking(tools=(book,))))["day"] == "Day of the visit"
    assert form(literal) is literal


RENT = tool("rent", "Rent a car.", day="Day of return", city="City of return.", model="Which car")


def test_forms_do_not_tell_which_function_or_which_parameters_are_due() -> None:
    """Other tools get them, parameters that the call leaves out, and rows without a call."""
    call = {"name": "book", "arguments": {"city": "Seattle"}}
    called = dataclasses.replace(
        booking(tools=(RENT, BOOK)),
        messages=({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "", "tool_calls": [call]}),
    )
    refused = dataclasses.replace(called, messages=(called.messages[0], {"role": "assistant", "content": "No."}))

    for row in (called, refused):
        for before, after in zip(row.tools, form(row).tools, strict=True):
            texts = [each["parameters"]["properties"] for each in (before, after)]
            changed = {name for name in texts[0] if texts[0][name] != texts[1][name]}
            assert changed == texts[0].keys() & {"day", "city", "at"}
    assert form(refused).messages == refused.messages


def test_cities_of_one_function_get_one_form() -> None:
    trip = tool("book", "Book.", city="City of the start.", to="City of the end.", day="Day of arrival", at="When")
    rows = [form(booking(f"row-{number}", tools=(trip,), to="Paris")) for number in range(20)]
    found = {tuple(row.target["tool_calls"][0]["arguments"][name] for name in ("city", "to")) for row in rows}

    assert found == {("Seattle, USA", "Paris, France")}


def test_parameters_of_two_functions_are_told_apart() -> None:
    row = booking(tools=(BOOK, RENT))
    call = {"name": "rent", "arguments": {"day": "soon"}}
    answer = {**row.target, "tool_calls": [*row.target["tool_calls"], call]}
    changed = form(dataclasses.replace(row, messages=(*row.prompt, answer)))

    assert changed.target["tool_calls"][1] == call
    assert changed.tools[1]["parameters"]["properties"]["day"] == RENT["parameters"]["properties"]["day"]
    assert changed.tools[0] != BOOK


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


def deal(said: str, value: Any, type: str = "number", about: str = "The discount percentage.") -> Example:
    """A price with a discount."""
    priced = tool("price", "Work out a price.", off=about)
    priced["parameters"]["properties"]["off"]["type"] = type
    call = {"name": "price", "arguments": {"off": value}}
    answer = {"role": "assistant", "content": "", "tool_calls": [call]}
    return Example("row", "test", ({"role": "user", "content": said}, answer), (priced,), "single")


def discounts(example: Example) -> set[tuple[Any, str]]:
    """Every (value, what is said of it) of many draws."""
    rows = [form(dataclasses.replace(example, id=f"row-{number}")) for number in range(60)]
    return {(row.target["tool_calls"][0]["arguments"]["off"], descriptions(row)["off"]) for row in rows}


def test_a_percentage_is_a_number_up_to_a_hundred_or_a_fraction_as_its_description_says() -> None:
    found = discounts(deal("I get 12.5% off", 12.5))
    assert {said for value, said in found if value == 12.5} == {
        "The discount percentage, in percent.",
        "The discount percentage (a percentage, e.g. 20).",
        "The discount percentage, as a number from 0 to 100.",
    }
    assert {said for value, said in found if value == 0.125} == {
        "The discount percentage, as a decimal.",
        "The discount percentage (a fraction, e.g. 0.2).",
        "The discount percentage, as a number from 0 to 1.",
        "The discount percentage, as a decimal, such as 0.08.",
    }
    assert len(found) == 7
    assert {value for value, _ in discounts(deal("I get 7 Percent off", 7))} == {7, 0.07}
    assert {value for value, _ in discounts(deal("At 5.8 %", 5.8, about="The annual interest rate"))} == {5.8, 0.058}


@pytest.mark.parametrize(
    "example",
    [
        deal("I get 12.5 off", 12.5),
        deal("I get 12.5% off", 0.125),
        deal("I get 12% off", 12, type="integer"),
        deal("I get 1% off", True),
        deal("I get 150% off", 150),
        deal("I get 1,500% off", 500),
        deal("I get -5% off", 5),
        deal("The 12 percentile", 12),
        deal("I get 12% off as a decimal", 12),
        deal("I get 12% off", 12, about="The discount percentage as a decimal."),
        deal("I get 12% off", 12, about="The interest rate as percentage."),
        deal("I get 12% off", 12, about="The tax rate in %."),
        deal("I get 12% off", 12, about="The discount percentage, a fraction of the price."),
        deal("What is 12% of 12", 12, about="The number for which the percentage is due."),
        deal("I get 12% off", 12, about="How much."),
    ],
)
def test_a_number_that_is_not_said_in_percent_or_can_be_no_fraction_stays(example: Example) -> None:
    assert form(example) is example
