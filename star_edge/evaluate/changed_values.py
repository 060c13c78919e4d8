"""One argument value changed in a given way; a value to which the change does not apply comes back as it was."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_DIGITS = re.compile(r"\d+")
_WORDS = ("Lisbon", "monthly", "blue", "guest", "report.pdf", "Ada Byron", "2031-04-17", "north exit")


def same_spelling(value: Any, schema: Mapping[str, Any], rng: random.Random) -> Any:
    """Free text with another case, or other separators between the same words."""
    return value if schema.get("enum") else _respelled(value, schema, rng)


def listed_spelling(value: Any, schema: Mapping[str, Any], rng: random.Random) -> Any:
    """The same for a value of a closed list, which no longer has it then."""
    return _respelled(value, schema, rng) if schema.get("enum") else value


def _respelled(value: Any, schema: Mapping[str, Any], rng: random.Random) -> Any:
    if not isinstance(value, str) or schema.get("type") not in ("string", "String"):
        return value
    forms = (value.lower(), value.upper(), value.replace(" ", "_"), value.replace(",", ""), f"{value}.")
    return _other(forms, value, rng)


def other_spelling(value: Any, schema: Mapping[str, Any], rng: random.Random) -> Any:
    """A character less, one twice, two in the other order, another sign or symbol: not the same word any more."""
    if isinstance(value, list | dict):
        return _at_one_place(value, lambda item: other_spelling(item, schema, rng), rng)
    if not isinstance(value, str) or not value:
        return value
    at = rng.randrange(len(value))
    forms = [f"{value[:at]}{value[at + 1 :]}", f"{value[: at + 1]}{value[at:]}", f"{value}+", f"{value}s", f"${value}"]
    if at:
        forms.append(value[: at - 1] + value[at] + value[at - 1] + value[at + 1 :])
    return rng.choice(forms)


def changed_number(value: Any, schema: Mapping[str, Any], rng: random.Random) -> Any:
    """Another number, or another number inside a text, a list or an object."""
    if isinstance(value, list | dict):
        return _at_one_place(value, lambda item: changed_number(item, schema, rng), rng)
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _other([value + 1, value - 1, value * 10, -value, value + 100], value, rng)
    runs = [*_DIGITS.finditer(value)] if isinstance(value, str) else []
    if not runs:
        return value
    run = rng.choice(runs)
    number = str(int(run[0]) + rng.choice([1, 2, 10])).zfill(len(run[0])) if len(run[0]) < 20 else "7"
    return value[: run.start()] + number + value[run.end() :]


def another_value(value: Any, schema: Mapping[str, Any], rng: random.Random) -> Any:
    """A value of the same type that means something else; another of the listed ones where the schema lists them."""
    listed = [option for option in schema.get("enum") or () if option != value]
    if listed and isinstance(value, str):
        return rng.choice(listed)
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        if value in ("true", "false"):
            return "false" if value == "true" else "true"
        return _other(_WORDS, value, rng)
    return changed_number(value, schema, rng)


def another_type(value: Any, schema: Mapping[str, Any], rng: random.Random) -> Any:
    """The same content as another JSON type."""
    if isinstance(value, str):
        return [value] if not value.lstrip("-").isdigit() or len(value) > 15 else int(value)
    if isinstance(value, bool):
        return rng.choice([str(value).lower(), int(value)])
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    return json.dumps(value)


def float_for_integer(value: Any, schema: Mapping[str, Any], rng: random.Random) -> Any:
    """The same number with a point: one JSON value, two Python types."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 else value


def changed_inside(value: Any, schema: Mapping[str, Any], rng: random.Random) -> Any:
    """A list or object with an element or a key less, more, elsewhere or other."""
    if isinstance(value, dict) and value:
        key = rng.choice([*value])
        rest = {name: item for name, item in value.items() if name != key}
        other = another_value(value[key], {}, rng)
        return rng.choice([rest, {**rest, f"{key}_1": value[key]}, {**value, key: other}, {**value, "note": "none"}])
    if isinstance(value, list) and value:
        at = rng.randrange(len(value))
        others = [item if place != at else another_value(item, {}, rng) for place, item in enumerate(value)]
        return _other([value[:at] + value[at + 1 :], [*value, value[at]], value[::-1], others], value, rng)
    return value


def made_up(schema: Mapping[str, Any], rng: random.Random) -> Any:
    """Some value of the schema's type."""
    if schema.get("enum"):
        return rng.choice(list(schema["enum"]))
    kind = schema.get("type")
    if kind in ("array", "tuple"):
        return [made_up(schema.get("items") or {}, rng)]
    if kind in ("dict", "object"):
        return {name: made_up(inner, rng) for name, inner in (schema.get("properties") or {}).items()}
    made: dict[Any, Any] = {
        "integer": rng.randrange(100),
        "float": rng.randrange(1000) / 8,
        "boolean": rng.random() < 0.5,
    }
    return made.get(kind, rng.choice(_WORDS))


def _other(forms: Sequence[Any], value: Any, rng: random.Random) -> Any:
    return rng.choice([form for form in forms if form != value])


def _at_one_place(value: Any, change: Callable[[Any], Any], rng: random.Random) -> Any:
    """The change at the first place, in random order, at which it makes a difference."""
    places = [*value] if isinstance(value, dict) else [*range(len(value))]
    for place in rng.sample(places, len(places)):
        changed = change(value[place])
        if json.dumps(changed) != json.dumps(value[place]):
            copy = dict(value) if isinstance(value, dict) else list(value)
            copy[place] = changed
            return copy
    return value
