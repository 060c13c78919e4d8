"""Canonical rows on disk: one JSON object a line, exactly what an `Example` holds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from star_edge.contracts import Example
from star_edge.errors import DataError
from star_edge.manifest import write_atomic


def to_row(example: Example) -> dict[str, Any]:
    """The example as JSON types; the order of keys is kept everywhere."""
    row: dict[str, Any] = {
        "id": example.id,
        "source": example.source,
        "messages": list(example.messages),
        "tools": list(example.tools),
    }
    if example.kind:
        row["kind"] = example.kind
    return row


def from_row(row: Any, *, where: str) -> Example:
    """The example of a canonical row; other shapes go through `star_edge.data.normalise`.

    Raises: DataError: a key is missing; `where` names the row.
    """
    try:
        return Example(
            id=row["id"],
            source=row["source"],
            messages=tuple(row["messages"]),
            tools=tuple(row["tools"]),
            kind=row.get("kind", ""),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{where}: not a canonical row ({error!r}); build the data again") from error


def json_lines(rows: Iterable[Any]) -> str:
    """One compact JSON value a line, a newline after each."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Write rows through a temporary file and a rename.

    Raises: ArtifactError: the disk is full or the folder cannot be written.
    """
    write_atomic(path, json_lines(to_row(example) for example in examples))


def write_prompts(path: Path, examples: Iterable[Example]) -> None:
    """As `write_examples`, without the last turns that are empty."""
    write_examples(path, (example if example.has_answer else as_prompt(example) for example in examples))


def as_prompt(example: Example) -> Example:
    """The row without its last turn, as it stands on disk."""
    return dataclasses.replace(example, messages=example.prompt)


def read_prompts(path: Path) -> list[Example]:
    """Read what `write_prompts` wrote, each with an empty assistant turn as its target where it has no answer.

    Raises: DataError: as `read_examples`.
    """
    empty = {"role": "assistant", "content": ""}
    return [
        example
        if example.messages[-1]["role"] == "assistant"
        else dataclasses.replace(example, messages=(*example.messages, empty))
        for example in read_examples(path)
    ]


def read_examples(path: Path) -> list[Example]:
    """Read what `write_examples` wrote.

    Raises: DataError: no such file, or a line that is not a canonical row.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return [_example_of(line, f"{path}:{number}") for number, line in enumerate(file, start=1)]
    except OSError as error:
        raise DataError(f"{path}: cannot read ({error.strerror or error}); build the data first") from error


def _example_of(line: str, where: str) -> Example:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: broken JSON ({error}); build the data again") from error
    return from_row(row, where=where)
