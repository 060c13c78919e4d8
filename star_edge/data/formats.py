"""Values in the form that a description asks for: dates, times, cities and percentages, so that the model reads how to
write them.

A description that says nothing of a form gets one of several, and the values of that parameter are written in it.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, TypeAlias

from star_edge.contracts import Example, Tool
from star_edge.data.draws import draws
from star_edge.data.rewriting import with_arguments, with_clause
from star_edge.data.spoken import percentages

_STATES = {
    "AZ": "Arizona", "CA": "California", "CO": "Colorado", "FL": "Florida", "GA": "Georgia", "HI": "Hawaii",
    "IL": "Illinois", "LA": "Louisiana", "MA": "Massachusetts", "MD": "Maryland", "MI": "Michigan",
    "MN": "Minnesota", "NC": "North Carolina", "NV": "Nevada", "NY": "New York", "OK": "Oklahoma", "OR": "Oregon",
    "PA": "Pennsylvania", "TN": "Tennessee", "TX": "Texas", "UT": "Utah", "WA": "Washington",
}  # fmt: skip
# Cities that everyone would place in one state, or in one country with one usual name.
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
    "Spain": "Madrid, Barcelona",
    "Sweden": "Stockholm",
    "Switzerland": "Zurich",
    "Thailand": "Bangkok",
    "Turkey": "Istanbul",
}
_PLACES = {city: place for place, cities in _CITIES.items() for city in cities.split(", ")}
# Not `strftime`, which writes them in the language of the machine.
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip

_CLAUSES = (
    ", in the format '{pattern}'{note}",
    " ('{pattern}'{note})",
    ". Format: '{pattern}'{note}",
)
_CLAUSES_WITH_SAMPLE = (
    ", formatted as '{pattern}'{note}, e.g. '{sample}'",
    ", written as '{pattern}'{note}, such as '{sample}'",
    ", for example '{sample}'",
)
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
# What a description says of a form, or of values that are not free text.
_HAS_A_FORM = re.compile(
    r"format|e\.?g\b|i\.e|exampl|such as|\blike\b|yy|\bhh|:mm|mm[-/]|dd[-/]|iso\b|%[ymd]|city, ?(state|country)|code|"
    r"enum|one of|decimal|fraction|(in|as)( an?)?( whole)? percent|%|\d|['\"\[(]",
    re.IGNORECASE,
)
_NAMES_A_FORM = re.compile(
    r"yyyy|dd[-/.]mm|mm[-/.]dd|%y|hh:mm|city, ?(state|country)|as an? (decimal|fraction)", re.IGNORECASE
)
_REGION = re.compile(r"state|country|province|region|county", re.IGNORECASE)
# Values that only look like a date, a time or a city.
_OTHER = re.compile(
    r"version|status|domain|\bkey\b|title|song|track|lyric|film|movie|album|artist|person|people|author|word|state\b|"
    r"country|province|region|station|airport|address|website|url|breed|league|team|dentist|doctor|stylist|salon|"
    r"name of|_name\b|\bid\b|stamp|zone|duration|tag|keyword|theme|prefix|lat\b|lng|coordinates",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write a kind of value.

    clauses: any of them tells it. fits: which values can be written so.
    """

    clauses: tuple[str, ...]
    write: Callable[[Any], Any]
    fits: Callable[[Any], bool] = lambda value: True


@dataclass(frozen=True, slots=True, eq=False)  # each is itself alone, which is quick to look up
class Kind:
    """Values of one meaning: `about` is how descriptions or names tell of it, `forms` how they may be written.

    is_one: of a value of `type` and what the user said.
    """

    about: re.Pattern[str]
    is_one: Callable[[Any, str], bool]
    forms: tuple[Form, ...]
    type: str = "string"


def _patterned(
    pattern: str, write: Callable[[str], str], sample: str, *, note: str = "", needs_sample: bool = False, **fits: Any
) -> Form:
    """A form that a pattern tells, another value, or both; `needs_sample`: the pattern alone does not say it all."""
    clauses = _CLAUSES_WITH_SAMPLE if needs_sample else (*_CLAUSES, *_CLAUSES_WITH_SAMPLE)
    return Form(tuple(each.format(pattern=pattern, note=note, sample=sample) for each in clauses), write, **fits)


