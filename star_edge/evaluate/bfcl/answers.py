"""A right answer to a BFCL case, built from its accepted values; Java and JavaScript values as source text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from star_edge.contracts import ToolCall
from star_edge.evaluate.bfcl.cases import BfclCase
from star_edge.evaluate.bfcl.tools import Language

_JAVA_SUFFIXES = {"long": "L", "float": "f"}


def canonical(case: BfclCase) -> tuple[ToolCall, ...]:
    """One call an answer, every parameter that has an accepted value with the first of them.

    Returns: no call where the case has no answers (irrelevance and relevance).
    """
    return tuple(_call(case, *next(iter(answer.items()))) for answer in case.answers)


def accepted_values(case: BfclCase, name: str, parameter: str, options: Sequence[Any]) -> list[Any]:
    """The accepted values of a function's parameter as a call may give them; leaving it out is not among them."""
    schema = parameters(case, name).get(parameter, {})
    values = [_first_values(option) for option in options if option != ""]
    return values if case.language == "python" else [_source_text(value, schema, case.language) for value in values]


def parameters(case: BfclCase, name: str) -> Mapping[str, Any]:
    """The parameters of a function as its document has them; none when it is not on offer."""
    document: Mapping[str, Any] = next((one for one in case.functions if one["name"] == name), {})
    found: Mapping[str, Any] = document.get("parameters", {}).get("properties", {})
    return found


def _call(case: BfclCase, name: str, accepted: Mapping[str, Sequence[Any]]) -> ToolCall:
    values = {parameter: accepted_values(case, name, parameter, options) for parameter, options in accepted.items()}
    return ToolCall(name, {parameter: options[0] for parameter, options in values.items() if options})


def _first_values(option: Any) -> Any:
    """An accepted dictionary holds a list of accepted values for each key, "" for a key that may be left out."""
    if isinstance(option, list):
        return [_first_values(item) if isinstance(item, dict) else item for item in option]
    if isinstance(option, dict):
        given = {key: [value for value in choices if value != ""] for key, choices in option.items()}
        return {key: values[0] for key, values in given.items() if values}
    return option


def _source_text(value: Any, schema: Mapping[str, Any], language: Language) -> str:
    if isinstance(value, str):
        return value
    kind, elements = schema.get("type", ""), schema.get("items", {}).get("type", "")
    return _java(value, kind, elements) if language == "java" else _javascript(value, kind, elements)


def _java(value: Any, kind: str = "", elements: str = "") -> str:
    if isinstance(value, list):
        # The checker strips the quotation marks of a list's strings and keeps those of an array's.
        items = [item if kind == "Array" and isinstance(item, str) else _java(item, elements) for item in value]
        if kind == "Array":
            return f"new {elements or 'Object'}[]{{{', '.join(items)}}}"
        return f"new ArrayList<>(Arrays.asList({', '.join(items)}))" if items else "new ArrayList<>()"
    if isinstance(value, dict):
        entries = " ".join(f"put({json.dumps(key)}, {_java(item)});" for key, item in value.items())
        return f"new HashMap<>() {{{{ {entries} }}}}"
    return json.dumps(value, ensure_ascii=False) + _JAVA_SUFFIXES.get(kind, "")


def _javascript(value: Any, kind: str = "", elements: str = "") -> str:
    if isinstance(value, list):
        return f"[{', '.join(_javascript(item, elements) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)}: {_javascript(item)}' for key, item in value.items())}}}"
    return json.dumps(value, ensure_ascii=False) + ("n" if kind == "Bigint" else "")
