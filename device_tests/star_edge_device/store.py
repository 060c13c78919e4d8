"""Measurements on disk, one line of JSON a case: what a killed run has done is not done again.

A line carries the key of everything that decides it (file, prompt, limits, threads), so lines of another file
or another template are skipped, not trusted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_edge.contracts import Generation
from star_edge.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class Measurement:
    """One generation and the process it ran in.

    is_cold: it was the first after the file was opened; `load_ms` says how long that took.
    peak_rss_mib: the process's own peak when the case was done.
    """

    generation: Generation
    is_cold: bool
    load_ms: float
    peak_rss_mib: float


def case_key(*, sha256: str, prompt: str, max_new_tokens: int, threads: int) -> str:
    """What must be equal for a stored line to stand for this case."""
    parts = json.dumps([sha256, prompt, max_new_tokens, threads])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


class Store:
    """An append-only JSONL file of measurements."""

    def __init__(self, path: Path) -> None:
        """Open or create the file; a last line cut short by a kill is removed.

        Raises: ArtifactError: the file cannot be written.
        """
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = _whole_lines(path)
            self._file = path.open("ab")
        except OSError as error:
            raise ArtifactError(f"{path}: cannot write ({error.strerror}); choose another --out") from error
        self._known = dict(entry for line in lines if (entry := _read(line)) is not None)

    def find(self, id: str, key: str) -> Measurement | None:
        """The stored measurement of a case, when it was made under the same key."""
        return self._known.get((id, key))

    def add(self, key: str, measurement: Measurement) -> None:
        """Append one line and push it to the disk.

        Raises: ArtifactError: the disk is full.
        """
        line = json.dumps({"key": key, **dataclasses.asdict(measurement)}, ensure_ascii=False) + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ArtifactError(f"{self._path}: cannot write ({error.strerror}); free some space") from error
        self._known[measurement.generation.id, key] = measurement

    def close(self) -> None:
        self._file.close()


def _whole_lines(path: Path) -> list[bytes]:
    """The complete lines of a file; what follows the last line end is cut off the file."""
    if not path.exists():
        return []
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        os.truncate(path, end)
    return data[:end].splitlines()


def _read(line: bytes) -> tuple[tuple[str, str], Measurement] | None:
    """((case id, key), measurement) of one line; None when it is not one of ours."""
    try:
        entry: dict[str, Any] = json.loads(line)
        key = entry.pop("key")
        said = entry.pop("generation")
        generation = Generation(**{**said, "token_ids": tuple(said["token_ids"])})
        return (generation.id, key), Measurement(generation=generation, **entry)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