def _is_date(value: str, _: str) -> bool:
    try:
        return bool(_ISO_DATE.fullmatch(value) and date.fromisoformat(value))
    except ValueError:
        return False


def _day(value: str, form: str) -> str:
    day = date.fromisoformat(value)
    return form.format(y=day.year, m=day.month, d=day.day, name=_MONTHS[day.month - 1])


def _clock(value: str) -> str:
    hour, minute = value.split(":")
    return f"{int(hour) % 12 or 12}:{minute} {'AM' if int(hour) < 12 else 'PM'}"


def _days(pattern: str, form: str) -> Form:
    return _patterned(pattern, lambda value: _day(value, form), _day("2021-08-24", form))


def _is_in_a_state(city: str) -> bool:
    return _PLACES[city] in _STATES


def _in_state(state: Callable[[str], str], sample: str) -> Form:
    return _patterned(
        "City, State", lambda city: f"{city}, {state(city)}", sample, needs_sample=True, fits=_is_in_a_state
    )


def _with_country(city: str) -> str:
    return f"{city}, {'USA' if _is_in_a_state(city) else _PLACES[city]}"


_RATE = r"(percentage|(interest|tax|discount|growth|inflation|return)[_ ]?rate)"
# By its name, or as the first thing that its description says: others are what a percentage is taken of.
_ABOUT_PERCENT = re.compile(rf"^\w*(percent|{_RATE})|^\w+: (the |an? )?(\w+ ){{0,2}}?{_RATE}\b", re.IGNORECASE)


def _is_said_in_percent(value: float, said: str) -> bool:
    return 0 < value <= 100 and value in percentages(said)


_ABOUT_CITY = re.compile(r"city|town|\b(locat\w*|locality|destination|origin\w*|place|where)\b", re.IGNORECASE)
KINDS = (
    Kind(
        re.compile(r"\b(date|day|when|deadline|birthday)\b|_date|date_|_day\b|\bday_", re.IGNORECASE),
        _is_date,
        (
            _days("YYYY-MM-DD", "{y:04}-{m:02}-{d:02}"),
            _days("MM/DD/YYYY", "{m:02}/{d:02}/{y:04}"),
            _days("DD/MM/YYYY", "{d:02}/{m:02}/{y:04}"),
            _days("DD.MM.YYYY", "{d:02}.{m:02}.{y:04}"),
            _days("YYYYMMDD", "{y:04}{m:02}{d:02}"),
            _days("Month D, YYYY", "{name} {d}, {y:04}"),
        ),
    ),
    Kind(
        re.compile(r"\b(time|when|hour)\b|_time\b|\btime_", re.IGNORECASE),
        lambda value, _: bool(_CLOCK.fullmatch(value)),
        (
            _patterned("HH:MM", lambda value: value, "18:45", note=", 24-hour clock"),
            _patterned("H:MM AM/PM", _clock, "6:45 PM"),
            _patterned("HH:MM:SS", lambda value: f"{value}:00", "18:45:00", note=", 24-hour clock"),
        ),
    ),
    Kind(
        _ABOUT_CITY,
        lambda value, _: value in _PLACES,
        (
            _in_state(lambda city: _PLACES[city], "Madison, WI"),
            _in_state(lambda city: _STATES[_PLACES[city]], "Madison, Wisconsin"),
            _patterned("City, Country", _with_country, "Madison, USA", needs_sample=True),
            _patterned("City, Country", _with_country, "Helsinki, Finland", needs_sample=True),
        ),
    ),
    Kind(
        _ABOUT_PERCENT,
        _is_said_in_percent,
        (
            Form((", in percent", " (a percentage, e.g. 20)", ", as a number from 0 to 100"), lambda value: value),
            Form(
                (
                    ", as a decimal",
                    " (a fraction, e.g. 0.2)",
                    ", as a number from 0 to 1",
                    ", as a decimal, such as 0.08",
                ),
                lambda value: round(value / 100, 9),
            ),
        ),
        type="number",
    ),
)
Forms: TypeAlias = Mapping[tuple[str, str], Form]
"""(function, parameter) -> how its values are written."""


