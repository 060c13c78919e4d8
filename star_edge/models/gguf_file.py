"""Reads a GGUF file: metadata, and tensors as float32.

Layout (version 2 and 3, little endian): magic `GGUF`, version u32, tensor count u64, entry count u64; the metadata
entries (name, value type u32, value); one record per tensor (name, dimensions with the fastest first, type u32, offset
u64); padding to `general.alignment`; the tensors' bytes. A string is its length (u64) and that many bytes of UTF-8.

The header is read here and not with gguf.GGUFReader: that one takes 12 s for a vocabulary of 152 k tokens, and a file
that was cut short is only noticed in the middle of it. Dequantisation is the gguf package's.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_edge.errors import ModelError, RuntimeMissing

try:
    import gguf
except ImportError:
    raise RuntimeMissing.for_extra("gguf", "gguf") from None

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
# Value types of the metadata by number; 8 is a string, 9 an array.
SCALARS: Mapping[int, str] = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
STRING, ARRAY = 8, 9


class _CutShort(Exception):
    """The header says there is more than the file holds."""


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """Where one tensor lies. `shape` is as numpy and torch have it, the fastest dimension last."""

    name: str
    shape: tuple[int, ...]
    type: Any  # gguf.GGMLQuantizationType
    offset: int
    size_bytes: int

    @property
    def bits_per_weight(self) -> float:
        return self.size_bytes * 8 / max(1, int(np.prod(self.shape)))


class GgufFile:
    """An open GGUF file; its size was checked against every tensor's place.

    Raises: ModelError: no such file, not GGUF, an unknown version, or cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: dict[str, Any] = {}
        self.tensors: dict[str, TensorRecord] = {}
        try:
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # mmap refuses an empty file with ValueError
            raise ModelError(f"{path}: cannot be read ({error}); give the path of a GGUF file") from None
        try:
            self._read_header()
        except (_CutShort, ArithmeticError, LookupError, TypeError, ValueError) as error:
            reason = f"{error}" if isinstance(error, _CutShort) else "its header makes no sense"
            raise ModelError(f"{path}: GGUF file is cut short or damaged ({reason}); fetch it again") from None

    def tensor(self, name: str, *, step: int = 1) -> NDArray[np.float32]:
        """One tensor, dequantised; of its first dimension every `step`-th entry."""
        record = self.tensors[name]
        raw = np.frombuffer(self._bytes, np.uint8, record.size_bytes, record.offset)
        if record.type == gguf.GGMLQuantizationType.F32:
            return raw.view("<f4").reshape(record.shape)[::step]
        if record.type == gguf.GGMLQuantizationType.F16:
            return raw.view("<f2").reshape(record.shape)[::step].astype(np.float32)
        rows = raw.reshape(*record.shape[:-1], -1)[::step]
        try:
            values: NDArray[np.float32] = gguf.dequantize(rows, record.type)
        except NotImplementedError:
            raise ModelError(
                f"{self.path}: {name} is stored as {record.type.name}, which cannot be unpacked; use a Q8_0 or F16 file"
            ) from None
        return values.reshape(-1, *record.shape[1:])

    # ------------------------------------------------------------------------------------------------- header

    def _read_header(self) -> None:
        if self._bytes[:4] != MAGIC:
            raise ModelError(f"{self.path}: not a GGUF file; give the path of a GGUF file")
        self._position = 4
        version = self._scalar("<u4")
        if version not in VERSIONS:
            raise ModelError(f"{self.path}: GGUF version {version} is not known (2 and 3 are); convert the file again")
        tensor_count, entry_count = self._scalar("<u8"), self._scalar("<u8")
        for _ in range(entry_count):
            name = self._string()
            self.metadata[name] = self._value(self._scalar("<u4"))
        records = [self._tensor_record() for _ in range(tensor_count)]
        alignment = self.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        start = -(-self._position // alignment) * alignment
        for name, shape, kind, offset in records:
            self._place(name, shape, kind, start + offset)

    def _place(self, name: str, shape: tuple[int, ...], kind: int, offset: int) -> None:
        quantization = gguf.GGMLQuantizationType(kind)
        block, block_bytes = gguf.GGML_QUANT_SIZES[quantization]
        size = int(np.prod(shape, dtype=object)) // block * block_bytes
        if offset + size > len(self._bytes):
            raise _CutShort(f"{name} ends at byte {offset + size:,}, the file at {len(self._bytes):,}")
        self.tensors[name] = TensorRecord(name, shape, quantization, offset, size)

    def _take(self, count: int) -> bytes:
        end = self._position + count
        if end > len(self._bytes):
            raise _CutShort(f"it ends inside its header, at byte {len(self._bytes):,}")
        taken = self._bytes[self._position : end]
        self._position = end
        return taken

    def _scalar(self, dtype: str) -> Any:
        size = np.dtype(dtype).itemsize
        return np.frombuffer(self._take(size), dtype)[0].item()

    def _string(self) -> str:
        length = int.from_bytes(self._take(8), "little")
        return self._take(length).decode("utf-8")

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            return self._array()
        return self._scalar(SCALARS[kind])

    def _array(self) -> list[Any]:
        kind, count = self._scalar("<u4"), self._scalar("<u8")
        if kind in (STRING, ARRAY):
            return [self._value(kind) for _ in range(count)]
        dtype = np.dtype(SCALARS[kind])
        values: list[Any] = np.frombuffer(self._take(count * dtype.itemsize), dtype).tolist()
        return values

    def _tensor_record(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        dimensions = self._scalar("<u4")
        shape = tuple(self._scalar("<u8") for _ in range(dimensions))
        return name, shape[::-1], self._scalar("<u4"), self._scalar("<u8")
