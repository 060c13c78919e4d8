"""JSON as RFC 8259 has it, and no more: the reader behind every call that is scored.

Python's `json` also takes NaN and Infinity, turns 1e999 into infinity, and nests until the stack ends; none of
that may reach a score or a file. Of a repeated key the last one counts, as in `json` and in JavaScript.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_DEPTH = 64

_WHITESPACE = re.compile(r"[ \t\r\n]*")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{digits[:20]} is out of range")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def skip_whitespace(text: str, start: int) -> int:
    """Index of the first character at or after `start` that is not JSON white space."""
    match = _WHITESPACE.match(text, start)
    return match.end() if match else start


def read_value(text: str, start: int = 0) -> tuple[Any, int]:
    """Read one JSON value and say where it ends.

    Returns: the value, and the index just behind it.
    Raises: ValueError: no JSON value starts there, it nests deeper than MAX_DEPTH, or it holds a lone surrogate.
    """
    try:
        value, end = _DECODER.raw_decode(text, skip_whitespace(text, start))
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH}") from None
    _check_depth(value, text[start:end])
    _check_encodable(value, text[start:end])
    return value, end


def loads(text: str) -> Any:
    """The one JSON value that makes up the whole text.

    Raises: ValueError: as `read_value`, or something follows the value.
    """
    value, end = read_value(text)
    end = skip_whitespace(text, end)
    if end != len(text):
        raise ValueError(f"extra text at character {end}")
    return value


def _check_depth(value: Any, source: str) -> None:
    if source.count("{") + source.count("[") <= MAX_DEPTH:
        return
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [item for holder in level for item in (holder.values() if isinstance(holder, dict) else holder)]
        level = [item for item in inner if isinstance(item, dict | list)]
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_DEPTH}")


def _check_encodable(value: Any, source: str) -> None:
    """A lone surrogate passes `json` but cannot be written to a UTF-8 file."""
    if source.isascii() and "\\u" not in source:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a lone surrogate is not text") from None
