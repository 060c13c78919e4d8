"""Canonical rows on disk and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from star_edge.contracts import Example
from star_edge.data.rows import from_row, read_examples, to_row, write_examples
from star_edge.errors import DataError

EXAMPLE = Example(
    id="row-1",
    source="test",
    messages=(
        {"role": "user", "content": "dimmé le son à 3 \u2028 s'il te plaît"},
        {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {"b": 1.0, "a": [True, "7"]}}]},
    ),
    tools=({"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}},),
    kind="single",
)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_examples(tmp_path / "rows.jsonl", [EXAMPLE, EXAMPLE])

    assert read_examples(tmp_path / "rows.jsonl") == [EXAMPLE, EXAMPLE]


def test_types_and_key_order_of_arguments_are_kept(tmp_path: Path) -> None:
    write_examples(tmp_path / "rows.jsonl", [EXAMPLE])
    arguments = read_examples(tmp_path / "rows.jsonl")[0].target_calls[0].arguments

    assert list(arguments) == ["b", "a"]
    assert isinstance(arguments["b"], float)
    assert arguments["a"] == [True, "7"]


def test_writing_leaves_no_other_file_behind(tmp_path: Path) -> None:
    write_examples(tmp_path / "rows.jsonl", [EXAMPLE])

    assert [path.name for path in tmp_path.glob("*rows*")] == ["rows.jsonl"]


def test_empty_kind_takes_no_room() -> None:
    row = to_row(Example("a", "s", EXAMPLE.messages, EXAMPLE.tools))

    assert "kind" not in row
    assert from_row(row, where="x").kind == ""


@pytest.mark.parametrize("line", ['{"id": "a", "source": "s", "messages"', '{"id": "a"}', "[1]", '"text"'])
def test_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    write_examples(path, [EXAMPLE])
    path.write_text(path.read_text() + line + "\n")

    with pytest.raises(DataError, match=r"rows\.jsonl:2: "):
        read_examples(path)


def test_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: cannot read"):
        read_examples(tmp_path / "none.jsonl")
