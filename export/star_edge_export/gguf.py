"""Hugging Face model folder -> GGUF (F16), for llama, qwen2 and qwen3.

A GGUF file is a header (metadata entries, one record per tensor) and the tensors' bytes. Matrices are written as F16,
norms and biases as F32, as llama.cpp's own converter does. Rows of llama's query and key matrices are interleaved:
llama.cpp rotates neighbouring dimensions of a head where transformers pairs dimension i with i + d/2. A tied head is
left out; llama.cpp then takes the embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from star_edge.errors import ExportError, RuntimeMissing
from star_edge.models.folder import CONFIG, read_model_json, read_template
from star_edge.models.gguf_convert import block_names
from star_edge.models.gguf_header import CLASSES, EMBEDDING, FINAL_NORM, HEAD
from star_edge_export.files import whole_file
from star_edge_export.gguf_vocab import read_vocabulary

try:
    import gguf
except ImportError:
    raise RuntimeMissing.for_extra("gguf", "gguf") from None

MAX_F16 = float(np.finfo(np.float16).max)
NAMES: Mapping[str, str] = {
    "model.embed_tokens.weight": EMBEDDING,
    "model.norm.weight": FINAL_NORM,
    "lm_head.weight": HEAD,
}


def export_gguf(checkpoint_folder: Path, out_file: Path) -> None:
    """Write one F16 file, whole or not at all.

    Raises:
        ExportError: an architecture, tokenizer or weight GGUF cannot take, or no space on the disk.
        ModelError: the folder is no model folder.
    """
    config = read_model_json(checkpoint_folder, CONFIG)
    _check(config, checkpoint_folder)
    weights = _Weights(checkpoint_folder, config)
    with whole_file(out_file) as partial:
        writer = gguf.GGUFWriter(partial, config["model_type"])
        try:
            _add_model(writer, config, checkpoint_folder.name)
            _add_tokenizer(writer, config, checkpoint_folder)
            _write_tensors(writer, weights)
        finally:
            writer.close()


# -------------------------------------------------------------------------------------------------------- metadata


def _check(config: dict[str, Any], folder: Path) -> None:
    architecture = config.get("model_type")
    if architecture not in CLASSES:
        raise ExportError(
            f"{folder}: architecture '{architecture}' cannot be written to GGUF (known: {', '.join(CLASSES)})"
        )
    for name in ("rope_parameters", "rope_scaling"):  # transformers 5, and before
        rope = config.get(name) or {}
        if rope.get("rope_type", rope.get("type", "default")) != "default":
            raise ExportError(
                f"{folder}: scaled rotary embeddings ({rope}) are not written to GGUF; choose another model"
            )
    if config.get("use_sliding_window"):
        raise ExportError(f"{folder}: sliding-window attention is not written to GGUF; set use_sliding_window to false")


def rope_theta(config: dict[str, Any]) -> float:
    """Base of the rotary embedding; transformers 5 moved it into `rope_parameters`."""
    return float((config.get("rope_parameters") or {}).get("rope_theta", config.get("rope_theta", 10000.0)))


def head_size(config: dict[str, Any]) -> int:
    """Dimensions of one attention head."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _add_model(writer: Any, config: dict[str, Any], name: str) -> None:
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_F16))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config.get("num_key_value_heads") or config["num_attention_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope_theta(config))
    writer.add_rope_dimension_count(head_size(config))
    writer.add_vocab_size(config["vocab_size"])
    if head_size(config) * config["num_attention_heads"] != config["hidden_size"]:
        writer.add_key_length(head_size(config))
        writer.add_value_length(head_size(config))


def _add_tokenizer(writer: Any, config: dict[str, Any], folder: Path) -> None:
    vocabulary = read_vocabulary(folder, config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    for name, index in vocabulary.special_ids.items():
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", index)
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(read_template(folder))


# --------------------------------------------------------------------------------------------------------- weights


def permute(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """Interleave a query or key matrix (heads * d, columns), or its bias (heads * d,), as llama.cpp rotates it."""
    half = rows.shape[0] // heads // 2
    split = rows.reshape(heads, 2, half, *rows.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(rows.shape)


def gguf_name(name: str, architecture: str) -> str | None:
    """GGUF's name of a weight, or None for one it has no place for."""
    if name in NAMES:
        return NAMES[name]
    parts = name.split(".")  # model.layers.3.self_attn.q_proj.weight
    blocks = {theirs: ours for ours, theirs in block_names(architecture).items()}
    block = blocks.get(".".join(parts[3:-1]))
    return f"blk.{parts[2]}.{block}.{parts[-1]}" if block and parts[:2] == ["model", "layers"] else None


class _Weights:
    """The weights of a folder, read one at a time, in the order of the layers."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self._folder = folder
        self._config = config
        self._places: dict[str, tuple[str, Path]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            names = list(self._open(path).keys())
            for name in names:
                target = gguf_name(name, config["model_type"])
                if target is None:
                    raise ExportError(
                        f"{folder}: weight {name} has no place in GGUF; merge an adapter before exporting"
                    )
                self._places[target] = (name, path)
        if config.get("tie_word_embeddings"):
            self._places.pop(HEAD, None)
        self._check_complete()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._places, key=_order))

    def shape(self, target: str) -> tuple[int, ...]:
        name, path = self._places[target]
        return tuple(self._open(path).get_slice(name).get_shape())

    def values(self, target: str) -> NDArray[Any]:
        """One weight in the type it is written in.

        Raises: ExportError: a value that F16 cannot hold.
        """
        name, path = self._places[target]
        values: NDArray[Any] = self._open(path).get_tensor(name).float().numpy()
        if self._config["model_type"] == "llama" and ".attn_q." in target:
            values = permute(values, self._config["num_attention_heads"])
        if self._config["model_type"] == "llama" and ".attn_k." in target:
            values = permute(values, self._config.get("num_key_value_heads") or self._config["num_attention_heads"])
        if not np.all(np.abs(values) <= MAX_F16):
            raise ExportError(
                f"{self._folder}: {name} has values F16 cannot hold (largest is 65504); did training diverge?"
            )
        return values.astype(stored_type(values.shape))

    def _open(self, path: Path) -> Any:
        try:
            return safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise ExportError(f"{path}: not readable ({error}); make the checkpoint again") from error

    def _check_complete(self) -> None:
        layers, blocks = self._config["num_hidden_layers"], block_names(self._config["model_type"])
        wanted = {EMBEDDING, FINAL_NORM, *(f"blk.{n}.{block}.weight" for n in range(layers) for block in blocks)}
        if not self._config.get("tie_word_embeddings"):
            wanted.add(HEAD)
        missing = sorted(wanted - set(self._places))
        if missing:
            raise ExportError(f"{self._folder}: {len(missing)} weights are missing, first {missing[0]}; make it again")


def stored_type(shape: tuple[int, ...]) -> Any:
    """F16 for matrices, F32 for vectors (norms, biases), which are small and matter."""
    return np.float16 if len(shape) > 1 else np.float32


def _order(target: str) -> tuple[int, str]:
    parts = target.split(".")
    return (int(parts[1]) if parts[0] == "blk" else -1, target)


def _write_tensors(writer: Any, weights: _Weights) -> None:
    """All records first, then the bytes one weight at a time: a model never lies in memory whole."""
    for target in weights:
        shape = weights.shape(target)
        dtype = np.dtype(stored_type(shape))
        writer.add_tensor_info(target, shape, dtype, int(np.prod(shape)) * dtype.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for target in weights:
        writer.write_tensor_data(weights.values(target))
