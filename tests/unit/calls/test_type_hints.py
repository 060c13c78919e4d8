"""Type hints in every hand we have met, as JSON Schema."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_edge.calls.type_hints import TypeHint, read_type

STRING, INTEGER, NUMBER, BOOLEAN = ({"type": kind} for kind in ("string", "integer", "number", "boolean"))


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("string", STRING),
        ("str", STRING),
        ("String", STRING),
        ("int", INTEGER),
        ("long", INTEGER),
        ("float", NUMBER),
        ("number", NUMBER),
        ("bool", BOOLEAN),
        ("Boolean", BOOLEAN),
        ("list", {"type": "array"}),
        ("dict", {"type": "object"}),
        ("HashMap", {"type": "object"}),
        ("ArrayList<String>", {"type": "array", "items": STRING}),
        ("int[]", {"type": "array", "items": INTEGER}),
        ("any", {}),
        ("Any", {}),
        ("List[int]", {"type": "array", "items": INTEGER}),
        ("list[str]", {"type": "array", "items": STRING}),
        ("typing.List[int]", {"type": "array", "items": INTEGER}),
        ("List", {"type": "array"}),
        ("List[Any]", {"type": "array"}),
        ("List[]", {"type": "array"}),
        ("List[List[float]]", {"type": "array", "items": {"type": "array", "items": NUMBER}}),
        ("Tuple[float, float]", {"type": "array", "items": NUMBER}),
        ("Tuple[int, ...]", {"type": "array", "items": INTEGER}),
        ("Tuple[int, str]", {"type": "array", "items": {"type": ["integer", "string"]}}),
        ("Dict[str, Any]", {"type": "object"}),
        ("Dict[str, int]", {"type": "object", "additionalProperties": INTEGER}),
        ("Dict[str, List[int]]", {"type": "object", "additionalProperties": {"type": "array", "items": INTEGER}}),
        ("Union[int, float]", {"type": ["integer", "number"]}),
        ("int | str", {"type": ["integer", "string"]}),
        ("int or str", {"type": ["integer", "string"]}),
        ("Union[str, List[int]]", {"anyOf": [STRING, {"type": "array", "items": INTEGER}]}),
        ("Union[int, integer]", INTEGER),
        ("Union[int, Any]", {}),
        ("Literal['a', 'b', 3]", {"enum": ["a", "b", 3]}),
        ("Callable[[float], float]", STRING),
        ("datetime", STRING),
    ],
)
def test_types_become_json_schema(text, schema):
    assert read_type(text) == TypeHint(schema)


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("str, optional", STRING),
        ("List[int], optional", {"type": "array", "items": INTEGER}),
        ("Optional[str]", STRING),
        ("Optional[Dict[str, int]]", {"type": "object", "additionalProperties": INTEGER}),
        ("int | None", INTEGER),
        ("Union[int, None]", INTEGER),
        ("float = 3", NUMBER | {"default": 3}),
        ("str = 'a, b'", STRING | {"default": "a, b"}),
        ("str = metric", STRING | {"default": "metric"}),
        ("bool=False", BOOLEAN | {"default": False}),
        ("List[int] = [1, 2]", {"type": "array", "items": INTEGER, "default": [1, 2]}),
        ("str, optional, default='x'", STRING | {"default": "x"}),
        ("int, default: 5", INTEGER | {"default": 5}),
        ("Optional[int] = None", INTEGER | {"default": None}),
    ],
)
def test_optional_types_say_so(text, schema):
    assert read_type(text) == TypeHint(schema, optional=True)


@pytest.mark.parametrize("text", ["strnig", "List[int", "List[wat]", "int, wat", "Optional[" * 40 + "int" + "]" * 40])
def test_unknown_types_are_refused(text):
    with pytest.raises(ValueError):
        read_type(text)


@settings(deadline=None)
@given(st.text(st.sampled_from("aintListDcOponul[]<>,|= .'\"()"), max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        hint = read_type(text)
    except ValueError:
        return
    assert isinstance(hint.schema, dict)
