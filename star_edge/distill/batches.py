"""Which rows make a step, and which of them go through the model together.

A row is (prompt ids, completion ids). Rows of one prompt lie side by side in the data, stay side by side in the order
of training, and go through the model together where they fit, so that their prompt is computed once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch
from torch.utils.data import Sampler

from star_edge.models.packing import Tokens

Row: TypeAlias = tuple[Tokens, Tokens]


class ShuffledPrompts(Sampler[int]):
    """Row numbers with the prompts in random order; the order depends on the seed and the epoch alone.

    The last step of an epoch is filled up with the number behind the last row, which stands for no row: accelerate
    would fill it with rows that the epoch has had, so that several processes learnt them twice.
    """

    def __init__(self, rows: Sequence[Row], *, rows_per_step: int, seed: int) -> None:
        self._groups = same_prompt(rows, range(len(rows)))
        self._rows = len(rows)
        self._missing = -len(rows) % rows_per_step
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before every epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._rows + self._missing

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        for place in torch.randperm(len(self._groups), generator=generator).tolist():
            yield from self._groups[place]
        yield from [self._rows] * self._missing


def same_prompt(rows: Sequence[Row], numbers: Sequence[int]) -> list[list[int]]:
    """Row numbers in runs of neighbours with one prompt."""
    return [list(group) for _, group in itertools.groupby(numbers, key=lambda number: tuple(rows[number][0]))]


def by_rows(numbers: Sequence[int], most: int) -> list[list[int]]:
    """The numbers in order, cut into as few runs of like size as hold `most` or fewer."""
    parts = math.ceil(len(numbers) / most)
    cuts = [len(numbers) * part // parts for part in range(parts + 1)]
    return [list(numbers[start:end]) for start, end in itertools.pairwise(cuts)]


def by_tokens(rows: Sequence[Row], numbers: Sequence[int], most: int) -> list[list[int]]:
    """The numbers in few forwards of like load, of at most `most` tokens each, prompts counted once.

    A row that is longer than that goes alone.
    """
    pieces = [piece for group in same_prompt(rows, numbers) for piece in _cut(rows, group, most)]
    loads = sorted(((_tokens(rows, piece), piece) for piece in pieces), key=lambda loaded: -loaded[0])
    alone = [piece for load, piece in loads if load > most]
    loads = loads[len(alone) :]
    parts = math.ceil(sum(load for load, _ in loads) / most)
    while True:
        forwards, fullest = _evenly(loads, parts)
        if fullest <= most:
            return alone + forwards
        parts += 1


def _evenly(loads: Sequence[tuple[int, list[int]]], parts: int) -> tuple[list[list[int]], int]:
    """Pieces, the heaviest first, each into the part that holds least (Graham 1969), and the fullest part's load."""
    forwards: list[list[int]] = [[] for _ in range(parts)]
    filled = [0] * parts
    for load, piece in loads:
        emptiest = filled.index(min(filled))
        forwards[emptiest] += piece
        filled[emptiest] += load
    return forwards, max(filled, default=0)


def _tokens(rows: Sequence[Row], group: Sequence[int]) -> int:
    return len(rows[group[0]][0]) + sum(len(rows[number][1]) for number in group)


def _cut(rows: Sequence[Row], group: Sequence[int], most: int) -> Iterator[list[int]]:
    """A prompt's rows in order, in runs of at most `most` tokens with the prompt, or of one row."""
    piece: list[int] = []
    for number in group:
        if piece and _tokens(rows, [*piece, number]) > most:
            yield piece
            piece = []
        piece.append(number)
    yield piece
