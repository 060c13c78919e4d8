"""Java source text as values, in the forms that BFCL's checker knows; any other text stands for itself.

So `12` read as a `long` stays the text `12` (it lacks its L), and so does an `ArrayList` built in another way than by
`Arrays.asList` or `add`. Elements are found by commas and the next closing bracket, whatever quotation marks say.
"""

from __future__ import annotations

import re
from typing import Any

from star_edge.evaluate.bfcl.source_text import (
    Reader,
    inside_quotes,
    number_or_text,
    pattern_reader,
    read_truth_value,
    read_verbatim,
)

# Type names of the function documents -> the type of the value they are read into.
KINDS: dict[str, type] = {
    "byte": int,
    "short": int,
    "integer": int,
    "long": int,
    "float": float,
    "double": float,
    "boolean": bool,
    "char": str,
    "String": str,
    "any": str,
    "Array": list,
    "ArrayList": list,
    "HashMap": dict,
    "Queue": list,
    "Stack": list,
    "Set": set,
    "Hashtable": dict,
}
WITH_ELEMENTS = ("Array", "ArrayList")

_DECIMAL = r"(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
_LONG = r"(-?\d+)[lL]$"
_FLOAT = _DECIMAL + "[fF]$"

_ARRAY = re.compile(r"new\s+\w+\[\]\s*\{(.*?)\}")
_LIST_OF_ARGUMENTS = re.compile(r"new\s+ArrayList<\w*>\(Arrays\.asList\((.+?)\)\)")
# The braces hold at least one character that is no white space, were it a brace.
_LIST_OF_ADDITIONS = re.compile(r"new\s+ArrayList<\w*>\(\)\s*\{\{\s*+(.+?)\}\}", re.DOTALL)
_ADDITION = re.compile(r"add\((.+?)\)")
_EMPTY_LIST = re.compile(r"new\s+ArrayList<\w*>\(\)")
_MAP_OF_ENTRIES = re.compile(r"new\s+HashMap<.*?>\s*\(\)\s*\{([^}]*)\}", re.DOTALL)
_ENTRY = re.compile(r"put\(\"(.*?)\",\s*(.*?)\)")
_EMPTY_MAP = re.compile(r"new\s+HashMap<.*?>\s*\(\)")


def read(text: str, kind: str, elements: str | None = None) -> Any:
    """The value of source text.

    Args:
        kind: the type's name in the function document; `elements`: that of an array's or list's elements, if known.
    Returns: a value of type `KINDS[kind]`, or the text where it has none of the known forms.
    Raises: LookupError: a type that nothing reads (Set, Hashtable, Queue, Stack), also as elements.
        ValueError: an integer of more digits than Python converts.
    """
    return _READERS[kind](text, elements)


def _read_array(text: str, elements: str | None) -> list[Any] | str:
    match = _ARRAY.search(text)
    if match is None:
        return text
    parts = (part.strip() for part in match[1].split(","))
    return [read(part, elements) if elements else _read_untyped(part) for part in parts if part]


def _read_array_list(text: str, elements: str | None) -> list[Any] | str:
    if match := _LIST_OF_ARGUMENTS.search(text):
        return [_read_list_element(part.strip(), elements) for part in match[1].split(",")]
    if match := _LIST_OF_ADDITIONS.search(text):
        return [_read_list_element(part.strip(), elements) for part in _ADDITION.findall(match[1])]
    return [] if _EMPTY_LIST.search(text) else text


def _read_list_element(text: str, elements: str | None) -> Any:
    """Lists lose the first and last character of a `String` or `char`, whatever it is; arrays keep the marks."""
    if elements in ("String", "char"):
        return text[1:-1]
    return read(text, elements) if elements else _read_untyped(text)


def _read_hash_map(text: str, elements: str | None) -> dict[str, Any] | str:
    if match := _MAP_OF_ENTRIES.search(text):
        return {key: _read_untyped(value.strip()) for key, value in _ENTRY.findall(match[1])}
    return {} if _EMPTY_MAP.search(text) else text


def _read_untyped(text: str) -> Any:
    """A value whose type only its own form tells."""
    if text in ("true", "false"):
        return text == "true"
    quoted = inside_quotes(text, '"')
    if quoted is not None:
        return quoted
    for reader in (_READERS["long"], _READERS["float"]):
        value = reader(text, None)
        if value is not text:
            return value
    return number_or_text(text)


_read_integer = pattern_reader(r"(-?\d+)$", int)
_READERS: dict[str, Reader] = {
    "byte": _read_integer,
    "short": _read_integer,
    "integer": _read_integer,
    "long": pattern_reader(_LONG, int),
    "float": pattern_reader(_FLOAT, float),
    "double": pattern_reader(_DECIMAL + "$", float),
    "boolean": read_truth_value,
    "char": read_verbatim,
    "String": read_verbatim,
    "any": read_verbatim,
    "Array": _read_array,
    "ArrayList": _read_array_list,
    "HashMap": _read_hash_map,
}
