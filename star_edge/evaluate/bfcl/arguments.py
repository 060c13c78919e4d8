"""Whether one argument's value has the type that is asked for and is among the accepted values.

An accepted value "" says that the parameter may be left out. Where the accepted values are of another type than the
function document says, they name a variable or an expression, and only an equal value is right.

Values are compared as Python compares them, so `1 == True` and `1 == 1.0`, but types are compared strictly: True is no
integer, and an integer passes for a float only in Python.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from star_edge.evaluate.bfcl import java, javascript
from star_edge.evaluate.bfcl.tools import Language

_PYTHON_KINDS: dict[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "any": str,
}
_PYTHON_WITH_ELEMENTS = ("array", "tuple")
_SOURCE_LANGUAGES = {"java": java, "javascript": javascript}
_IGNORED = str.maketrans(dict.fromkeys(" ,./-_*^") | {"'": '"'})


@dataclass(frozen=True, slots=True)
class _Argument:
    """A value as read, the type it should have, and the type its elements should have where that is checked."""

    value: Any
    kind: type
    element_kind: type | None


def argument_error(
    name: str, value: Any, schema: Mapping[str, Any], accepted: Sequence[Any], language: Language
) -> str:
    """Why a value is wrong, in one line; "" when it is right.

    Args:
        value: as in the call; source text where the language is not Python.
        schema: the parameter in the function document.
        accepted: the accepted values; a dictionary in them holds accepted values for each of its keys.
    Raises: LookupError, TypeError, ValueError, AttributeError, ArithmeticError: the schema asks for a type that is not
        known, or the value and the accepted ones are of shapes that cannot be compared.
    """
    argument = _read(value, schema, language)
    if argument is None:
        return f"{name!r} must be a string of {language} source text, not {type(value).__name__}"
    answer_kind = _kind_of(accepted)
    is_of_kind = type(argument.value) is argument.kind
    if is_of_kind and not _elements_fit(argument, accepted):
        return f"the elements of {name!r} must be of type {schema['items']['type']}, not {reprlib.repr(value)}"
    if not is_of_kind and type(argument.value) is not answer_kind:
        return f"{name!r} must be of type {schema['type']}, not {reprlib.repr(value)}"
    is_plain = answer_kind not in (None, argument.kind)
    is_right = argument.value in accepted if is_plain else _is_accepted(argument, accepted)
    return "" if is_right else f"{name!r} must be one of {reprlib.repr(accepted)}, not {reprlib.repr(value)}"


def _read(value: Any, schema: Mapping[str, Any], language: Language) -> _Argument | None:
    """The argument as its language reads it; None when source text is due and the value is no string."""
    kind_name = schema["type"]
    if language == "python":
        kind = _PYTHON_KINDS[kind_name]
        elements = _PYTHON_KINDS[schema["items"]["type"]] if kind_name in _PYTHON_WITH_ELEMENTS else None
        return _Argument(float(value) if kind is float and type(value) is int else value, kind, elements)
    source = _SOURCE_LANGUAGES[language]
    kind = source.KINDS[kind_name]
    if type(value) is not str:
        return None
    if kind_name not in source.WITH_ELEMENTS:
        return _Argument(source.read(value, kind_name), kind, None)
    elements_name = schema["items"]["type"]
    return _Argument(source.read(value, kind_name, elements_name), kind, source.KINDS[elements_name])


def _kind_of(accepted: Sequence[Any]) -> type | None:
    """The type of the first accepted value, None when leaving the parameter out is the only answer."""
    return next((type(option) for option in accepted if option != ""), None)


def _elements_fit(argument: _Argument, accepted: Sequence[Any]) -> bool:
    """Each element has the asked type, or that of an accepted list's elements; what is no list lets all pass."""
    if argument.element_kind is None:
        return True
    return any(
        type(option) is not list
        or all(type(element) in (argument.element_kind, _kind_of(option)) for element in argument.value)
        for option in accepted
    )


def _is_accepted(argument: _Argument, accepted: Sequence[Any]) -> bool:
    value, kind = argument.value, argument.kind
    if kind is dict:
        return _dict_is_accepted(value, accepted)
    if kind is list and argument.element_kind is dict:
        return _dicts_are_accepted(value, accepted)
    if kind is list:
        options = [[_standard(element) for element in _in_order(option)] for option in accepted]
        return [_standard(element) for element in value] in options
    if kind is str:
        return _standard(value) in [_standard(option) for option in accepted]
    return value in accepted


def _dicts_are_accepted(value: list[Any], accepted: Sequence[Any]) -> bool:
    """Lists of dictionaries are compared in their order."""
    return any(
        len(value) == len(option)
        and all(_dict_is_accepted(element, [option[index]]) for index, element in enumerate(value))
        for option in accepted
    )


def _dict_is_accepted(value: dict[str, Any], accepted: Sequence[Any]) -> bool:
    return any(_dict_fits(value, option) for option in accepted if option != "")


def _dict_fits(value: dict[str, Any], option: Mapping[str, Any]) -> bool:
    """One level deep: a dictionary or list within is compared as it stands."""
    are_right = all(
        key in option and _standard(item) in [_standard(one) for one in _in_order(option[key])]
        for key, item in value.items()
    )
    are_complete = all(key in value or "" in choices for key, choices in option.items())
    return are_right and are_complete


def _in_order(options: Any) -> list[Any]:
    """The members of a list, or the characters of a string; a dictionary, which the checker cannot read, raises."""
    return [options[index] for index in range(len(options))]


def _standard(value: Any) -> Any:
    """A string without case, spaces and the punctuation that dates and names differ in; other values as they are."""
    return value.translate(_IGNORED).lower() if type(value) is str else value
