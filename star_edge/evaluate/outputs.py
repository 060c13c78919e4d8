"""Completions on disk: JSONL rows `{"id", "text"}`; further keys are ours and mean nothing to a scorer."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from star_edge.contracts import Generation
from star_edge.errors import ArtifactError, EvaluationError
from star_edge.manifest import read_json, write_atomic


def read_outputs(path: Path) -> dict[str, str]:
    """Case id -> completion, in the order of the file; empty lines are passed over.

    Raises: EvaluationError: no such file, broken JSON, a row without a string `id` and `text`, or an id given twice.
    """
    return {id: row["text"] for id, row in _read_rows(path).items()}


def read_answers(path: Path) -> dict[str, str | None]:
    """As `read_outputs`, with None where the prompt had no room in the model's context, which our rows tell.

    Raises: EvaluationError: as `read_outputs`.
    """
    return {id: answer_of(row) for id, row in _read_rows(path).items()}


def answer_of(row: Mapping[str, Any]) -> str | None:
    """A row's completion; None when there was not one token of room for it."""
    return None if row.get("tokens") == 0 and row.get("stopped") is False else str(row["text"])


def _read_rows(path: Path) -> dict[str, dict[str, Any]]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise EvaluationError(
            f"{path}: cannot read ({error.strerror}); give a JSONL file of rows with 'id' and 'text'"
        ) from error
    rows: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row = _row(line, f"{path}:{number}")
            if row["id"] in rows:
                raise EvaluationError(f"{path}:{number}: id {row['id']!r} is there already; keep one output a case")
            rows[row["id"]] = row
    return rows


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{where}: broken JSON ({error}); mend or remove the line") from error
    for name in ("id", "text"):
        if not isinstance(row, dict) or not isinstance(row.get(name), str):
            raise EvaluationError(f'{where}: no string \'{name}\'; a row is {{"id": ..., "text": ...}}')
    checked: dict[str, Any] = row
    return checked


class OutputFile:
    """An outputs file that grows answer by answer, with a key file beside it that says what made them.

    A line is handed to the system before the next case begins, so a killed process loses the case it was at.
    """

    def __init__(
        self, path: Path, key: Mapping[str, str], *, prompts: Mapping[str, str] | None = None, force: bool = False
    ) -> None:
        """Open or continue the file; a last line cut short by a kill is removed.

        Args:
            key: all that decides an answer besides its case, named as a person would.
            prompts: case id -> a hash of what it is asked with, which its row keeps; of further cases nothing is said.
            force: throw away answers that were made otherwise.
        Raises:
            ArtifactError: the file was made otherwise and `force` is False, or it cannot be written.
            EvaluationError: a line in its middle is damaged.
        """
        self.path, self.key, self._prompts = path, dict(key), prompts or {}
        self._key_path = path.with_suffix(".key.json")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._claim(force=force)
            _cut_after_last_line(path)
            self._file: BinaryIO = path.open("ab")
        except OSError as error:
            raise ArtifactError(f"{path}: cannot write ({error.strerror}); choose another --out") from error
        self.rows = _read_rows(path)

    def _claim(self, *, force: bool) -> None:
        if self.path.exists() and self.path.stat().st_size:
            found = read_json(self._key_path) if self._key_path.exists() else None
            why = _why_foreign(found, self.key) if found != self.key else self._why_other_prompts()
            if why is None:
                return
            if not force:
                raise ArtifactError(f"{self.path}: {why}; choose another --out, or --force")
        # The answers go first: a kill in between must not leave old answers under the new key.
        self.path.unlink(missing_ok=True)
        write_atomic(self._key_path, json.dumps(self.key, indent=1, ensure_ascii=False) + "\n")

    def _why_other_prompts(self) -> str | None:
        _cut_after_last_line(self.path)
        rows = _read_rows(self.path)
        for id, prompt in self._prompts.items():
            if id in rows and rows[id].get("prompt") != prompt:
                return f"was made with another prompt for {id!r} (template, renderer or tools have changed since)"
        return None

    @property
    def texts(self) -> dict[str, str]:
        """Case id -> completion, of all that is in the file."""
        return {id: row["text"] for id, row in self.rows.items()}

    def add(self, generation: Generation) -> None:
        """Append one answer.

        Raises: ArtifactError: the disk is full.
        """
        row = {
            "id": generation.id,
            "text": generation.text,
            "prompt_tokens": generation.prompt_tokens,
            "tokens": len(generation.token_ids),
            "stopped": generation.stopped,
        }
        if generation.id in self._prompts:
            row["prompt"] = self._prompts[generation.id]
        try:
            self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise ArtifactError(f"{self.path}: cannot write ({error.strerror}); free some space") from error
        self.rows[generation.id] = row

    def close(self) -> None:
        self._file.close()


def _why_foreign(found: Mapping[str, Any] | None, key: Mapping[str, str]) -> str:
    if found is None:
        return "has no key file beside it that says what made it"
    name = next(name for name in (*key, *found) if found.get(name) != key.get(name))
    return f"was made with another {name} ({found.get(name)}, not {key.get(name)})"


def _cut_after_last_line(path: Path) -> None:
    if path.exists():
        data = path.read_bytes()
        end = data.rfind(b"\n") + 1
        if end < len(data):
            os.truncate(path, end)
        return
    path.touch()
