"""Function documents as the tools a model is shown; all documents here are invented."""

from __future__ import annotations

from typing import Any

import pytest

from star_edge.evaluate.bfcl.tools import Language, shown_tool


def document(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "shop.order",
        "description": "Orders goods.",
        "parameters": {"type": "dict", "properties": properties, "required": list(properties)},
    }


def shown(language: Language, schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = shown_tool(document(value=schema), language)["parameters"]["properties"]["value"]
    return found


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("float", "number"), ("dict", "object"), ("tuple", "array"), ("integer", "integer"), ("string", "string")],
)
def test_python_types_become_json_schema(kind: str, expected: str) -> None:
    assert shown("python", {"type": kind, "description": "Its value."}) == {
        "type": expected,
        "description": "Its value.",
    }


def test_a_python_parameter_of_any_type_is_left_open() -> None:
    assert shown("python", {"type": "any", "description": "Its value."}) == {"description": "Its value."}


@pytest.mark.parametrize("language", ["python", "java", "javascript"])
def test_names_keep_their_dots_and_required_parameters_stay(language: Language) -> None:
    tool = shown_tool(document(count={"type": "integer", "description": "How many."}), language)
    assert tool["name"] == "shop.order"
    assert tool["parameters"]["type"] == "object"
    assert tool["parameters"]["required"] == ["count"]


@pytest.mark.parametrize(
    ("language", "remark"),
    [("python", "Orders goods."), ("java", "Orders goods. This is a Java 8 function."),
     ("javascript", "Orders goods. This is a JavaScript function.")],
)  # fmt: skip
def test_the_description_names_the_language(language: Language, remark: str) -> None:
    assert shown_tool(document(), language)["description"] == remark


@pytest.mark.parametrize(
    ("language", "schema", "words"),
    [
        ("java", {"type": "long"}, "Java source text of type long."),
        ("java", {"type": "any"}, "Java source text of type any."),
        ("java", {"type": "ArrayList", "items": {"type": "char"}}, "Java source text of type ArrayList of char."),
        ("javascript", {"type": "Bigint"}, "JavaScript source text of type Bigint."),
        ("javascript", {"type": "array", "items": {"type": "float"}}, "JavaScript source text of type array of float."),
        (
            "javascript",
            {"type": "dict", "properties": {"sizes": {"type": "array", "items": {"type": "integer"}},
                                            "owner": {"type": "", "description": "Who has it."}}},
            "JavaScript source text of type object with the fields sizes (array of integer), owner (any: Who has it).",
        ),
    ],
)  # fmt: skip
def test_other_languages_take_strings_of_a_described_type(
    language: Language, schema: dict[str, Any], words: str
) -> None:
    found = shown(language, {**schema, "description": "Its value"})
    assert found == {"type": "string", "description": f"Its value. Give a string that holds {words}"}


def test_a_default_stays_with_its_parameter() -> None:
    assert shown("java", {"type": "integer", "description": "How many.", "default": 3})["default"] == 3


def test_a_parameter_without_description_gets_the_remark_alone() -> None:
    assert shown("java", {"type": "char"})["description"] == "Give a string that holds Java source text of type char."
