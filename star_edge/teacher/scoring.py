"""What a teacher thinks of completions that are there already: its top-k at every position, prompts computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from star_edge.models.load import LoadedModel
from star_edge.models.packing import Tokens, add_counted_forward, pack
from star_edge.models.sampling import vocabulary_size
from star_edge.teacher.signal import LiveSignal

TopK = tuple[Tensor, Tensor]


class Scorer:
    """A teacher asked about given completions.

    Args:
        loaded: the teacher, on its device.
        top_k: log-probabilities kept a position, clamped to the tokenizer's vocabulary.
        tokens_per_forward: the most tokens of a batch; a longer prompt goes alone.
    """

    def __init__(self, loaded: LoadedModel, *, top_k: int, tokens_per_forward: int = 16384) -> None:
        add_counted_forward(loaded.model)
        self._signal = LiveSignal(loaded.model, top_k=top_k, vocabulary=vocabulary_size(loaded.tokenizer))
        self._device = loaded.device
        self._budget = tokens_per_forward

    def __call__(self, prompts: Sequence[tuple[Tokens, Sequence[Tokens]]]) -> list[list[TopK]]:
        """Top-k of every completion.

        Args:
            prompts: prompt ids with the ids of each of its completions, none empty.
        Returns: for each prompt, for each completion of T tokens: ids (T, K) int32 and log-probabilities (T, K)
            float16 at temperature 1, on the CPU.
        """
        found: dict[int, list[TopK]] = {number: [] for number in range(len(prompts))}
        for numbers in self._batches(prompts):
            rows = [(prompts[number][0], completion) for number in numbers for completion in prompts[number][1]]
            pieces = iter(self._score(rows))
            for number in numbers:
                found[number] = [next(pieces) for _ in prompts[number][1]]
        return [found[number] for number in range(len(prompts))]

    def _batches(self, prompts: Sequence[tuple[Tokens, Sequence[Tokens]]]) -> Iterator[list[int]]:
        """Prompt numbers by length, as many as fit the budget; those without a completion are left out."""
        lengths = [len(prompt) + sum(map(len, completions)) for prompt, completions in prompts]
        batch: list[int] = []
        filled = 0
        for number in sorted((n for n, (_, rows) in enumerate(prompts) if rows), key=lambda n: lengths[n]):
            if batch and filled + lengths[number] > self._budget:
                yield batch
                batch, filled = [], 0
            batch.append(number)
            filled += lengths[number]
        if batch:
            yield batch

    @torch.inference_mode()
    def _score(self, rows: Sequence[tuple[Tokens, Tokens]]) -> list[TopK]:
        # Neighbours with equal prompts share its computation; rows of different examples with one prompt may, too.
        batch = {name: tensor.to(self._device) for name, tensor in pack(rows).items()}
        ids, logprobs = self._signal.for_batch(batch)
        lengths = [len(completion) for _, completion in rows]
        columns = (ids.to("cpu", torch.int32), logprobs.to("cpu", torch.float16))
        return list(zip(*(torch.split(column, lengths) for column in columns), strict=True))
