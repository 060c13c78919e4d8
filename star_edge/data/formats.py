"""Values in the form that a description asks for: dates, times and cities, so that the model reads how to write them.

Where rows pass values on as they were said, or always in one form, a model learns that form and not to look it up. Here
a description gets a form, one of several, and the values of that parameter are written in it.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Any

from star_edge.contracts import Example, Message, Tool
from star_edge.data.draws import draws

_STATES = {
    "AZ": "Arizona", "CA": "California", "CO": "Colorado", "DC": "District of Columbia", "FL": "Florida",
    "GA": "Georgia", "HI": "Hawaii", "IL": "Illinois", "LA": "Louisiana", "MA": "Massachusetts", "MD": "Maryland",
    "MI": "Michigan", "MN": "Minnesota", "NC": "North Carolina", "NV": "Nevada", "NY": "New York", "OK": "Oklahoma",
    "OR": "Oregon", "PA": "Pennsylvania", "TN": "Tennessee", "TX": "Texas", "UT": "Utah", "WA": "Washington",
}  # fmt: skip
# Cities that everyone would place in one state or country.
_CITIES = {
    "AZ": "Phoenix, Tucson",
    "CA": "San Francisco, Los Angeles, San Diego, Sacramento, San Jose, Anaheim, Fresno, Long Beach, Berkeley, "
    "Sunnyvale, Oakland, Fremont, Santa Rosa, Napa, Mountain View, Santa Clara, Hayward, San Mateo, Livermore, "
    "San Carlos, Vacaville, San Leandro, San Rafael, Redwood City, Vallejo, Daly City, Palo Alto, Cupertino, Petaluma, "
    "Milpitas, Menlo Park, Walnut Creek, Pleasanton, San Bruno, Burlingame, Santa Cruz, Monterey",
    "CO": "Denver, Boulder",
    "FL": "Miami, Orlando, Tampa",
    "GA": "Atlanta",
    "HI": "Honolulu",
    "IL": "Chicago",
    "LA": "New Orleans",
    "MA": "Boston",
    "MD": "Baltimore",
    "MI": "Detroit",
    "MN": "Minneapolis",
    "NC": "Charlotte",
    "NV": "Las Vegas, Reno",
    "NY": "New York, Buffalo",
    "OK": "Tulsa",
    "OR": "Portland",
    "PA": "Philadelphia, Pittsburgh",
    "TN": "Nashville, Memphis",
    "TX": "Houston, Dallas, Austin, San Antonio",
    "UT": "Salt Lake City",
    "WA": "Seattle, Spokane",
    "Argentina": "Buenos Aires",
    "Australia": "Sydney, Melbourne, Brisbane, Perth",
    "Austria": "Vienna",
    "Belgium": "Brussels",
    "Brazil": "Rio de Janeiro",
    "Canada": "Toronto, Vancouver, Montreal, Ottawa, Calgary",
    "China": "Beijing, Shanghai, Guangzhou, Shenzhen, Chengdu, Chongqing, Nanjing, Wuhan, Hangzhou",
    "Denmark": "Copenhagen",
    "Egypt": "Cairo",
    "France": "Paris, Lyon, Marseille",
    "Germany": "Berlin, Munich, Hamburg",
    "Greece": "Athens",
    "India": "Delhi, New Delhi, Mumbai, Chennai, Bangalore",
    "Italy": "Rome, Milan, Venice",
    "Japan": "Tokyo, Osaka, Kyoto",
    "Kenya": "Nairobi",
    "Malaysia": "Kuala Lumpur",
    "Mexico": "Mexico City",
    "Netherlands": "Amsterdam",
    "Norway": "Oslo",
    "Poland": "Warsaw",
    "Portugal": "Lisbon",
    "Russia": "Moscow",
    "South Korea": "Seoul",
    "Spain": "Madrid, Barcelona",
    "Sweden": "Stockholm",
    "Switzerland": "Zurich",
    "Thailand": "Bangkok",
    "Turkey": "Istanbul",
    "United Arab Emirates": "Dubai",
    "United Kingdom": "London, Edinburgh, Manchester",
}
_PLACES = {city.casefold(): place for place, cities in _CITIES.items() for city in cities.split(", ")}

_CLAUSES = (
    ", in the format {form}",
    " ({form})",
    ", formatted as {form}, e.g. {sample}",
    ", written as {form}, such as {sample}",
    ". Format: {form}",
    ", for example {sample}",
)
_HAS_A_FORM = re.compile(r"format|e\.g\.|example|such as|\blike\b|[YH]{2}|[yd]{2}[-/]|\d", re.ASCII)
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_CLOCK = re.compile(r"[012]\d:[0-5]\d")


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write a kind of value. sample: another value, which the description may show."""

    name: str
    write: Callable[[str], str]
    sample: str


def _day(value: str, pattern: str) -> str:
    day = date.fromisoformat(value)
    return pattern.format(y=day.year, m=day.month, d=day.day, name=day.strftime("%B"))


def _clock(value: str) -> str:
    at = time.fromisoformat(value)
    return f"{at.hour % 12 or 12}:{at.minute:02} {'AM' if at.hour < 12 else 'PM'}"


def _days(name: str, pattern: str) -> Form:
    return Form(name, lambda value: _day(value, pattern), _day("2021-08-24", pattern))


