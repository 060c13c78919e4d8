"""GGUF -> Hugging Face model folder: float32 safetensors, config, generation config and tokenizer.

Two things a GGUF file hides are put back:

* llama's query and key rows. llama.cpp rotates neighbouring pairs of a head's dimensions, transformers pairs dimension
  i with i + d/2; its converter interleaves the rows of `llama` models for that, and `unpermute` undoes it. `qwen2`
  and `qwen3` files keep the rows as they were.
* tied embeddings, which `gguf_header.is_tied` finds. Of two copies the one that was stored with more bits is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from star_edge.models.gguf_header import CLASSES, EMBEDDING, FINAL_NORM, HEAD, Header, is_tied, read_header
from star_edge.models.gguf_tokenizer import write_tokenizer

SHARD_BYTES = 1 << 30
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
QWEN3_NORMS: Mapping[str, str] = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
"""Over each head's queries and keys, before they are rotated."""


def block_names(architecture: str) -> Mapping[str, str]:
    """GGUF's names of a layer's parts -> transformers' names."""
    return {**BLOCK_NAMES, **QWEN3_NORMS} if architecture == "qwen3" else BLOCK_NAMES


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


# --------------------------------------------------------------------------------------------------------- weights


def hub_name(name: str, architecture: str) -> str | None:
    """transformers' name of a GGUF tensor, or None for one we do not know."""
    if name in (EMBEDDING, HEAD, FINAL_NORM):
        return {EMBEDDING: "model.embed_tokens.weight", HEAD: "lm_head.weight", FINAL_NORM: "model.norm.weight"}[name]
    parts = name.split(".")
    blocks = block_names(architecture)
    if len(parts) != 4 or parts[0] != "blk" or parts[2] not in blocks:
        return None
    return f"model.layers.{parts[1]}.{blocks[parts[2]]}.{parts[3]}"


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


def _plan(file: GgufFile, header: Header, tied: bool) -> Iterator[tuple[str, str]]:
    """(name in the file, name in the folder) of every tensor to write."""
    embedding = EMBEDDING
    if tied and HEAD in file.tensors and _bits(file, HEAD) > _bits(file, EMBEDDING):
        embedding = HEAD
    for name in file.tensors:
        target = hub_name(name, header.architecture)
        if target is None:
            raise ModelError(
                f"{file.path}: tensor {name} is not known; only plain llama, qwen2 and qwen3 models can be converted"
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
    for source, target in _plan(file, header, tied):
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
