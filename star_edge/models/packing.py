"""Prompt once, completions behind it: batches in which no prompt is computed twice, and logits only where they count.

A batch is one long sequence without padding. Rows that follow each other and share a prompt become one document of
it: the prompt, then each completion at the positions right behind the prompt, blind to the other completions
(`star_edge.models.packed_attention`).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from star_edge.errors import ModelError
from star_edge.models.packed_attention import (
    block_mask_of,
    documents_of,
    packed_attention,
    padded_to_blocks,
    uses_flex,
)

Tokens: TypeAlias = Sequence[int]
Batch: TypeAlias = dict[str, Tensor]
OnHidden: TypeAlias = Callable[[Tensor, Tensor], Any]  # (N, H) hidden states, (V, H) head weight -> anything

MOST_APART = 0.1
"""Most that states of packed rows may differ from those of rows alone, by their norm."""
MODEL_INPUTS = ("input_ids", "positions", "visible", "sources")
"""The tensors of a batch that the counted forward takes."""


def pack(rows: Sequence[tuple[Tokens, Tokens]]) -> Batch:
    """Rows of (prompt ids, completion ids), none of them empty, as one packed sequence.

    Returns: T tokens, N of them in completions:
        input_ids, positions: (1, T) int64.
        visible: (3, T) int32: for each token where its document begins, where that document's prompt ends, and where
            its own prompt or completion begins.
        labels, sources: (N,) int64: the completions' tokens in the order of the rows, and for each the place of the
            state that predicts it.
    """
    ids: list[int] = []
    labels: list[int] = []
    # A line for each prompt and completion: its length and first position, then its column of `visible`.
    segments: list[tuple[int, int, int, int, int]] = []
    for prompt, group in itertools.groupby(rows, key=lambda row: tuple(row[0])):
        document, prompt_end = len(ids), len(ids) + len(prompt)
        segments.append((len(prompt), 0, document, prompt_end, document))
        ids += prompt
        for _, completion in group:
            segments.append((len(completion), len(prompt), document, prompt_end, len(ids)))
            ids += completion
            labels += completion
    table = torch.tensor(segments).T.contiguous()
    _, first, _, prompt_end, own = columns = table.repeat_interleave(table[0], dim=1)
    places = torch.arange(len(ids))
    counts = own >= prompt_end
    # A completion's first token is predicted by the prompt's last, any other by the one before it.
    sources = torch.where(places == own, prompt_end, places) - 1
    return {
        "input_ids": _tensor(ids)[None],
        "positions": (places - own + first)[None],
        "visible": columns[2:].int(),
        "labels": _tensor(labels),
        "sources": sources[counts],
    }


def _tensor(ids: list[int]) -> Tensor:
    """int64; of tens of thousands of ids several times faster than by `torch.tensor`."""
    return torch.from_numpy(np.array(ids, dtype=np.int64))


def causal_lm(model: Any) -> Any:
    """The causal language model inside a PeftModel, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def add_counted_forward(model: nn.Module) -> None:
    """Teach a causal language model `model(**batch, then=f)`, which returns `f(hidden, head_weight)`.

    `hidden` (N, H) are the states that predict the batch's completion tokens, `head_weight` is (V, H). It runs
    inside the forwards of the model, where DDP has its hooks, and of its head, where FSDP has gathered the head's
    weight. Without `then` both are what they were.

    Raises: ModelError: the model's logits are not its last hidden states times its head (soft-capping, scaling, a
        bias), or its attention is not the plain one, so that losses computed here would be wrong.
    """
    causal = causal_lm(model)
    original = causal.forward

    @functools.wraps(original)
    def forward(self: Any, *args: Any, then: OnHidden | None = None, **kwargs: Any) -> Any:
        return original(*args, **kwargs) if then is None else _counted(self, then, **kwargs)

    causal.forward = MethodType(forward, causal)
    head = causal.get_output_embeddings()
    project = head.forward

    @functools.wraps(project)
    def head_forward(self: Any, hidden: Tensor, then: OnHidden | None = None) -> Any:
        return project(hidden) if then is None else then(hidden, self.weight)

    head.forward = MethodType(head_forward, head)
    _check_attention(causal.config)
    _check_head(causal)


def _counted(
    causal: Any,
    then: OnHidden,
    *,
    input_ids: Tensor,
    positions: Tensor,
    visible: Tensor,
    sources: Tensor,
    **ignored: Any,
) -> Any:
    if getattr(causal.base_model, "gradient_checkpointing", False):
        raise ModelError("gradient checkpointing recomputes layers outside the packed forward; switch it off")
    if uses_flex(input_ids.device):
        input_ids, positions, visible = padded_to_blocks(input_ids, positions, visible)
        packing: Any = block_mask_of(visible)
    else:
        packing = documents_of(visible)
    with packed_attention(causal.config):
        states = causal.base_model(
            input_ids=input_ids, position_ids=positions, use_cache=False, packing=packing
        ).last_hidden_state
    return causal.get_output_embeddings()(states[0, sources], then=then)


def _check_attention(config: Any) -> None:
    windows = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    if windows or getattr(config, "attn_logit_softcapping", None) is not None:
        raise ModelError(
            f"{config.model_type}: attends through a sliding window or soft-capping, which packed batches do not have; "
            "choose a llama, qwen2 or qwen3 model"
        )


@torch.no_grad()
def _check_head(causal: Any) -> None:
    batch = {name: tensor.to(causal.device) for name, tensor in pack([((0,), (1, 2))]).items()}
    ids, head = batch["input_ids"], causal.get_output_embeddings()
    expected = causal(input_ids=ids).logits.float()
    states = causal.base_model(input_ids=ids).last_hidden_state
    # The product of a head without a bias, of the same shape, so that the same kernel rounds it.
    if not torch.allclose(linear(states, head.weight).float(), expected, rtol=1e-2, atol=1e-2):
        raise ModelError(
            f"{causal.config.model_type}: its logits are not hidden states times the head (soft-capping, scaling or a "
            "bias), which the chunked losses need; choose a llama, qwen2 or qwen3 model"
        )
    alone = states[0, batch["sources"]].float()
    packed = causal(**batch, then=lambda hidden, weight: hidden).float()
    # Two kernels of attention round differently, in bfloat16 visibly; a wrong mask or position is another matter.
    if (packed - alone).norm() > MOST_APART * alone.norm():
        raise ModelError(
            f"{causal.config.model_type}: packed rows give it other states than rows alone; choose a llama, qwen2 or "
            "qwen3 model"
        )
