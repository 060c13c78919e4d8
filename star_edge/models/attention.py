"""Decoding attention that does not copy keys and values for every query head.

Where several query heads share a key head, transformers' `sdpa` attention repeats keys and values for each of them
whenever there is a mask. In training that is one copy among many products; in decoding it is the whole cache, for
every token: on a CPU it costs as much as all matrix products. Here the query heads of a group become further query
positions of their key head instead, which needs no copy and gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "star_edge_grouped"
MOST_QUERIES = 16
"""Queries a row up to which a forward counts as decoding; longer ones go the usual way."""


@contextmanager
def decoding_attention(model: Any) -> Iterator[None]:
    """Let a model that attends by `sdpa` decode with grouped heads inside this block."""
    config = model.config
    before = config._attn_implementation
    if before != "sdpa":
        yield
        return
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def grouped_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """Attention as transformers calls it.

    Args:
        query: (B, heads, L, D). key, value: (B, key heads, T, D). attention_mask: (B, 1, L, T) bool, or None.
    Returns: (B, L, heads, D), and no weights.
    """
    rows, heads, length, size = query.shape
    key_heads = key.shape[1]
    if heads == key_heads or length > MOST_QUERIES or (attention_mask is None and length > 1):
        usual: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
        return usual
    group = heads // key_heads
    # Head h belongs to key head h // group, so heads of a group lie side by side and the reshape copies nothing.
    grouped = query.reshape(rows, key_heads, group * length, size)
    mask = None if attention_mask is None else attention_mask.repeat(1, 1, group, 1)
    output = scaled_dot_product_attention(grouped, key, value, attn_mask=mask, scale=settings.get("scaling"))
    return output.reshape(rows, heads, length, size).transpose(1, 2).contiguous(), None
