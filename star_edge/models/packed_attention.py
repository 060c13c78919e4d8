"""Attention over one long sequence of documents, each a prompt with completions that are blind to one another.

A token sees earlier tokens of its own document: all of the prompt, and of the completions only its own. On a GPU
`flex_attention` skips every block of 128 x 128 pairs in which nothing is seen. Elsewhere each document is attended to
by itself, so no mask over the whole sequence exists anywhere.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import pad
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "star_edge_packed"
BLOCK = 128
"""Side of a block of query-key pairs; sequences are padded to a multiple of it for `flex_attention`."""


@dataclass(frozen=True, slots=True)
class Document:
    """Where a document lies in the sequence, and what its tokens see: (1, 1, L, L) bool, or None for all earlier."""

    span: slice
    mask: Tensor | None


Packing: TypeAlias = "BlockMask | list[Document]"


def has_triton() -> bool:
    """Whether kernels can be compiled for a GPU."""
    return importlib.util.find_spec("triton") is not None


def uses_flex(device: torch.device) -> bool:
    """Whether `flex_attention` has a kernel with a backward pass there."""
    return device.type == "cuda" and has_triton()


def is_seen(visible: Sequence[Tensor], query: Tensor, key: Tensor) -> Tensor:
    """Whether tokens at places `query` see those at places `key`, which broadcast against each other.

    Args:
        visible: three tensors (T,): for each token where its document begins, where that document's prompt ends, and
            where its own prompt or completion begins.
    """
    document, prompt_end, own = visible
    return (key <= query) & (key >= document[query]) & ((key < prompt_end[query]) | (key >= own[query]))


def documents_of(visible: Tensor) -> list[Document]:
    """The documents of a packed sequence, from (3, T) `visible`."""
    starts = torch.unique_consecutive(visible[0]).tolist()
    documents = []
    for start, end in zip(starts, [*starts[1:], visible.shape[1]], strict=True):
        is_causal = bool((visible[2, start:end] <= visible[1, start:end]).all())
        places = torch.arange(start, end, device=visible.device)
        mask = None if is_causal else is_seen(visible.unbind(), places[:, None], places)[None, None]
        documents.append(Document(slice(start, end), mask))
    return documents


def block_mask_of(visible: Tensor) -> BlockMask:
    """What `flex_attention` takes, from (3, T) `visible` with T a multiple of `BLOCK`.

    Made from T x (T / BLOCK) comparisons; torch's `create_block_mask` makes T x T, which for 65,536 tokens are tens of
    gigabytes of traffic in every forward.
    """
    rows = [row.clone() for row in visible]  # a compiled graph would take a view's whole into account

    def mask_mod(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return is_seen(rows, query, key)

    some, whole = blocks_seen(visible)
    return BlockMask.from_kv_blocks(
        *_listed(some & ~whole), *_listed(whole), BLOCK_SIZE=(BLOCK, BLOCK), mask_mod=mask_mod
    )


def blocks_seen(visible: Tensor) -> tuple[Tensor, Tensor]:
    """(3, T) -> two (T / BLOCK, T / BLOCK) bool: whether queries of a block see something of a block of keys, and all.

    A token sees two runs of places: from its document's beginning to the prompt's end or itself, and from where its own
    prompt or completion begins to itself. They are one where nothing lies between them.
    """
    count = visible.shape[1] // BLOCK
    document, prompt_end, own = (row[:, None] for row in visible)
    query = torch.arange(visible.shape[1], device=visible.device)[:, None]
    first = torch.arange(count, device=visible.device) * BLOCK
    last = first + BLOCK - 1
    prompt_end = prompt_end.minimum(query + 1)
    some = (document <= last) & (first < prompt_end) | (own <= last) & (first <= query)
    begin = document.where(own <= prompt_end, own)
    whole = (document <= first) & (last < prompt_end) | (begin <= first) & (last <= query)
    return some.view(count, BLOCK, count).any(dim=1), whole.view(count, BLOCK, count).all(dim=1)


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """(Q, K) bool -> how many in each row, (1, 1, Q), and their places in order before the others', (1, 1, Q, K)."""
    order = blocks.int().argsort(dim=1, descending=True, stable=True)
    return blocks.sum(dim=1, dtype=torch.int32)[None, None], order.int()[None, None]


def padded_to_blocks(input_ids: Tensor, positions: Tensor, visible: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sequence with tokens behind it that see themselves alone, so that its length is a multiple of `BLOCK`."""
    length = visible.shape[1]
    end = length + -length % BLOCK
    alone = torch.arange(length, end, dtype=visible.dtype, device=visible.device).expand(3, -1)
    room = (0, end - length)
    return pad(input_ids, room), pad(positions, room), torch.cat((visible, alone), dim=1)


@contextmanager
def packed_attention(config: Any) -> Iterator[None]:
    """Let a model of this config attend as its `packing=` argument says inside this block."""
    AttentionInterface.register(NAME, packed_attention_forward)
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def packed_attention_forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    packing: Packing,
    scaling: float,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it.

    Args:
        query: (1, heads, T, D). key, value: (1, key heads, T, D).
    Returns: (1, T, heads, D), and no weights.
    """
    if isinstance(packing, BlockMask):
        # Under autocast the rotary embedding leaves queries and keys in float32, and flex_attention wants one dtype.
        query, key = query.to(value.dtype), key.to(value.dtype)
        grouped = query.shape[1] != key.shape[1]
        output = _flex(query)(
            query,
            key,
            value,
            block_mask=packing,
            scale=scaling,
            enable_gqa=grouped,
            kernel_options=kernel_options(query.shape[-1], query.dtype),
        )
        return output.transpose(1, 2).contiguous(), None
    pieces = [
        sdpa_attention_forward(
            module, *(states[:, :, d.span] for states in (query, key, value)), d.mask, scaling=scaling, **settings
        )[0]
        for d in packing
    ]
    return torch.cat(pieces, dim=1), None


def kernel_options(head_size: int, dtype: torch.dtype) -> dict[str, Any]:
    """Tiles of `flex_attention`'s kernels where they were measured, on an H100; else torch's.

    See "Kernels of packed attention" in benchmarks/README.md. `IS_DIVISIBLE` is no documented option of torch: it says
    that lengths are whole blocks, which they are here and which a graph for all lengths cannot know.
    """
    backward = {64: (64, 64, 64, 64), 128: (32, 64, 64, 32)}.get(head_size)
    options: dict[str, Any] = {"IS_DIVISIBLE": True}
    if backward is None or dtype not in (torch.bfloat16, torch.float16):
        return options
    names = ("bwd_BLOCK_M1", "bwd_BLOCK_N1", "bwd_BLOCK_M2", "bwd_BLOCK_N2")
    options |= dict(zip(names, backward, strict=True)) | {"bwd_num_warps": 4}
    if head_size == 64:
        options |= {"fwd_BLOCK_M": 64, "fwd_BLOCK_N": 64, "fwd_num_warps": 4}
    return options


def _flex(query: Tensor) -> Callable[..., Any]:
    """The kernel: inside a compiled layer it is compiled along, and a CPU has none with a backward pass."""
    if torch.compiler.is_compiling() or query.device.type != "cuda":
        return flex_attention
    return _compiled_flex()


@functools.cache
def _compiled_flex() -> Callable[..., Any]:
    return torch.compile(flex_attention)
