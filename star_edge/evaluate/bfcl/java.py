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

_WHOLE = r"-?\d+"
_DECIMAL = rf"{_WHOLE}(?:\.\d+)?(?:[eE][-+]?\d+)?"
_LONG = rf"({_WHOLE})[lL]$"
_FLOAT = rf"({_DECIMAL})[fF]$"

# The shortest text up to the mark that follows, at least one character where it says SOME.
_ANY, _SOME = r"(?P<inside>[^\n]*?)", r"(?P<inside>[^\n]+?)"

_NEW_LIST = r"new\s+ArrayList<\w*>\("

_ARRAY = re.compile(rf"new\s+\w+\[]\s*{{{_ANY}}}")
_LIST_OF_ARGUMENTS = re.compile(rf"{_NEW_LIST}Arrays\.asList\({_SOME}\)\)")
# The braces hold at least one character that is no white space, were it a brace.
_LIST_OF_ADDITIONS = re.compile(rf"{_NEW_LIST}\)\s*{{{{\s*+(?P<inside>[\s\S]+?)}}}}")
_ADDITION = re.compile(rf"add\({_SOME}\)")
_EMPTY_LIST = re.compile(rf"{_NEW_LIST}\)")
# A map's type may reach over several lines where entries follow it, and only there.
_MAP_OF_ENTRIES = re.compile(r"new\s+HashMap<[\s\S]*?>\s*\(\)\s*{(?P<inside>[^}]*)}")
_ENTRY = re.compile(r'put\("(?P<key>[^\n]*?)",\s*(?P<value>[^\n]*?)\)')
_EMPTY_MAP = re.compile(r"new\s+HashMap<[^\n]*?>\s*\(\)")


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
    parts = (part.strip() for part in match["inside"].split(","))
    return [read(part, elements) if elements else _read_untyped(part) for part in parts if part]


def _read_array_list(text: str, elements: str | None) -> list[Any] | str:
    if match := _LIST_OF_ARGUMENTS.search(text):
        return [_read_list_element(part.strip(), elements) for part in match["inside"].split(",")]
    if match := _LIST_OF_ADDITIONS.search(text):
        return [_read_list_element(part.strip(), elements) for part in _ADDITION.findall(match["inside"])]
    return [] if _EMPTY_LIST.search(text) else text


def _read_list_element(text: str, elements: str | None) -> Any:
    """Lists lose the first and last character of a `String` or `char`, whatever it is; arrays keep the marks."""
    if elements in ("String", "char"):
        return text[1:-1]
    return read(text, elements) if elements else _read_untyped(text)


def _read_hash_map(text: str, elements: str | None) -> dict[str, Any] | str:
    if match := _MAP_OF_ENTRIES.search(text):
        return {key: _read_untyped(value.strip()) for key, value in _ENTRY.findall(match["inside"])}
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


_read_integer = pattern_reader(rf"({_WHOLE})$", int)
_READERS: dict[str, Reader] = {
    "byte": _read_integer,
    "short": _read_integer,
    "integer": _read_integer,
    "long": pattern_reader(_LONG, int),
    "float": pattern_reader(_FLOAT, float),
    "double": pattern_reader(rf"({_DECIMAL})$", float),
    "boolean": read_truth_value,
    "char": read_verbatim,
    "String": read_verbatim,
    "any": read_verbatim,
    "Array": _read_array,
    "ArrayList": _read_array_list,
    "HashMap": _read_hash_map,
}
