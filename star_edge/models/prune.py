"""Depth pruning: a shallower student from the layers of a deeper one."""

from __future__ import annotations

from typing import Any

from torch import nn

from star_edge.errors import ModelError


def kept_indices(total: int, n: int) -> list[int]:
    """`n` of `total` layer indices, evenly spaced, the first and the last among them (the first alone for n = 1).

    Raises: ModelError: n is not between 1 and total.
    """
    if not 1 <= n <= total:
        raise ModelError(f"keep_layers is {n}, but the model has {total} layers; choose 1 to {total}")
    if n == 1:
        return [0]
    return [round(index * (total - 1) / (n - 1)) for index in range(n)]


def keep_layers(model: Any, n: int) -> Any:
    """Cut a causal LM down to `n` of its layers, in place; its config says so afterwards.

    Raises: ModelError: n is not between 1 and the model's number of layers.
    """
    decoder = model.get_decoder()
    indices = kept_indices(len(decoder.layers), n)
    decoder.layers = nn.ModuleList(decoder.layers[index] for index in indices)
    for position, layer in enumerate(decoder.layers):
        # The key-value cache has one slot per layer and finds it by this number.
        layer.self_attn.layer_idx = position
    config = model.config
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[index] for index in indices]
    config.num_hidden_layers = n
    if getattr(config, "max_window_layers", None) is not None:
        config.max_window_layers = min(config.max_window_layers, n)
    return model
