"""Raw rows of a JSONL file, plain or gzip, with the line each came from."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_edge.calls import strict_json
from star_edge.errors import DataError


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used: where it stands, and why not."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """Yield (line number from 1, row); a line that is no JSON object comes as a `BadRow`. Empty lines are passed over.

    Raises: DataError: no such file, or a gzip stream that is damaged or cut short.
    """
    for number, line in _lines(path):
        if line.strip():
            yield number, _row(line, str(path), number)


def count_lines(path: Path) -> int:
    """Lines of the file, for a progress bar.

    Raises: DataError: as `read_rows`.
    """
    return sum(1 for _ in _lines(path))


def _row(line: bytes, file: str, number: int) -> dict[str, Any] | BadRow:
    try:
        row = strict_json.loads(line.decode("utf-8-sig"))
    except ValueError as error:
        return BadRow(file, number, f"broken JSON ({error})")
    if not isinstance(row, dict):
        return BadRow(file, number, f"a row must be a JSON object, not {type(row).__name__}")
    return row


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line in file:
                number += 1
                yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged or cut gzip after line {number} ({error}); fetch the file again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot read ({error.strerror or error}); check the path") from error
