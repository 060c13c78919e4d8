"""Manifests: written last and atomically, so a folder that has one is complete.

A stage begins with `begin` (which leaves `in_progress.json` with the key of its inputs), writes whatever it
likes into its folder, and ends with `finish`. Killed in between, the folder has no `manifest.json` and is
continued when the key is the same, emptied when it is not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from star_edge import __version__
from star_edge.errors import ArtifactError

MANIFEST = "manifest.json"
IN_PROGRESS = "in_progress.json"
LOCK = ".lock"
SCHEMA = 1


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain(value: Any) -> Any:
    """Dataclasses, tuples and paths as JSON types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def hash_json(value: Any) -> str:
    """Hex SHA-256 of a value's canonical JSON (sorted keys)."""
    text = json.dumps(plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` (file or folder) that takes its place when the block ends without an error.

    Whatever happens, a reader sees the old content or the whole new one; a failed block leaves nothing behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    _remove(partial)
    try:
        yield partial
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        os.replace(partial, path)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one, or the whole new one.

    Raises: ArtifactError: the disk is full or the folder cannot be written.
    """
    try:
        with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        problem = error.strerror or str(error)
        raise ArtifactError(f"{path}: cannot write ({problem}); free some space or choose another --out") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises: ArtifactError: missing, cut short, or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file; is this folder a finished artifact of star-edge?") from None
    except (OSError, ValueError) as error:
        problem = f"not readable as JSON ({error})"
        raise ArtifactError(f"{path}: {problem}; remove the folder and run the command again") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path}: expected a JSON object; remove the folder and run the command again")
    return value


def read_if_there(path: Path) -> dict[str, Any] | None:
    """As `read_json`; None where there is no such file, or where another process takes it away meanwhile.

    Raises: ArtifactError: cut short, or not an object.
    """
    try:
        return read_json(path)
    except ArtifactError:
        if path.exists():
            raise
        return None


def stage_key(stage: str, config: Any, inputs: Mapping[str, str]) -> str:
    """Hash of all that decides a stage's result: its config and its inputs' own keys."""
    return hash_json({"stage": stage, "schema": SCHEMA, "config": config, "inputs": dict(inputs)})


def is_done(folder: Path, key: str) -> bool:
    """True when the folder holds a complete artifact made from these very inputs.

    The listed files are checked by size, which catches a file cut short or deleted without reading gigabytes.
    """
    manifest = read_if_there(folder / MANIFEST)
    if manifest is None or manifest.get("key") != key:
        return False
    return all(_size(folder / name) == entry["bytes"] for name, entry in manifest["files"].items())


def _size(path: Path) -> int | None:
    """Bytes of a file; None where there is none."""
    try:
        return path.stat().st_size if path.is_file() else None
    except FileNotFoundError:
        return None


def begin(folder: Path, key: str) -> float:
    """Make the folder ready for a stage: continue our own partial work, drop anything older.

    Returns: seconds that processes which were stopped have spent on it, each up to what it last wrote.
    Raises: ArtifactError: the folder holds files that no stage of ours made.
    """
    drop_older(folder, key)
    folder.mkdir(parents=True, exist_ok=True)
    spent = _spent(folder)
    write_atomic(folder / IN_PROGRESS, json.dumps({"key": key, "seconds": spent}))
    return spent


def _spent(folder: Path) -> float:
    marker = folder / IN_PROGRESS
    if not marker.exists():
        return 0.0
    began = last = marker.stat().st_mtime
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # a child of a killed process may still tidy up
                last = max(last, os.stat(os.path.join(root, name)).st_mtime)
    return float(read_json(marker).get("seconds", 0.0)) + last - began


def drop_older(folder: Path, key: str) -> None:
    """Remove what a stage of ours left under another key.

    Raises: ArtifactError: the folder holds files that no stage of ours made.
    """
    marker = folder / IN_PROGRESS
    if holds_anything(folder):
        if not marker.exists() and not (folder / MANIFEST).exists():
            raise ArtifactError(f"{folder}: not empty and not made by star-edge; choose another --out")
        if marker.exists() and read_json(marker).get("key") == key and not (folder / MANIFEST).exists():
            return
    drop(folder)


def drop(folder: Path) -> None:
    """Remove what a stage of ours left, finished or not; a folder of something else stays."""
    stale = folder.with_name(f".{folder.name}.stale")
    shutil.rmtree(stale, ignore_errors=True)
    if (folder / IN_PROGRESS).exists() or (folder / MANIFEST).exists():
        # Renamed first: a kill half-way through the removal must not leave a folder that nobody knows.
        os.replace(folder, stale)
        shutil.rmtree(stale)


def holds_anything(folder: Path) -> bool:
    """True when the folder has content besides what a killed write of ours, or a lock, leaves behind."""
    if not folder.exists():
        return False
    return any(
        not (path.name.startswith(".") and path.suffix in (".partial", ".lock", "")) for path in folder.iterdir()
    )


def finish(
    folder: Path, stage: str, key: str, *, details: Mapping[str, Any], seconds: float, scratch: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Hash every file of the folder and write its manifest, last.

    Args:
        details: what the next stage or the report wants to know, JSON types.
        seconds: wall time the stage took, in processes that were stopped too (see `begin`).
        scratch: top-level names that only a resume needs; removed once the manifest is there.
    """
    left_out = {MANIFEST, IN_PROGRESS, *scratch}
    relative = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    names = sorted(path.as_posix() for path in relative if path.parts[0] not in left_out)
    files = {name: {"sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size} for name in names}
    manifest = {
        "schema": SCHEMA,
        "stage": stage,
        "key": key,
        "star_edge": __version__,
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 1),
        "details": plain(details),
        "files": files,
    }
    write_atomic(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    (folder / IN_PROGRESS).unlink(missing_ok=True)
    for name in scratch:
        shutil.rmtree(folder / name, ignore_errors=True)
    return manifest
