"""Whether the words of a request may mean a value, as far as can be told without a model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from star_edge.contracts import Example, ToolCall

_STEM = 4  # letters by which two forms of a word are taken for one
_PERCENTAGE = re.compile(r"(?<![\d.,-])(\d+(?:\.\d+)?) ?(?:%|percent\b)", re.IGNORECASE)
_CODE = re.compile(r"[A-Za-z]{1,3}")
_UNITS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_NUMBER_WORDS = {
    **{word: float(number) for number, word in enumerate(_UNITS, 1)},
    **{word: 10.0 * number for number, word in enumerate(_TENS, 2)},
    **{word: float(number) for number, word in enumerate(_ORDINALS, 1)},
    "half": 0.5,
    "once": 1.0,
    "twice": 2.0,
    "couple": 2.0,
    "pair": 2.0,
    "noon": 12.0,
}
_SCALES = {"dozen": 12.0, "hundred": 1e2, "thousand": 1e3, "k": 1e3, "million": 1e6, "m": 1e6, "billion": 1e9}
_LATE = "afternoon|evening|tonight"
_TRUTH = frozenset(("true", "false"))
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip


def can_be_read(value: Any, request: str) -> bool:
    """Whether a request may mean a value: each of its texts is said, or has its numbers and half of its words there.

    Numbers may be said as words, in percent, as months or on a clock of twelve hours, words in another form; codes of
    up to three letters and truth values cannot be looked for.
    """
    return all(_is_verbatim(leaf, request) or _is_likely(leaf, request) for leaf in _leaves(value))


def percentages(text: str) -> set[float]:
    """The numbers that a text says in percent: 5.8 for "5.8 %" and for "5.8 percent"."""
    return {float(found) for found in _PERCENTAGE.findall(text)}


def is_said(value: Any, request: str) -> bool:
    """Whether a value has texts or numbers, and a request all of them word by word; truth values are never said."""
    leaves = list(_leaves(value))
    return bool(leaves) and all(_is_verbatim(leaf, request) for leaf in leaves)


def unsaid(calls: Sequence[ToolCall], example: Example) -> list[tuple[str, str, Any]]:
    """Values that calls give optional parameters though nothing before the answer may mean them.

    Truth values, nothing at all (null, ""), choices from an `enum` and a schema's own `default` are not looked at: what
    a request means by them is not in its words. A number is heard wherever it was said, and codes of up to three
    letters pass.

    Returns: function, parameter and value of each.
    """
    schemas = {tool["name"]: tool["parameters"] for tool in example.tools}
    heard: str | None = None
    found = []
    for call in calls:
        schema = schemas.get(call.name, {})
        for name, value in call.arguments.items():
            described = schema.get("properties", {}).get(name)
            if name in schema.get("required", ()) or _is_free_of_words(value) or _is_given(described, value):
                continue
            heard = _heard(example) if heard is None else heard
            if not can_be_read(value, heard):
                found.append((call.name, name, value))
    return found


def _is_free_of_words(value: Any) -> bool:
    return value is None or isinstance(value, bool) or (isinstance(value, str) and value.casefold() in {"", *_TRUTH})


def _is_given(schema: Any, value: Any) -> bool:
    """Whether a schema names the value, or the values to choose from."""
    return _is_chosen(schema) or (isinstance(schema, dict) and "default" in schema and schema["default"] == value)


def _is_chosen(schema: Any) -> bool:
    """Whether a schema names the values that it takes, anywhere within."""
    if isinstance(schema, dict):
        return "enum" in schema or "const" in schema or any(map(_is_chosen, schema.values()))
    return isinstance(schema, list) and any(map(_is_chosen, schema))


def _heard(example: Example) -> str:
    """All that was said before the answer, the values of earlier calls included."""
    parts = []
    for message in example.prompt:
        parts.append(message.get("content") or "")
        parts += [json.dumps(call["arguments"], ensure_ascii=False) for call in message.get("tool_calls") or ()]
    return "\n".join(parts)


def _is_verbatim(leaf: str, request: str) -> bool:
    if leaf and not leaf.isascii() and leaf.casefold() in request.casefold():
        return True  # languages that put no space between words
    return f" {_plain(leaf)} " in f" {_plain(request)} "


def _is_likely(leaf: str, request: str) -> bool:
    if _CODE.fullmatch(leaf):
        return True
    if not _numbers(leaf) <= _spoken_numbers(request):
        return False
    words = [word[:_STEM] for word in _letters(leaf) if len(word) >= _STEM]
    heard = {word[:_STEM] for word in _letters(request)}
    if not words:
        return bool(_numbers(leaf))
    return 2 * sum(word in heard for word in words) >= len(words)


def _numbers(text: str) -> set[float]:
    """Numbers of digits; parts of dates and clocks are numbers of their own, and signs are not looked at."""
    return {float(found) for found in re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d{3}\b)", "", text))}


def _spoken_numbers(request: str) -> set[float]:
    numbers, words = _numbers(request) | set(_numbers_in_words(request)), _letters(request)
    numbers |= {float(number) for number, word in enumerate(_MONTHS, 1) if word in words}
    if re.search(r"%|percent", request, re.IGNORECASE):
        numbers |= {round(number / 100, 9) for number in numbers}
    if re.search(r"half past", request, re.IGNORECASE):
        numbers.add(30.0)
    if re.search(rf"(?<![a-z])p\.?m\b|{_LATE}|o'clock|half past", request, re.IGNORECASE):
        numbers |= {number + 12 for number in numbers if number < 12}
    if re.search(rf"(?<![a-z])[ap]\.?m\b|{_LATE}|morning|noon|o'clock|midnight|zero", request, re.IGNORECASE):
        numbers.add(0.0)
    return numbers


def _numbers_in_words(text: str) -> Iterator[float]:
    """Every number on the way: 2, 200 and 205 of "two hundred and five"; "a" before a scale is one."""
    number, last = 0.0, ""
    for word in re.findall(r"\d+(?:\.\d+)?|[^\W\d_]+", text.casefold()):
        if word == "and":
            continue
        if (scale := _SCALES.get(word)) is not None:
            number = (number or 1.0) * scale if last else 0.0
        elif (said := _NUMBER_WORDS.get(word)) is not None or word[0].isdigit():
            said = float(word) if said is None else said
            joins = (last in _TENS and said < 10) or (last in _SCALES and last != "dozen" and said < _SCALES[last])
            number = number + said if joins else said
        else:
            number = 1.0 if word == "a" else 0.0
        last = word if number else ""
        if number and word != "a":
            yield number


def _letters(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.casefold())


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif not isinstance(value, bool):
        yield "" if value is None else str(value)


def _plain(text: str) -> str:
    """Words and numbers alone, in lower case; signs and points stay with their numbers."""
    found = re.findall(r"-?\d+(?:[.,:]\d+)*|[^\W\d_]+", text.casefold())
    return " ".join(found) or "\0"  # a value of signs alone is never said
