"""What the readers of Java and of JavaScript source text have in common."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# Source text and the type of the elements, when it is known, to the value.
Reader = Callable[[str, str | None], Any]


def number_or_text(text: str) -> int | float | str:
    """The number that Python reads from the text (`1_000`, `inf` and white space around it included), else the text."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def pattern_reader(pattern: str, convert: Callable[[str], Any]) -> Reader:
    """A reader that converts the pattern's first group, and leaves text that the pattern does not match as it is."""
    compiled = re.compile(pattern)

    def read(text: str, elements: str | None) -> Any:
        match = compiled.match(text)
        return convert(match[1]) if match else text

    return read


def read_truth_value(text: str, elements: str | None) -> bool | str:
    """`true` and `false`; anything else stays text."""
    return text == "true" if text in ("true", "false") else text


def read_verbatim(text: str, elements: str | None) -> str:
    """The text itself."""
    return text


def inside_quotes(text: str, quotes: str) -> str | None:
    """The text between two equal quotation marks, one of `quotes`, or None; a single mark counts as both."""
    return text[1:-1] if any(text.startswith(mark) and text.endswith(mark) for mark in quotes) else None
