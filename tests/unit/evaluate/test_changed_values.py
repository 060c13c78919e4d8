from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from star_edge.calls.match import same_value
from star_edge.evaluate import changed_values as changes

STRING, LISTED = {"type": "string"}, {"type": "string", "enum": ["Low", "High"]}
VALUES: list[Any] = [
    0, -3, 2.5, True, False, "", "Low", "3 cups, cold", "true", [], [1, 2], ["a 1"], {}, {"k": "v 2"}, [{"k": 1}], None,
]  # fmt: skip


def drawn(change: Callable[..., Any], value: Any, schema: dict[str, Any] | None = None) -> list[Any]:
    return [change(value, schema or {}, random.Random(seed)) for seed in range(40)]


@pytest.mark.parametrize(
    ("change", "applies"),
    [
        (changes.changed_number, lambda value: value in (0, -3, 2.5) and not isinstance(value, bool)),
        (changes.float_for_integer, lambda value: type(value) is int),
        (changes.changed_inside, lambda value: isinstance(value, list | dict) and bool(value)),
        (changes.other_spelling, lambda value: isinstance(value, str) and value != ""),
        (changes.another_value, lambda value: isinstance(value, bool | str) or value in (0, -3, 2.5)),
        (changes.another_type, lambda value: True),
    ],
)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_change_changes_what_it_is_for_and_stays_json(change, applies, value):
    found = drawn(change, value)
    if applies(value):
        assert all(json.dumps(one) != json.dumps(value) for one in found)
    assert all(json.loads(json.dumps(one)) == one for one in found)


@pytest.mark.parametrize("value", [5, 2**60], ids=str)
def test_a_float_for_an_integer_is_the_same_json_value(value):
    assert all(same_value(one, value) for one in drawn(changes.float_for_integer, value))


def test_numbers_are_changed_inside_texts_lists_and_objects():
    assert all(one != "room 12" and one.startswith("room ") for one in drawn(changes.changed_number, "room 12"))
    assert all(one[0] == "a" and one[1] != 5 for one in drawn(changes.changed_number, ["a", 5]))
    assert all(one["k"] != 5 for one in drawn(changes.changed_number, {"k": 5}))
    assert drawn(changes.changed_number, "no digit")[0] == "no digit"


def test_only_free_text_is_respelled_and_listed_values_apart():
    respelled = {
        one.casefold().replace("_", " ").strip(".") for one in drawn(changes.same_spelling, "Big Room", STRING)
    }
    assert respelled == {"big room"}
    assert "Low" not in drawn(changes.listed_spelling, "Low", LISTED)
    assert drawn(changes.same_spelling, "Low", LISTED) == drawn(changes.listed_spelling, "Low", STRING) == ["Low"] * 40
    assert drawn(changes.same_spelling, "5", {"type": "integer"}) == ["5"] * 40


def test_another_value_keeps_the_type_and_the_list():
    assert set(drawn(changes.another_value, "Low", LISTED)) == {"High"}
    assert set(drawn(changes.another_value, True)) == {False}
    assert set(drawn(changes.another_value, "true")) == {"false"}


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "integer"}, int),
        ({"type": "float"}, float),
        ({"type": "boolean"}, bool),
        (STRING, str),
        ({"type": "array", "items": {"type": "integer"}}, list),
        ({"type": "dict", "properties": {"k": STRING}}, dict),
        ({}, str),
    ],
)
def test_values_are_made_up_in_the_schemas_type(schema, kind):
    assert all(type(changes.made_up(schema, random.Random(seed))) is kind for seed in range(5))
