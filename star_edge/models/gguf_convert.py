"""GGUF -> Hugging Face model folder: float32 safetensors, config, generation config and tokenizer.

Two things a GGUF file hides are put back:

* llama's query and key rows. llama.cpp rotates neighbouring pairs of a head's dimensions, transformers pairs dimension
  i with i + d/2; its converter interleaves the rows of `llama` models for that, and `unpermute` undoes it. `qwen2`
  files keep the rows as they were.
* tied embeddings. Without `output.weight` they are tied. Some files carry an `output.weight` although the original
  ties, because a better quantisation of the head was wanted; `is_tied` finds that out, and the copy that was stored
  with more bits is kept for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import save_file

from star_edge.errors import ModelError
from star_edge.manifest import write_atomic
from star_edge.models.folder import CONFIG, GENERATION_CONFIG, dump
from star_edge.models.gguf_file import GgufFile
from star_edge.models.gguf_tokenizer import write_tokenizer

SHARD_BYTES = 1 << 30
EMBEDDING, HEAD, FINAL_NORM = "token_embd.weight", "output.weight", "output_norm.weight"
BLOCK_NAMES: Mapping[str, str] = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CLASSES: Mapping[str, str] = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
# Entries that would change the arithmetic in a way the plain architectures below do not have.
UNSUPPORTED = ("expert_count", "rope.scaling.type", "attention.sliding_window")
TIE_ROWS = 0.95


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


def convert(path: Path, out: Path) -> None:
    """Write the folder. The tokenizer is built from the file's own fields (see `gguf_tokenizer`).

    Raises: ModelError: damaged file, an architecture, pre-tokenizer or tensor we do not know, or no space on the disk.
    """
    file = GgufFile(path)
    header = read_header(file)
    tied = is_tied(file)
    out.mkdir(parents=True, exist_ok=True)
    stops = write_tokenizer(file.metadata, out, where=str(path), context_length=header.context_length)
    write_atomic(out / CONFIG, dump(_config(file, header, tied, stops)))
    write_atomic(out / GENERATION_CONFIG, dump({"do_sample": False, **_special_ids(file.metadata, stops)}))
    try:
        _write_shards(file, header, tied, out)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{out}: weights cannot be written ({error}); free some space or choose another --out"
        ) from error


def read_header(file: GgufFile) -> Header:
    """The sizes of the model.

    Raises: ModelError: an architecture we do not convert, or an entry is missing.
    """
    architecture: str = file.metadata.get("general.architecture", "none")
    if architecture not in CLASSES:
        known = ", ".join(CLASSES)
        raise ModelError(f"{file.path}: architecture '{architecture}' cannot be converted (known: {known})")
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


# ---------------------------------------------------------------------------------------------------- tied or not


def is_tied(file: GgufFile) -> bool:
    """True when the head is the embedding: absent, or equal to it up to quantisation error.

    Rounding to b bits a weight (scales included) leaves a relative error of about 2^(1-b) in a row: 0.044 is measured
    between Qwen2.5-Coder's Q5_0 embedding and its Q8_0 head. Twice that is allowed, for 95 % of the rows; rows of two
    matrices that were trained apart differ by 1 and more.
    """
    if HEAD not in file.tensors:
        return True
    records = file.tensors[EMBEDDING], file.tensors[HEAD]
    if records[0].shape != records[1].shape:
        return False
    allowed = max(1e-3, 2.0 ** (2 - min(record.bits_per_weight for record in records)))
    errors = row_errors(file.tensor(EMBEDDING), file.tensor(HEAD))
    return bool(np.mean(errors <= allowed) >= TIE_ROWS)


def row_errors(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """(rows, columns) twice -> (rows,): the distance of two rows relative to the longer one; 0 where both are zero."""
    distance = np.linalg.norm(first - second, axis=1)
    length = np.maximum(np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1))
    errors: NDArray[np.float32] = distance / np.maximum(length, np.finfo(np.float32).tiny)
    return errors


# --------------------------------------------------------------------------------------------------------- weights


def hub_name(name: str) -> str | None:
    """transformers' name of a GGUF tensor, or None for one we do not know."""
    if name in (EMBEDDING, HEAD, FINAL_NORM):
        return {EMBEDDING: "model.embed_tokens.weight", HEAD: "lm_head.weight", FINAL_NORM: "model.norm.weight"}[name]
    parts = name.split(".")
    if len(parts) != 4 or parts[0] != "blk" or parts[2] not in BLOCK_NAMES:
        return None
    return f"model.layers.{parts[1]}.{BLOCK_NAMES[parts[2]]}.{parts[3]}"


