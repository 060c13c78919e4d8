"""Function documents of BFCL as the tools a model is shown.

Python functions become JSON Schema like any other data set's. A Java or JavaScript function is offered with a string
for every parameter, because the checker reads the value from source text; the description says of which type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from star_edge.calls.schema import normalise_tool
from star_edge.contracts import Tool

Language = Literal["python", "java", "javascript"]

_LANGUAGE_NAMES = {"java": "Java", "javascript": "JavaScript"}
_FUNCTION_REMARKS = {"java": "This is a Java 8 function.", "javascript": "This is a JavaScript function."}
_TYPE_WORDS = {"": "any", "dict": "object"}
_REPLACED_KEYS = ("type", "items", "properties", "required")


def shown_tool(document: Mapping[str, Any], language: Language) -> Tool:
    """The tool of one function document, in canonical form; its name keeps its dots.

    Raises: DataError: the document cannot be read.
    """
    if language == "python":
        return normalise_tool(document)
    parameters = document["parameters"]
    shown = {name: _source_text(schema, language) for name, schema in parameters["properties"].items()}
    return normalise_tool(
        {
            **document,
            "description": _sentences(document["description"], _FUNCTION_REMARKS[language]),
            "parameters": {**parameters, "properties": shown},
        }
    )


def _source_text(schema: Mapping[str, Any], language: Language) -> dict[str, Any]:
    kept = {key: value for key, value in schema.items() if key not in _REPLACED_KEYS}
    remark = f"Give a string that holds {_LANGUAGE_NAMES[language]} source text of type {_type_words(schema)}."
    return {"type": "string", **kept, "description": _sentences(schema.get("description", ""), remark)}


def _sentences(description: str, remark: str) -> str:
    described = description.rstrip()
    full_stop = "" if not described or described.endswith((".", "!", "?")) else "."
    return f"{described}{full_stop} {remark}".lstrip()


def _type_words(schema: Mapping[str, Any]) -> str:
    """A type in words: `ArrayList of long`, `object with the fields a (String: what it is), b (array of float)`."""
    kind = str(schema["type"])
    words = _TYPE_WORDS.get(kind, kind)
    if "items" in schema:
        words += f" of {_type_words(schema['items'])}"
    if "properties" in schema:
        fields = (f"{name} ({_field_words(field)})" for name, field in schema["properties"].items())
        words += f" with the fields {', '.join(fields)}"
    return words


def _field_words(schema: Mapping[str, Any]) -> str:
    description = str(schema.get("description", "")).rstrip(".")
    return f"{_type_words(schema)}: {description}" if description else _type_words(schema)
