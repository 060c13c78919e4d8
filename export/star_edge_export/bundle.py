"""One exported model with all a device needs beside it.

<format>-<quantization>/
    model.gguf | model.onnx      the weights
    tokenizer.json, tokenizer_config.json, generation_config.json, chat_template.jinja
    manifest.json                written last: sha256 and size of each file, format, context length, end tokens
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from star_edge import manifest
from star_edge.contracts import Bundle
from star_edge.errors import ArtifactError, ExportError
from star_edge.models.folder import CONFIG, GENERATION_CONFIG, copy_tokenizer, read_model_json, stop_token_ids

Format = Literal["gguf", "onnx"]
STAGE = "bundle"


def bundle_name(format: Format, quantization: str) -> str:
    """Folder of a bundle under `<run>/export/`: `gguf-Q4_K_M`."""
    return f"{format}-{quantization}"


def model_file(folder: Path, format: Format) -> Path:
    """Where a bundle's model file is."""
    return folder / f"model.{format}"


def write_bundle(
    folder: Path,
    checkpoint_folder: Path,
    *,
    format: Format,
    quantization: str,
    seconds: float = 0.0,
    details: Mapping[str, Any] | None = None,
) -> Bundle:
    """Complete a folder that holds `model.<format>` already: the checkpoint's tokenizer files, then the manifest.

    Args:
        checkpoint_folder: the model folder the file was made from; its tokenizer is copied byte for byte.
        seconds: how long the export took.
        details: more facts for the manifest (versions, parity), JSON types.
    Raises:
        ExportError: there is no model file, or the files cannot be written.
        ModelError: the checkpoint has no tokenizer or names no end token.
    """
    file = model_file(folder, format)
    if not file.is_file():
        raise ExportError(f"{folder}: no {file.name} to bundle; export it first")
    facts = {
        "format": format,
        "quantization": quantization,
        "context_length": read_model_json(checkpoint_folder, CONFIG)["max_position_embeddings"],
        "stop_token_ids": stop_token_ids(checkpoint_folder),
        **(details or {}),
    }
    try:
        copy_tokenizer(checkpoint_folder, folder)
        if (checkpoint_folder / GENERATION_CONFIG).is_file():
            shutil.copyfile(checkpoint_folder / GENERATION_CONFIG, folder / GENERATION_CONFIG)
        key = manifest.hash_json({"file": manifest.sha256_file(file), **facts})
        written = manifest.finish(folder, STAGE, key, details=facts, seconds=seconds)
    except (OSError, ArtifactError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ExportError(f"{folder}: cannot be written ({reason}); free some space or choose another --out") from error
    return _bundle(folder, written)


def read_bundle(folder: Path, *, check_hashes: bool = True) -> Bundle:
    """Open a bundle after checking that it is whole.

    Args:
        check_hashes: compare every file's sha256 (about a second per GB); sizes are always compared.
    Raises: ArtifactError: not a bundle, unfinished, or a file is missing or was changed.
    """
    found = manifest.read_json(folder / manifest.MANIFEST)
    if found.get("stage") != STAGE or found.get("schema") != manifest.SCHEMA:
        raise ArtifactError(f"{folder}: not a bundle of this version of star-edge; export it again")
    try:
        for name, entry in found["files"].items():
            _check_file(folder / name, entry, check_hashes=check_hashes)
        return _bundle(folder, found)
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{folder / manifest.MANIFEST}: entry {error} is missing or wrong; export it again"
        ) from None


def _check_file(path: Path, entry: Mapping[str, Any], *, check_hashes: bool) -> None:
    if not path.is_file():
        raise ArtifactError(f"{path}: is missing from its bundle; export it again")
    if path.stat().st_size != entry["bytes"]:
        raise ArtifactError(
            f"{path}: is {path.stat().st_size:,} bytes, not {entry['bytes']:,}: damaged; export it again"
        )
    if check_hashes and manifest.sha256_file(path) != entry["sha256"]:
        raise ArtifactError(f"{path}: its content is not what was exported (sha256 differs); export it again")


def _bundle(folder: Path, found: Mapping[str, Any]) -> Bundle:
    details, files = found["details"], found["files"]
    if details["format"] not in get_args(Format):
        raise ArtifactError(f"{folder}: format '{details['format']}' is not known; export it again")
    file = model_file(folder, details["format"])
    # ONNX may keep weights in files of their own beside the graph.
    size = sum(entry["bytes"] for name, entry in files.items() if name.startswith(file.name))
    return Bundle(
        folder=folder,
        file=file,
        format=details["format"],
        quantization=details["quantization"],
        sha256=files[file.name]["sha256"],
        size_bytes=size,
        context_length=details["context_length"],
    )