def unpermute(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo llama.cpp's interleaving of a query or key matrix (heads * d, columns), or of its bias (heads * d,)."""
    half = rows.shape[0] // heads // 2
    split = rows.reshape(heads, half, 2, *rows.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(rows.shape)


def _weight(file: GgufFile, header: Header, name: str) -> NDArray[np.float32]:
    values = file.tensor(name)
    kind = name.split(".")[2] if name.startswith("blk.") else ""
    if header.architecture == "llama" and kind in ("attn_q", "attn_k"):
        return unpermute(values, header.heads if kind == "attn_q" else header.kv_heads)
    return values


def _plan(file: GgufFile, tied: bool) -> Iterator[tuple[str, str]]:
    """(name in the file, name in the folder) of every tensor to write."""
    embedding = EMBEDDING
    if tied and HEAD in file.tensors and _bits(file, HEAD) > _bits(file, EMBEDDING):
        embedding = HEAD
    for name in file.tensors:
        target = hub_name(name)
        if target is None:
            raise ModelError(
                f"{file.path}: tensor {name} is not known; only plain llama and qwen2 models can be converted"
            )
        if name == EMBEDDING:
            yield embedding, target
        elif not (tied and name == HEAD):
            yield name, target


def _bits(file: GgufFile, name: str) -> float:
    return file.tensors[name].bits_per_weight


def _write_shards(file: GgufFile, header: Header, tied: bool, out: Path) -> None:
    """Shards of about 1 GiB, so that a large teacher never lies in memory whole."""
    shards: list[list[tuple[str, str]]] = [[]]
    size = 0
    for source, target in _plan(file, tied):
        weight_bytes = 4 * int(np.prod(file.tensors[source].shape))
        if shards[-1] and size + weight_bytes > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append((source, target))
        size += weight_bytes
    names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = ["model.safetensors"]
    placed: dict[str, str] = {}
    for name, shard in zip(names, shards, strict=True):
        weights = {target: torch.from_numpy(_weight(file, header, source).copy()) for source, target in shard}
        save_file(weights, out / name, metadata={"format": "pt"})
        placed.update(dict.fromkeys(weights, name))
    if len(shards) > 1:
        total = sum(4 * int(np.prod(file.tensors[source].shape)) for shard in shards for source, _ in shard)
        write_atomic(
            out / "model.safetensors.index.json", dump({"metadata": {"total_size": total}, "weight_map": placed})
        )


# --------------------------------------------------------------------------------------------------------- configs


def _config(file: GgufFile, header: Header, tied: bool, stops: tuple[int, ...]) -> dict[str, Any]:
    config = {
        "architectures": [CLASSES[header.architecture]],
        "model_type": header.architecture,
        "vocab_size": file.tensors[EMBEDDING].shape[0],
        "hidden_size": header.hidden,
        "intermediate_size": header.feed_forward,
        "num_hidden_layers": header.layers,
        "num_attention_heads": header.heads,
        "num_key_value_heads": header.kv_heads,
        "head_dim": header.head_size,
        "max_position_embeddings": header.context_length,
        "rope_theta": header.rope_theta,
        "rms_norm_eps": header.norm_eps,
        "hidden_act": "silu",
        "tie_word_embeddings": tied,
        "dtype": "float32",
        **_special_ids(file.metadata, stops[:1]),
    }
    if header.architecture == "llama":
        config["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
        config["mlp_bias"] = False
    return config


def _special_ids(metadata: Mapping[str, Any], stops: tuple[int, ...]) -> dict[str, Any]:
    ids = {
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": stops[0] if len(stops) == 1 else list(stops),
        "pad_token_id": metadata.get("tokenizer.ggml.padding_token_id"),
    }
    return {name: value for name, value in ids.items() if value not in (None, [])}
