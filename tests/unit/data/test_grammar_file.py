"""A wrong grammar is refused with the file and the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_grammar import SMALL, small_spec

from star_edge.data.grammar_file import parse_grammar, read_grammar
from star_edge.errors import DataError


def changed(key: str, value: Any) -> dict[str, Any]:
    """The small spec with the value at a dotted key replaced, or removed when the value is None."""
    spec: Any = small_spec()
    *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    inner = spec
    for part in path:
        inner = inner[part]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return dict(spec)


def test_good_grammar_is_read() -> None:
    grammar = parse_grammar(small_spec())

    assert [tool.name for tool in grammar.tools] == ["light", "volume", "note"]
    light = grammar.tools[0].phrases["train"][0]
    assert (light.slots, light.constants, light.is_imperative, light.ends_open) == (
        {"room": "room"},
        {"state": "on"},
        True,
        False,
    )
    assert [phrase.ends_open for phrase in grammar.tools[2].phrases["train"]] == [True, True, False]
    assert not grammar.tools[1].phrases["train"][2].is_imperative
    assert grammar.tools[0].tool["parameters"]["required"] == ["state", "room"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", None, "name: missing"),
        ("colour", 1, "colour: unknown key; known are name, rows"),
        ("rows.train", "many", "rows.train: must be of type int, not str"),
        ("rows.heldout", None, "rows.heldout: missing"),
        ("rows", True, "rows: must be of type dict, not bool"),
        ("shares.parallel", 1.5, "shares.parallel: 1.5 is not a share"),
        ("shares.irrelevant", 0.9, "shares: add up to more than 1"),
        ("shares.odd", 0.1, "shares.odd: unknown key"),
        ("tools_offered", [1, 2], "tools_offered: must list whole numbers from 2 to 2"),
        ("tools_offered", [3], "tools_offered: must list whole numbers from 2 to 2"),
        ("wrapped_share", -1, "wrapped_share: -1 is not a share"),
        ("wrappers.train", ["please"], "wrappers.train[0]: must be a text with {request} or {Request}"),
        ("joins.heldout", ["{first}"], "joins.heldout[0]: must be a text with {first} {second}"),
        ("joins.heldout", ["{first} AND {second}"], "joins.heldout: '{first} and {second}' is also in train"),
        ("values.room.heldout", ["attic", "Hall"], "values.room.heldout: 'hall' is also in train"),
        ("values.level.heldout", [3], "values.level.heldout: '3' is also in train"),
        ("values.room.train", [], "values.room.train: is empty"),
        ("values.room", ["attic"], "values.room: must be a mapping"),
        ("tools.light.values.room", "rooms", "tools.light.values.room: no value list 'rooms'"),
        ("tools.light.values", {"floor": "room"}, "tools.light.values.floor: is not a parameter"),
        ("tools.light.required", ["door"], "tools.light.required[0]: 'door' is not a parameter"),
        ("tools.light.similar", ["lamp"], "tools.light.similar: 'lamp' is not a tool"),
        ("tools.light.similar", ["note"], "tools.light.similar: leaves too few tools"),
        (
            "tools.light.phrases.train.0",
            {"say": "x {room}", "with": {"state": True}},
            "True is none of the parameter's enum",
        ),
        (
            "tools.light.phrases.train.0",
            {"say": "x {room}", "with": {"door": 1}},
            "train[0].with.door: is not a parameter",
        ),
        ("tools.light.phrases.train.0", {"say": "x {room}"}, "phrases.train[0]: leaves out the required 'state'"),
        ("tools.light.phrases.train.0", {"say": "x {room}", "when": 1}, "phrases.train[0].when: unknown key"),
        ("tools.light.phrases.train.0", 7, "phrases.train[0]: must be a text, or"),
        (
            "tools.volume.phrases.train.0",
            "to {level} or {level}",
            "phrases.train[0]: slot {level} has no value list, is used twice",
        ),
        ("tools.volume.phrases.train.0", "to {height}", "slot {height} has no value list"),
        (
            "tools.volume.phrases.heldout",
            ["VOLUME TO {level}"],
            "phrases.heldout: 'volume to {level}' is also in train",
        ),
        ("tools.volume.values.level", "room", "tools.volume.values.level: 'kitchen' is not of type integer"),
        ("tools.note.missing.0.parameter", "colour", "missing[0].parameter: 'colour' is not a parameter"),
        ("tools.note.missing.0.phrases.train.0", "note {text}", "phrases.train[0]: states 'text'"),
        ("tools.note.missing.0.ask", None, "missing[0].ask: missing"),
        ("tools.note.missing", None, "shares: missing is above 0, but no tool has"),
        ("irrelevant.phrases.train", ["sing {song}"], "irrelevant.phrases.train[0]: slot {song} has no value list"),
    ],
)
def test_wrong_grammar_names_file_and_key(key: str, value: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_grammar(changed(key, value), where="own.yaml")

    assert str(caught.value).startswith("own.yaml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_spec_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(SMALL)

    assert read_grammar(path) == small_spec()


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [1", "not readable as YAML"), ("- a\n", "expected a mapping"), ("", "expected a mapping")],
)
def test_file_that_is_no_mapping_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)

    with pytest.raises(DataError, match=message) as caught:
        read_grammar(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.yaml: cannot read"):
        read_grammar(tmp_path / "none.yaml")
