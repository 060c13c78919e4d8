"""Lengths of rows in tokens: which rows fit a recipe's limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeAlias, TypeVar

from star_edge.contracts import DataConfig, Example
from star_edge.data.chat import ChatCodec
from star_edge.errors import DataError

Item = TypeVar("Item")
Lengths: TypeAlias = tuple[int, int]  # tokens of the prompt, tokens of the completion
ROWS_AT_ONCE = 256
"""Enough to keep the tokenizer's threads busy, few enough that their text is no matter for the memory."""


def chunks(items: Iterable[Item], size: int = ROWS_AT_ONCE) -> Iterator[list[Item]]:
    """The items in lists of at most `size`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


class Ruler:
    """Measures rows with the student's tokenizer and chat template."""

    def __init__(self, codec: ChatCodec, config: DataConfig) -> None:
        self.codec = codec
        self.config = config

    def rows(self, examples: Sequence[Example]) -> list[Lengths | DataError | None]:
        """Each row's lengths, the template's refusal, or None for a row that is too long."""
        measured: list[Lengths | DataError | None] = []
        for chunk in chunks(examples):
            for row in self.codec.encode_many(chunk):
                if isinstance(row, DataError):
                    measured.append(row)
                else:
                    measured.append(self._fitting(row.prompt_length, len(row.input_ids) - row.prompt_length))
        return measured

    def prompts(self, examples: Sequence[Example]) -> list[Lengths | DataError | None]:
        """As `rows`, of prompts without an answer, whose completion has no tokens."""
        lengths = (length for chunk in chunks(examples) for length in self.codec.prompt_lengths(chunk))
        return [length if isinstance(length, DataError) else self._fitting(length, 0) for length in lengths]

    def _fitting(self, prompt: int, completion: int) -> Lengths | None:
        fits = prompt <= self.config.max_prompt_tokens and completion <= self.config.max_completion_tokens
        return (prompt, completion) if fits else None
