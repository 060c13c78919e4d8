"""How much of an evaluation set has been seen in training: equal last requests, and shared 13-word sequences.

Thirteen words is the length used in published decontamination since GPT-3 (arXiv 2005.14165, appendix C).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from star_edge.contracts import Example

WORDS = 13
SHORTEST_REQUEST = 4
"""Words: shorter replies, such as "Yes please.", are said in any dialogue and give no row of another away."""
SHOWN = 20
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Match:
    """A training row and an evaluation row that share a request or a word sequence."""

    train_id: str
    evaluation_id: str


@dataclass(frozen=True, slots=True)
class OverlapReport:
    """Counts of training rows, and one match for each: leaving those rows out removes the overlap.

    exact: training rows whose last request is also one of the evaluation, shorter ones than were asked for excepted.
    ngram: training rows that share a sequence of 13 words with any request of the evaluation.
    """

    train_rows: int
    evaluation_rows: int
    exact: int
    ngram: int
    exact_matches: tuple[Match, ...]
    ngram_matches: tuple[Match, ...]

    def summary(self) -> dict[str, Any]:
        """The counts and the first matches, as JSON types."""
        short = dataclasses.replace(
            self, exact_matches=self.exact_matches[:SHOWN], ngram_matches=self.ngram_matches[:SHOWN]
        )
        return dataclasses.asdict(short)


@lru_cache(maxsize=1 << 16)  # a row's texts are compared several times
def normalise_text(text: str) -> str:
    """Words without case or punctuation, one space between them."""
    return " ".join(_WORD.findall(text.casefold()))


def user_texts(example: Example) -> tuple[str, ...]:
    """What the user says in a row, in order."""
    return tuple(message["content"] for message in example.messages if message["role"] == "user")


def overlap(train: Sequence[Example], evaluation: Sequence[Example], *, shortest: int = 1) -> OverlapReport:
    """Overlap of two sets of rows; see `overlap_with_texts`."""
    return overlap_with_texts(train, texts_of(evaluation), shortest=shortest)


def texts_of(examples: Sequence[Example]) -> dict[str, tuple[str, ...]]:
    """Row id -> what the user says."""
    return {example.id: user_texts(example) for example in examples}


def overlap_with_texts(
    train: Sequence[Example], evaluation: Mapping[str, Sequence[str]], *, shortest: int = 1
) -> OverlapReport:
    """Overlap of training rows with any evaluation suite.

    Args:
        evaluation: id of each case -> its user messages; the last one is compared as a whole, all of them by word
            sequences.
        shortest: words of the shortest request that is compared as a whole.
    """
    known = KnownRequests(evaluation, shortest=shortest)
    rows = [(example.id, user_texts(example)) for example in train]
    exact = [Match(name, hit) for name, texts in rows if (hit := known.exact(texts)) is not None]
    shared = [Match(name, hit) for name, texts in rows if (hit := known.ngram(texts)) is not None]
    return OverlapReport(len(train), len(evaluation), len(exact), len(shared), tuple(exact), tuple(shared))


class KnownRequests:
    """The requests of an evaluation, ready to be looked up.

    Args:
        evaluation: as for `overlap_with_texts`; of several cases that say the same the first counts.
        shortest: as there.
    """

    def __init__(self, evaluation: Mapping[str, Sequence[str]], *, shortest: int = 1) -> None:
        self._lasts: dict[str, str] = {}
        self._sequences: dict[str, str] = {}
        for case, texts in evaluation.items():
            last = normalise_text(texts[-1]) if texts else ""
            if len(last.split()) >= shortest:
                self._lasts.setdefault(last, case)
            for sequence in _sequences(texts):
                self._sequences.setdefault(sequence, case)

    def exact(self, texts: Sequence[str]) -> str | None:
        """The case whose last request is the last of these, or None."""
        return self._lasts.get(normalise_text(texts[-1])) if texts else None

    def ngram(self, texts: Sequence[str]) -> str | None:
        """The case that shares a sequence of 13 words with one of these, or None."""
        return next((self._sequences[each] for each in _sequences(texts) if each in self._sequences), None)


def _sequences(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        words = normalise_text(text).split()
        for start in range(len(words) - WORDS + 1):
            yield " ".join(words[start : start + WORDS])
