"""Several sampled completions a prompt, whose prefill is computed once, with the sampler's own log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from star_edge.models.attention import decoding_attention
from star_edge.models.generate import left_padded, next_logits
from star_edge.models.load import LoadedModel


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion; when it `stopped` by itself its ids end with the token that did it.

    topk_ids, topk_logprobs: (T, K) int32 and float16 on the CPU, the K most likely tokens at every position at
    temperature 1 over the full vocabulary, whatever the sampling temperature was; K may be 0.
    """

    ids: tuple[int, ...]
    stopped: bool
    topk_ids: Tensor
    topk_logprobs: Tensor


def vocabulary_size(tokenizer: Any) -> int:
    """Ids from here on name no token: rows of an embedding or a head beyond it are padding."""
    return int(max(tokenizer.get_vocab().values())) + 1


class _TopK:
    """Room for the top-k of every row and step."""

    def __init__(self, rows: int, steps: int, top_k: int) -> None:
        self.ids = torch.zeros(rows, steps, top_k, dtype=torch.int32)
        self.logprobs = torch.zeros(rows, steps, top_k, dtype=torch.float16)

    def read(self, logits: Tensor, rows: Sequence[int], step: int, vocabulary: int) -> None:
        top_k = self.ids.shape[2]
        if top_k == 0:
            return
        top = logits[:, :vocabulary].topk(top_k, dim=-1)
        logprobs = top.values - logits.logsumexp(dim=-1, keepdim=True)
        self.ids[list(rows), step] = top.indices.to("cpu", torch.int32)
        self.logprobs[list(rows), step] = logprobs.to("cpu", torch.float16)


@torch.inference_mode()
def sample(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    *,
    copies: int,
    temperature: float,
    max_new_tokens: int,
    generator: torch.Generator,
    top_k: int = 0,
) -> list[list[Sample]]:
    """Draw `copies` completions for each prompt, all of them in one batch of len(prompts) * copies rows.

    Args:
        prompts: token ids.
        temperature: 0 takes the most likely token.
        generator: on the model's device; it decides every draw.
        top_k: log-probabilities kept a position, clamped to the tokenizer's vocabulary. Rows of the head beyond that
            vocabulary (padding) are never sampled and never kept, but their mass stays in the normaliser.
    Returns: for each prompt its completions.
    """
    with decoding_attention(loaded.model):
        samples = _sample(loaded, prompts, copies, temperature, max_new_tokens, generator, top_k)
    return [samples[start : start + copies] for start in range(0, len(samples), copies)]


def _pick(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """One token a row, [rows, 1], of logits [rows, vocabulary]."""
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    return torch.multinomial((logits / temperature).softmax(dim=-1), 1, generator=generator)


def _sample(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    copies: int,
    temperature: float,
    max_new_tokens: int,
    generator: torch.Generator,
    top_k: int,
) -> list[Sample]:
    vocabulary = vocabulary_size(loaded.tokenizer)
    rows = len(prompts) * copies
    ids: list[list[int]] = [[] for _ in range(rows)]
    stopped = [False] * rows
    kept = _TopK(rows, max_new_tokens, min(top_k, vocabulary))
    cache = DynamicCache()
    input_ids, mask = left_padded(prompts, loaded)
    logits = next_logits(loaded, input_ids, mask, cache).repeat_interleave(copies, dim=0)
    cache.batch_repeat_interleave(copies)
    mask = mask.repeat_interleave(copies, dim=0)
    live = list(range(rows))
    for step in range(max_new_tokens):
        kept.read(logits, live, step, vocabulary)
        picked = _pick(logits[:, :vocabulary], temperature, generator)
        places = []
        for place, (row, token) in enumerate(zip(live, picked[:, 0].tolist(), strict=True)):
            ids[row].append(token)
            stopped[row] = token in loaded.stop_token_ids
            if not stopped[row]:
                places.append(place)
        if not places or step == max_new_tokens - 1:
            break
        if len(places) < len(live):
            index = torch.tensor(places, device=mask.device)
            cache.batch_select_indices(index)
            mask, picked, live = mask[index], picked[index], [live[place] for place in places]
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        logits = next_logits(loaded, picked, mask, cache)
    return [
        Sample(tuple(row), end, kept.ids[number, : len(row)].clone(), kept.logprobs[number, : len(row)].clone())
        for number, (row, end) in enumerate(zip(ids, stopped, strict=True))
    ]
