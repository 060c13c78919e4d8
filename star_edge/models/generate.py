"""Batched decoding whose rows leave the batch as soon as they are finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import DynamicCache

from star_edge.contracts import Generation
from star_edge.models.attention import decoding_attention
from star_edge.models.load import LoadedModel
from star_edge.progress import Progress, or_quiet

Pick: TypeAlias = Callable[[Tensor], Tensor]  # (rows, vocabulary) float32 logits -> (rows,) token ids


def greedy(
    loaded: LoadedModel,
    prompts: Sequence[tuple[str, str]],
    *,
    max_new_tokens: int,
    rows_per_forward: int,
    progress: Progress | None = None,
) -> list[Generation]:
    """The most likely token, one after another, for every prompt.

    Args:
        prompts: (id, rendered prompt text) pairs; the text is tokenised without adding special tokens.
    Returns: one Generation a prompt, in the order given; token_ids leave out the end token.
    """
    done: dict[int, Generation] = {}
    batches = greedy_batches(loaded, prompts, max_new_tokens=max_new_tokens, rows_per_forward=rows_per_forward)
    with closing(or_quiet(progress).bar("generate", len(prompts))) as bar:
        for batch in batches:
            done |= batch
            bar.update(len(done))
    return [done[index] for index in range(len(prompts))]


def greedy_batches(
    loaded: LoadedModel, prompts: Sequence[tuple[str, str]], *, max_new_tokens: int, rows_per_forward: int
) -> Iterator[dict[int, Generation]]:
    """As `greedy`, a batch at a time, as soon as it is done: index among the prompts -> its Generation."""
    encoded = [loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for _, text in prompts]
    # Similar lengths share a batch: padding costs as much as tokens do.
    order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
    for start in range(0, len(order), rows_per_forward):
        batch = order[start : start + rows_per_forward]
        rows = decode_rows(loaded, [encoded[index] for index in batch], max_new_tokens=max_new_tokens, pick=most_likely)
        done = {}
        for index, (new_ids, stopped) in zip(batch, rows, strict=True):
            text = loaded.tokenizer.decode(new_ids, skip_special_tokens=False)
            done[index] = Generation(prompts[index][0], text, tuple(new_ids), len(encoded[index]), stopped)
        yield done


def most_likely(logits: Tensor) -> Tensor:
    """(rows, vocabulary) -> (rows,); the lowest id wins a tie."""
    return logits.argmax(dim=-1)


def next_token_logits(loaded: LoadedModel, ids: Sequence[int]) -> Tensor:
    """Logits of the token after `ids`: (vocabulary,) float32 on the CPU."""
    with torch.inference_mode():
        input_ids = torch.tensor([list(ids)], device=loaded.device)
        logits = loaded.model(input_ids=input_ids, use_cache=False, logits_to_keep=1).logits
    last: Tensor = logits[0, -1].float().cpu()
    return last


@torch.inference_mode()
def decode_rows(
    loaded: LoadedModel, rows: Sequence[Sequence[int]], *, max_new_tokens: int, pick: Pick
) -> list[tuple[list[int], bool]]:
    """Decode one batch of prompts, given as token ids.

    Returns: for each row its new ids without the end token, and whether it ended by itself. A row that has ended
    leaves the batch, so the last steps of a long row are not paid for all.
    """
    with decoding_attention(loaded.model):
        return _decode_rows(loaded, rows, max_new_tokens, pick)


def _decode_rows(
    loaded: LoadedModel, rows: Sequence[Sequence[int]], max_new_tokens: int, pick: Pick
) -> list[tuple[list[int], bool]]:
    new_ids: list[list[int]] = [[] for _ in rows]
    stopped = [False] * len(rows)
    live = list(range(len(rows)))
    cache = DynamicCache()
    input_ids, mask = left_padded(rows, loaded)
    for _ in range(max_new_tokens):
        picked = pick(next_logits(loaded, input_ids, mask, cache))
        kept = []
        for place, (row, token) in enumerate(zip(live, picked.tolist(), strict=True)):
            if token in loaded.stop_token_ids:
                stopped[row] = True
            else:
                new_ids[row].append(token)
                kept.append(place)
        if not kept:
            break
        if len(kept) < len(live):
            index = torch.tensor(kept, device=mask.device)
            cache.batch_select_indices(index)
            mask, picked, live = mask[index], picked[index], [live[place] for place in kept]
        input_ids = picked[:, None]
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
    return list(zip(new_ids, stopped, strict=True))


def next_logits(loaded: LoadedModel, input_ids: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
    """(rows, new) ids behind what the cache holds -> (rows, vocabulary) float32."""
    positions = (mask.cumsum(-1) - 1).clamp_min(0)  # padding on the left must not shift a row's positions
    output = loaded.model(
        input_ids=input_ids,
        attention_mask=mask,
        position_ids=positions[:, -input_ids.shape[1] :],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = output.logits[:, -1].float()
    return logits


def left_padded(rows: Sequence[Sequence[int]], loaded: LoadedModel) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both (rows, longest) int64, padding on the left."""
    longest = max(len(row) for row in rows)
    pad = loaded.tokenizer.pad_token_id
    ids = [[pad] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=loaded.device), torch.tensor(mask, device=loaded.device)
