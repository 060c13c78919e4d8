"""What a trainer hears from a teacher: for each counted position its most likely tokens and how likely they are.

A trainer cannot tell a cache from a live teacher. A batch comes from `star_edge.models.packing.pack` with one thing
more, `rows`: the numbers of its rows in the trainer's data, a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from star_edge.distill.ckd_loss import most_likely
from star_edge.models.packing import MODEL_INPUTS
from star_edge.teacher.shards import CacheRow


class TeacherSignal(Protocol):
    """Source of (teacher_ids, teacher_logprobs) for a batch."""

    def for_batch(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Both (N, K), for the N counted positions in the order of the batch's `sources`, on the batch's device."""
        ...


class LabelSignal:
    """A teacher that is certain of the label, K = 1: forward KL to it is cross-entropy."""

    def for_batch(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Labels as ids, log-probability 0."""
        ids = batch["labels"][:, None]
        return ids, torch.zeros(ids.shape, device=ids.device)


class CachedSignal:
    """The teacher's words and distributions as they were stored."""

    def __init__(self, rows: Sequence[CacheRow]) -> None:
        self._rows = rows

    def for_batch(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """int32 ids and float16 log-probabilities."""
        rows = [self._rows[number] for number in batch["rows"]]
        device = batch["input_ids"].device
        ids, logprobs = torch.cat([row.topk_ids for row in rows]), torch.cat([row.topk_logprobs for row in rows])
        if device.type == "cuda":  # a copy from memory that is not pinned would wait for all work in the GPU's queue
            ids, logprobs = ids.pin_memory(), logprobs.pin_memory()
        return ids.to(device, non_blocking=True), logprobs.to(device, non_blocking=True)


class LiveSignal:
    """A teacher in memory, asked for every batch.

    Args:
        model: a causal language model after `add_counted_forward`, on the batches' device.
        vocabulary: ids from here on are padding of the teacher's head: never named, though their mass counts.
    """

    def __init__(self, model: nn.Module, *, top_k: int, vocabulary: int, chunk: int = 1024) -> None:
        self._model = model.eval()
        self._top_k = min(top_k, vocabulary)
        self._vocabulary = vocabulary
        self._chunk = chunk

    @torch.no_grad()
    def for_batch(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """int64 ids and float32 log-probabilities."""
        ids, logprobs = self._model(**{name: batch[name] for name in MODEL_INPUTS}, then=self._top)
        return ids, logprobs

    def _top(self, hidden: Tensor, head: Tensor) -> tuple[Tensor, Tensor]:
        narrow = multiplies_into_float32(hidden) and head.dtype == hidden.dtype
        weight = head if narrow else head.float()
        pieces: list[tuple[Tensor, Tensor]] = []
        for states in torch.split(hidden, self._chunk):
            logits = float32_product(states, weight)
            tokens = most_likely(logits[:, : self._vocabulary], self._top_k)
            values, order = logits.gather(1, tokens).sort(dim=1, descending=True)
            pieces.append((tokens.gather(1, order), values - logits.logsumexp(dim=-1, keepdim=True)))
        ids, logprobs = zip(*pieces, strict=True)
        return torch.cat(ids), torch.cat(logprobs)


def multiplies_into_float32(states: Tensor) -> bool:
    """Whether these bfloat16 states can be multiplied with float32 results: on a GPU, by torch 2.8 and later."""
    return states.is_cuda and states.dtype == torch.bfloat16 and hasattr(torch.ops.aten.mm, "dtype")


def float32_product(states: Tensor, weight: Tensor) -> Tensor:
    """(n, H) states times (V, H) weight -> (n, V) float32 logits, not differentiable where the weight is narrow.

    A bfloat16 model's logits are read to a tenth of a nat unless its last product is summed and kept in float32.
    """
    if weight.dtype == torch.bfloat16:
        product: Tensor = torch.ops.aten.mm.dtype(states, weight.T, torch.float32)
        return product
    return states.float() @ weight.T
