"""JavaScript source text as values, in the forms that BFCL's checker knows; any other text stands for itself.

Lists end at their first closing bracket and objects at their first closing brace, so only lists nest, once.
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
    "String": str,
    "integer": int,
    "float": float,
    "Bigint": int,
    "Boolean": bool,
    "dict": dict,
    "array": list,
    "any": str,
}
WITH_ELEMENTS = ("array",)

_QUOTES = "\"'"
_WHOLE = r"-?\d+"
_ON_ONE_LINE = r"[^\n]*?"  # the shortest text up to what follows
_ARRAY_CALL = r"new\s+Array\("
_IN_BRACKETS = rf"\[(?P<inner>{_ON_ONE_LINE})]"
_LIST = re.compile(rf"{_IN_BRACKETS}|{_ARRAY_CALL}(?P<arguments>{_ON_ONE_LINE})\)")
_LIST_OF_LISTS_HEAD = re.compile(rf"(?:\[|{_ARRAY_CALL})\s*(?=\[)")
_INNER_LIST = re.compile(_IN_BRACKETS)
_BETWEEN_LISTS = re.compile(r"\s*(?:(,)\s*(?=\[))?")
_BIGINT = re.compile(rf"{_WHOLE}n$")
_OBJECT = re.compile(rf"{{(?P<fields>{_ON_ONE_LINE})}}")
# A field's value ends at a comma behind which, before the next one, a colon follows, or with the text.
_FIELD = re.compile(rf"(?P<key>[^:]+):\s*(?P<value>{_ON_ONE_LINE})(?:$|,\s*(?=[^,]+:))")


def read(text: str, kind: str, elements: str | None = None) -> Any:
    """The value of source text.

    Args:
        kind: the type's name in the function document; `elements`: that of an array's elements, if known.
    Returns: a value of type `KINDS[kind]`, or the text where it has none of the known forms.
    Raises: LookupError: a type of no known name.
        ValueError: an integer of more digits than Python converts, or a Bigint before a line end, but neither in an
            array, which then stays text.
    """
    return _READERS[kind](text, elements)


def _read_string(text: str, elements: str | None) -> str:
    quoted = inside_quotes(text, _QUOTES)
    return text if quoted is None else quoted


def _read_bigint(text: str, elements: str | None) -> int | str:
    # The pattern lets a line end follow, but it is not the n that is then cut off.
    return int(text[:-1]) if _BIGINT.match(text) else text


def _read_array(text: str, elements: str | None) -> list[Any] | str:
    code = text.strip()
    lists = _list_of_lists(code)
    if lists is not None:
        return [[_read_untyped(part) for part in inner.split(",")] for inner in lists]
    match = _LIST.match(code)
    if match is None:
        return code
    content = (match["inner"] if match["arguments"] is None else match["arguments"]).strip()
    parts = [part.strip() for part in content.split(",")] if content else []
    try:
        return [read(part, elements) if elements else _read_untyped(part) for part in parts]
    except ValueError:
        return code


def _list_of_lists(code: str) -> list[str] | None:
    """The contents of the inner lists when `code` begins with a list of lists, else None."""
    head = _LIST_OF_LISTS_HEAD.match(code)
    end = head and _list_of_lists_end(code, head.end(), "]" if code.startswith("[") else ")")
    if end is None:
        return None
    first, *others = (inner.strip() for inner in _INNER_LIST.findall(code[:end]))
    # In `[[1], [2]]` the first pair of brackets opens at the outer one.
    return [first.removeprefix("["), *others]


def _list_of_lists_end(code: str, first: int, closing: str) -> int | None:
    """Where the list of lists ends whose first inner list opens at `first`, or None.

    An inner list closes at the first bracket on its line behind which the rest can be read. The ends are filled in
    from the right, because trying them from the left takes exponential time when the last bracket is missing.
    """
    brackets = [match.start() for match in re.finditer(r"\]", code)]
    ends: dict[int, int] = {}

    def end_of_inner(opened: int) -> int | None:
        line_end = code.find("\n", opened) if "\n" in code[opened:] else len(code)
        return next((ends[at] for at in brackets if opened < at < line_end and at in ends), None)

    for at in reversed(brackets):
        between = _BETWEEN_LISTS.match(code, at + 1)
        assert between is not None  # it also matches nothing
        follows = between.end()
        end = end_of_inner(follows) if between[1] else (follows + 1 if code.startswith(closing, follows) else None)
        if end is not None:
            ends[at] = end
    return end_of_inner(first)


def _read_object(text: str, elements: str | None) -> dict[str, Any] | str:
    code = text.strip()
    match = _OBJECT.match(code)
    if match is None:
        return code
    return {key.strip().strip(_QUOTES): _read_field(value.strip()) for key, value in _FIELD.findall(match["fields"])}


def _read_field(text: str) -> Any:
    if text.startswith("[") and text.endswith("]"):
        return _read_array(text, None)
    return _read_untyped(text.strip(_QUOTES))


def _read_untyped(text: str) -> Any:
    """A value whose type only its own form tells."""
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    quoted = inside_quotes(text, _QUOTES)
    return number_or_text(text) if quoted is None else quoted


_READERS: dict[str, Reader] = {
    "String": _read_string,
    "integer": pattern_reader(rf"({_WHOLE})$", int),
    "float": pattern_reader(rf"({_WHOLE}(?:\.\d+)?)$", float),
    "Bigint": _read_bigint,
    "Boolean": read_truth_value,
    "dict": _read_object,
    "array": _read_array,
    "any": read_verbatim,
}
