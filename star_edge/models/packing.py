"""Prompt once, completions behind it: batches in which no prompt is computed twice, and logits only where they count.

Rows that follow each other and share a prompt become one sequence: the prompt, then each completion at the
positions right behind it, blind to the other completions. A sequence with one completion is an ordinary causal row
padded on the right, which needs no mask at all.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from star_edge.errors import ModelError

UNCOUNTED = -100
PROMPT, PADDING = 0, -1

Tokens: TypeAlias = Sequence[int]
Batch: TypeAlias = dict[str, Tensor]
OnHidden: TypeAlias = Callable[[Tensor, Tensor], Any]  # (N, H) hidden states, (V, H) head weight -> anything


def pack(rows: Sequence[tuple[Tokens, Tokens]], *, pad_id: int) -> Batch:
    """Rows of (prompt ids, completion ids) as a batch of packed sequences.

    Returns: int64 tensors, B sequences of length T, N completion tokens in all:
        input_ids: (B, T).
        labels: (B, T), the token where it is a completion's, else -100; row-major this is the order of the rows.
        sources: (N,), for each completion token the place in the flattened (B * T) of the state that predicts it.
        positions, segments: (B, T), only when a prompt has several completions; a segment is 0 for the prompt,
            1, 2, ... for its completions and -1 for padding.
    """
    groups = [
        (prompt, [list(completion) for _, completion in group])
        for prompt, group in itertools.groupby(rows, key=lambda row: tuple(row[0]))
    ]
    sequences = [_sequence(list(prompt), completions) for prompt, completions in groups]
    names = ("input_ids", "labels", "positions", "segments")
    padding = (pad_id, UNCOUNTED, 0, PADDING)
    columns = zip(*(sequence[:4] for sequence in sequences), strict=True)
    batch = {
        name: pad_sequence([torch.tensor(ids) for ids in column], batch_first=True, padding_value=value)
        for name, value, column in zip(names, padding, columns, strict=True)
    }
    length = batch["input_ids"].shape[1]
    batch["sources"] = torch.tensor(
        [number * length + place for number, sequence in enumerate(sequences) for place in sequence[4]]
    )
    if len(groups) == len(rows):
        del batch["positions"], batch["segments"]
    return batch


def _sequence(prompt: list[int], completions: Sequence[list[int]]) -> tuple[list[int], ...]:
    """ids, labels, positions, segments and the predicting places of one prompt with its completions."""
    ids, labels = list(prompt), [UNCOUNTED] * len(prompt)
    positions, segments = list(range(len(prompt))), [PROMPT] * len(prompt)
    sources: list[int] = []
    for number, completion in enumerate(completions, start=1):
        sources += [len(prompt) - 1, *range(len(ids), len(ids) + len(completion) - 1)]
        ids += completion
        labels += completion
        positions += range(len(prompt), len(prompt) + len(completion))
        segments += [number] * len(completion)
    return ids, labels, positions, segments, sources


def packed_mask(segments: Tensor) -> Tensor:
    """(B, T) segments -> (B, 1, T, T) bool, True where a token (row) sees another (column): its prompt and its own."""
    query, key = segments[:, :, None], segments[:, None, :]
    earlier = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device).tril()
    return (((key == PROMPT) | (key == query)) & earlier)[:, None]


def causal_lm(model: Any) -> Any:
    """The causal language model inside a PeftModel, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def add_counted_forward(model: nn.Module) -> None:
    """Teach a causal language model `model(**batch, then=f)`, which returns `f(hidden, head_weight)`.

    `hidden` (N, H) are the states that predict the batch's completion tokens, `head_weight` is (V, H). It runs
    inside the model's own forward, where DDP has its hooks and FSDP its gathered weights. Without `then` the
    forward is the one it was.

    Raises: ModelError: the model's logits are not its last hidden states times its head (soft-capping, scaling, a
        bias), so that losses computed from them would be wrong.
    """
    causal = causal_lm(model)
    original = causal.forward

    @functools.wraps(original)
    def forward(self: Any, *args: Any, then: OnHidden | None = None, **kwargs: Any) -> Any:
        return original(*args, **kwargs) if then is None else _counted(self, then, **kwargs)

    causal.forward = MethodType(forward, causal)
    _check_head(causal)


def _counted(
    causal: Any,
    then: OnHidden,
    *,
    input_ids: Tensor,
    sources: Tensor,
    positions: Tensor | None = None,
    segments: Tensor | None = None,
    **ignored: Any,
) -> Any:
    mask = None if segments is None else packed_mask(segments)
    states = causal.base_model(
        input_ids=input_ids, position_ids=positions, attention_mask=mask, use_cache=False
    ).last_hidden_state
    return then(states.flatten(0, 1)[sources], causal.get_output_embeddings().weight)


@torch.no_grad()
def _check_head(causal: Any) -> None:
    ids = torch.arange(2, device=causal.device)[None]
    expected = causal(input_ids=ids).logits[0]
    logits = causal(
        input_ids=ids, sources=torch.arange(2, device=causal.device), then=lambda hidden, head: hidden @ head.T
    )
    if not torch.allclose(logits.float(), expected.float(), rtol=1e-2, atol=1e-2):
        raise ModelError(
            f"{causal.config.model_type}: its logits are not hidden states times the head (soft-capping, scaling or a "
            "bias), which the chunked losses need; choose a llama, qwen2 or qwen3 model"
        )