_DATES = (
    _days("YYYY-MM-DD", "{y}-{m:02}-{d:02}"),
    _days("MM/DD/YYYY", "{m:02}/{d:02}/{y}"),
    _days("DD/MM/YYYY", "{d:02}/{m:02}/{y}"),
    _days("DD.MM.YYYY", "{d:02}.{m:02}.{y}"),
    _days("YYYYMMDD", "{y}{m:02}{d:02}"),
    _days("Month D, YYYY", "{name} {d}, {y}"),
)
_TIMES = (
    Form("HH:MM, 24 hours", lambda value: value, "18:45"),
    Form("H:MM AM/PM", _clock, "6:45 PM"),
    Form("HH:MM:SS", lambda value: f"{value}:00", "18:45:00"),
)
_IN_A_STATE = (
    Form("City, State", lambda city: f"{city}, {_PLACES[city.casefold()]}", "Madison, WI"),
    Form("City, State (two letters)", lambda city: f"{city}, {_PLACES[city.casefold()]}", "Madison, WI"),
    Form("City, State in full", lambda city: f"{city}, {_STATES[_PLACES[city.casefold()]]}", "Madison, Wisconsin"),
    Form("City, Country", lambda city: f"{city}, USA", "Madison, USA"),
)
_IN_A_COUNTRY = (Form("City, Country", lambda city: f"{city}, {_PLACES[city.casefold()]}", "Helsinki, Finland"),)


def formatted(example: Example, *, share: float, seed: int) -> Example:
    """The row with forms in its descriptions and values in them, or the very row when it is not drawn or has none.

    A parameter takes part when all its values in the row's calls are ISO dates, times of 24 hours, or known cities, and
    its description says nothing of a form. Earlier calls change alike; requests and results stay as they are.

    Args:
        share: of the rows that are drawn, in [0, 1].
    """
    rng = draws(seed, "formats", example.id)
    if rng.random() >= share:
        return example
    forms = dict(_drawn_forms(example, rng))
    if not forms:
        return example
    return dataclasses.replace(
        example,
        messages=tuple(_message(message, forms) for message in example.messages),
        tools=tuple(_tool(tool, forms, rng) for tool in example.tools),
    )


Forms = Mapping[tuple[str, str], Form]
"""(function, parameter) -> how its values are written."""


def _drawn_forms(example: Example, rng: random.Random) -> Iterator[tuple[tuple[str, str], Form]]:
    called = {call.name for call in example.target_calls}
    for tool in example.tools:
        if tool["name"] not in called:
            continue
        for name, schema in tool["parameters"].get("properties", {}).items():
            if _is_open(schema) and (choices := _forms_of(_values(example, tool["name"], name))):
                yield (tool["name"], name), rng.choice(choices)


def _is_open(schema: Any) -> bool:
    """A described string that may be anything, of which nothing is said on how to write it."""
    if (
        not isinstance(schema, Mapping)
        or schema.get("type") != "string"
        or {"enum", "format", "default"} & schema.keys()
    ):
        return False
    return bool(schema.get("description")) and not _HAS_A_FORM.search(schema["description"])


def _values(example: Example, function: str, parameter: str) -> list[Any]:
    calls = [call for message in example.messages for call in message.get("tool_calls", ())]
    return [
        call["arguments"][parameter] for call in calls if call["name"] == function and parameter in call["arguments"]
    ]


def _forms_of(values: list[Any]) -> tuple[Form, ...]:
    """The forms in which all the values can be written; none for no values."""
    if not values or not all(isinstance(value, str) for value in values):
        return ()
    if all(map(_is_date, values)):
        return _DATES
    if all(_CLOCK.fullmatch(value) and value < "24" for value in values):
        return _TIMES
    places = {_PLACES.get(value.casefold()) for value in values}
    if None in places:
        return ()
    if places <= _STATES.keys():
        return _IN_A_STATE
    return () if places & _STATES.keys() else _IN_A_COUNTRY


def _is_date(value: str) -> bool:
    try:
        return bool(_ISO_DATE.fullmatch(value) and date.fromisoformat(value))
    except ValueError:
        return False


def _tool(tool: Tool, forms: Forms, rng: random.Random) -> Tool:
    properties = {
        name: _described(schema, forms[tool["name"], name], rng) if (tool["name"], name) in forms else schema
        for name, schema in tool["parameters"].get("properties", {}).items()
    }
    return {**tool, "parameters": {**tool["parameters"], "properties": properties}} if properties else tool


def _described(schema: Mapping[str, Any], form: Form, rng: random.Random) -> dict[str, Any]:
    clause = rng.choice(_CLAUSES).format(form=f"'{form.name}'", sample=f"'{form.sample}'")
    return {**schema, "description": schema["description"].rstrip(". ?") + clause + "."}


def _message(message: Message, forms: Forms) -> Message:
    if not message.get("tool_calls"):
        return message
    return {**message, "tool_calls": [_call(call, forms) for call in message["tool_calls"]]}


def _call(call: Mapping[str, Any], forms: Forms) -> dict[str, Any]:
    arguments = {
        name: forms[call["name"], name].write(value) if (call["name"], name) in forms else value
        for name, value in call["arguments"].items()
    }
    return {**call, "arguments": arguments}
