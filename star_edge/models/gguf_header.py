"""What a GGUF file says about its model: sizes, and whether head and embedding are one matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_edge.errors import ModelError
from star_edge.models.gguf_file import GgufFile

EMBEDDING, HEAD, FINAL_NORM = "token_embd.weight", "output.weight", "output_norm.weight"
CLASSES: Mapping[str, str] = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
# Entries that would change the arithmetic in a way the plain architectures below do not have.
UNSUPPORTED = ("expert_count", "rope.scaling.type", "attention.sliding_window")
TIE_ROWS = 0.95
TIE_SAMPLE = 4096  # rows that are compared; all 150,000 of an embedding took a third of a conversion


@dataclass(frozen=True, slots=True)
class Header:
    """What the config needs from a GGUF file's metadata."""

    architecture: str
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_size: int
    context_length: int
    rope_theta: float
    norm_eps: float


def read_header(file: GgufFile) -> Header:
    """The sizes of the model.

    Raises: ModelError: an architecture we do not convert, or an entry is missing.
    """
    architecture: str = file.metadata.get("general.architecture", "none")
    if architecture not in CLASSES:
        known = ", ".join(CLASSES)
        raise ModelError(f"{file.path}: architecture '{architecture}' cannot be converted (known: {known})")
    if EMBEDDING not in file.tensors:
        raise ModelError(f"{file.path}: holds no {EMBEDDING}; is it a vocabulary without a model?")
    entry = _entries(file, architecture)
    for name in UNSUPPORTED:
        value = entry(name, None)
        if value not in (None, 0, "none"):
            raise ModelError(
                f"{file.path}: {architecture}.{name} = {value} is not supported; use the hub model instead"
            )
    hidden, heads = entry("embedding_length"), entry("attention.head_count")
    head_size = entry("attention.key_length", hidden // heads)
    if entry("rope.dimension_count", head_size) != head_size:
        raise ModelError(f"{file.path}: rotates only a part of each head, which is not supported; use the hub model")
    return Header(
        architecture=architecture,
        layers=entry("block_count"),
        hidden=hidden,
        feed_forward=entry("feed_forward_length"),
        heads=heads,
        kv_heads=entry("attention.head_count_kv", heads),
        head_size=head_size,
        context_length=entry("context_length"),
        rope_theta=entry("rope.freq_base", 10000.0),
        norm_eps=_shortest(entry("attention.layer_norm_rms_epsilon")),
    )


def _entries(file: GgufFile, architecture: str) -> Callable[..., Any]:
    required = object()

    def entry(name: str, default: Any = required) -> Any:
        value = file.metadata.get(f"{architecture}.{name}", default)
        if value is required:
            raise ModelError(f"{file.path}: {architecture}.{name} is missing; convert the file again")
        if isinstance(value, list):
            raise ModelError(f"{file.path}: {architecture}.{name} differs by layer, which is not supported")
        return value

    return entry


def _shortest(value: float) -> float:
    """The decimal that was meant: GGUF stores 1e-05 as float32, which reads 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def is_tied(file: GgufFile) -> bool:
    """True when the head is the embedding: absent, or equal to it up to quantisation error.

    Some files carry an `output.weight` although the original ties, to store the head with more bits.

    Rounding to b bits a weight (scales included) leaves a relative error of about 2^(1-b) in a row: 0.044 is measured
    between Qwen2.5-Coder's Q5_0 embedding and its Q8_0 head. Twice that is allowed, for 95 % of the rows; rows of two
    matrices that were trained apart differ by 1 and more. Of many rows an even sample is looked at.
    """
    if HEAD not in file.tensors:
        return True
    records = file.tensors[EMBEDDING], file.tensors[HEAD]
    if records[0].shape != records[1].shape:
        return False
    allowed = max(1e-3, 2.0 ** (2 - min(record.bits_per_weight for record in records)))
    step = max(1, records[0].shape[0] // TIE_SAMPLE)
    errors = row_errors(file.tensor(EMBEDDING, step=step), file.tensor(HEAD, step=step))
    return bool(np.mean(errors <= allowed) >= TIE_ROWS)


def row_errors(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """(rows, columns) twice -> (rows,): the distance of two rows relative to the longer one; 0 where both are zero."""
    distance = np.linalg.norm(first - second, axis=1)
    length = np.maximum(np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1))
    errors: NDArray[np.float32] = distance / np.maximum(length, np.finfo(np.float32).tiny)
    return errors
