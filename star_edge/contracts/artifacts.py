"""What a stage hands to the next one: a folder with enough beside it to know what it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Dataset:
    """Normalised rows on disk: `train.jsonl`, `heldout.jsonl`, `rejected.jsonl`, `summary.json`.

    `unlabelled.jsonl` is there when there are unlabelled prompts.
    """

    folder: Path
    train_rows: int
    heldout_rows: int
    unlabelled_rows: int = 0

    @property
    def train(self) -> Path:
        return self.folder / "train.jsonl"

    @property
    def heldout(self) -> Path:
        return self.folder / "heldout.jsonl"

    @property
    def unlabelled(self) -> Path:
        return self.folder / "unlabelled.jsonl"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A Hugging Face model folder, or a LoRA adapter folder that sits on `base`."""

    folder: Path
    stage: str
    base: Path | None = None

    @property
    def is_adapter(self) -> bool:
        return self.base is not None


@dataclass(frozen=True, slots=True)
class TeacherCache:
    """Folder of shards: the teacher's completions, or labels that it read, with its top-k log-probabilities."""

    folder: Path
    rows: int
    positions: int
    top_k: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """One exported model with everything a device needs beside it (tokenizer, chat template)."""

    folder: Path
    file: Path
    format: Literal["gguf", "onnx"]
    quantization: str
    sha256: str
    size_bytes: int
    context_length: int

    @property
    def label(self) -> str:
        return f"{self.format} {self.quantization}"
