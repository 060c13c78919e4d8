"""Compiled decoder layers: one graph for all layers, all lengths and all batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from star_edge.errors import RuntimeMissing
from star_edge.models.packed_attention import has_triton
from star_edge.models.packing import causal_lm


def compile_layers(model: Any) -> None:
    """Let each decoder layer run compiled when its batch is packed; other forwards (decoding) stay as they are.

    The layers share their code, so what is compiled for the first serves all of its kind (with LoRA on the last layers
    there are two), and it serves all lengths. Nothing falls back: a layer that cannot be compiled whole raises.

    Args:
        model: a causal language model, or a PeftModel around one, with its trainable weights set.
    Raises: RuntimeMissing: there is no triton, which compiled kernels for a GPU are written in.
    """
    if not has_triton():
        raise RuntimeMissing("optimizer.compile needs triton: pip install triton, or set compile: off")
    for layer in causal_lm(model).get_decoder().layers:
        layer.forward = _when_packed(layer.forward)


def _when_packed(forward: Callable[..., Any]) -> Callable[..., Any]:
    compiled = torch.compile(forward, dynamic=True, fullgraph=True)

    def choose(*args: Any, **kwargs: Any) -> Any:
        if "packing" not in kwargs:
            return forward(*args, **kwargs)
        # `dynamic` is meant for lengths; without this the norms' epsilons would become inputs of the graph as well.
        with torch._dynamo.config.patch(specialize_float=True):
            return compiled(*args, **kwargs)

    return choose