def formatted(example: Example, *, share: float, seed: int) -> Example:
    """The row with forms in its descriptions and values in them, or the very row when it is not drawn or has none.

    Forms go to parameters of all offered tools, called or not, in rows with a call and without: they must not tell
    which one to call. A parameter takes part when it is about dates, times, cities or percentages by its name or
    description, which says nothing of a form, and all its values in the row's calls, if any, are ISO dates, times of 24
    hours, known cities, or numbers that the user says in percent. Parameters of one function that are of one kind get
    one form. Left alone are functions with a parameter that names a form, cities beside a state or country of their
    own, and rows whose request names a form. Earlier calls change alike; requests and results stay as they are.

    Args:
        share: of the rows that are drawn, in [0, 1].
    """
    rng = draws(seed, "formats", example.id)
    if rng.random() >= share or any(_NAMES_A_FORM.search(message["content"]) for message in example.prompt):
        return example
    said = "\n".join(message["content"] for message in example.prompt if message["role"] == "user")
    calls = [call for message in example.messages for call in message.get("tool_calls", ())]
    forms = dict(form for tool in example.tools for form in _drawn_forms(tool, calls, said, rng))
    if not forms:
        return example

    def written(function: str, parameter: str, value: Any) -> Any:
        form = forms.get((function, parameter))
        return value if form is None else form.write(value)

    return dataclasses.replace(
        example,
        messages=tuple(with_arguments(message, written) for message in example.messages),
        tools=tuple(_tool(tool, forms, rng) for tool in example.tools),
    )


def _drawn_forms(
    tool: Tool, calls: Sequence[Mapping[str, Any]], said: str, rng: random.Random
) -> Iterator[tuple[tuple[str, str], Form]]:
    properties = tool["parameters"].get("properties", {})
    if any("format" in _told(*each).casefold() for each in properties.items()):
        return
    own = [call["arguments"] for call in calls if call["name"] == tool["name"]]
    open_ones = {
        name: [arguments[name] for arguments in own if name in arguments]
        for name, schema in properties.items()
        if _is_open(schema)
    }
    for kind in KINDS:
        names = [
            name
            for name, values in open_ones.items()
            if properties[name]["type"] == kind.type
            and _is_about(name, properties, kind)
            and all(_is_of(kind, value) and kind.is_one(value, said) for value in values)
        ]
        values = [value for name in names for value in open_ones.pop(name)]
        choices = [form for form in kind.forms if all(map(form.fits, values))]
        form = rng.choice(choices)
        yield from (((tool["name"], name), form) for name in names)


def _is_of(kind: Kind, value: Any) -> bool:
    return isinstance(value, str if kind.type == "string" else int | float) and not isinstance(value, bool)


def _told(name: str, schema: Any) -> str:
    """What a parameter's name and description say."""
    description = schema.get("description") if isinstance(schema, Mapping) else None
    return f"{name}: {description or ''}"


def _is_open(schema: Any) -> bool:
    """A described string or number without any rule, of which nothing is said on how to write it."""
    return (
        isinstance(schema, Mapping)
        and schema.keys() == {"type", "description"}
        and schema["type"] in ("string", "number")
        and bool(schema["description"])
        and _leaves_form_open(schema["description"])
    )


# Rows offer the same tools again and again, so what their texts say is remembered.
@lru_cache(maxsize=1 << 16)
def _leaves_form_open(description: str) -> bool:
    return not description.rstrip().endswith("?") and not _HAS_A_FORM.search(description)


@lru_cache(maxsize=1 << 16)
def _tells_of(told: str, kind: Kind) -> bool:
    return bool(kind.about.search(told)) and not (kind.type == "string" and _OTHER.search(told))


def _is_about(name: str, properties: Mapping[str, Any], kind: Kind) -> bool:
    """Whether a parameter means what its values look like, and no other one says the rest of it."""
    if not _tells_of(_told(name, properties[name]), kind):
        return False
    others = (_told(*each) for each in properties.items() if each[0] != name)
    return kind.about is not _ABOUT_CITY or not any(map(_REGION.search, others))


def _tool(tool: Tool, forms: Forms, rng: random.Random) -> Tool:
    properties = {
        name: _described(schema, forms[tool["name"], name], rng) if (tool["name"], name) in forms else schema
        for name, schema in tool["parameters"].get("properties", {}).items()
    }
    return {**tool, "parameters": {**tool["parameters"], "properties": properties}} if properties else tool


def _described(schema: Mapping[str, Any], form: Form, rng: random.Random) -> dict[str, Any]:
    return {**schema, "description": with_clause(schema["description"], rng.choice(form.clauses))}
