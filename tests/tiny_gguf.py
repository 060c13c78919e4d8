"""GGUF files for tests: another one with some entries or tensors changed, written with the gguf package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from star_edge.models.gguf_file import GgufFile

Quantized = tuple[np.ndarray, gguf.GGMLQuantizationType]
F32 = gguf.GGMLQuantizationType.F32


def rewrite(
    source: Path,
    out: Path,
    *,
    entries: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Quantized | None] | None = None,
) -> Path:
    """Copy a GGUF file; a None among the changes drops the entry or tensor.

    Args:
        tensors: float32 values and the type to store them in.
    """
    file = GgufFile(source)
    metadata = {**file.metadata, **(entries or {})}
    writer = gguf.GGUFWriter(out, metadata.pop("general.architecture"))
    for name, value in metadata.items():
        if value is not None:
            add_entry(writer, name, value)
    contents: dict[str, Quantized | None] = {name: (file.tensor(name), F32) for name in file.tensors}
    contents.update(tensors or {})
    for name, content in contents.items():
        if content is not None:
            add_tensor(writer, name, *content)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def add_tensor(writer: gguf.GGUFWriter, name: str, values: np.ndarray, kind: gguf.GGMLQuantizationType) -> None:
    """Store float32 values in any type the gguf package can quantise to."""
    plain = kind in (F32, gguf.GGMLQuantizationType.F16)
    writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=None if plain else kind)


def add_entry(writer: gguf.GGUFWriter, name: str, value: Any) -> None:
    """One metadata entry, its type taken from the Python value."""
    kinds = {bool: "bool", int: "uint32", float: "float32", str: "string", list: "array"}
    getattr(writer, f"add_{kinds[type(value)]}")(name, value)
