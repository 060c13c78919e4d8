"""How much of an evaluation set has been seen in training: equal last requests, and shared 13-word sequences.

Thirteen words is the length used in published decontamination since GPT-3 (arXiv 2005.14165, appendix C).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from star_edge.contracts import Example

WORDS = 13
SHOWN = 20
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Match:
    """A training row and an evaluation row that share a request or a word sequence."""

    train_id: str
    evaluation_id: str


@dataclass(frozen=True, slots=True)
class OverlapReport:
    """At most one match a training row and list; leaving out the training rows named here removes the overlap."""

    train_rows: int
    evaluation_rows: int
    exact: tuple[Match, ...]
    shared_words: tuple[Match, ...]

    def summary(self) -> dict[str, Any]:
        """Counts, and the first matches, as JSON types."""
        matches = {"exact": self.exact, f"shared_{WORDS}_words": self.shared_words}
        return {
            "train_rows": self.train_rows,
            "evaluation_rows": self.evaluation_rows,
            **{
                name: {"train_rows": len(found), "first": [[m.train_id, m.evaluation_id] for m in found[:SHOWN]]}
                for name, found in matches.items()
            },
        }


def normalise_text(text: str) -> str:
    """Words without case or punctuation, one space between them."""
    return " ".join(_WORD.findall(text.casefold()))


def user_texts(example: Example) -> tuple[str, ...]:
    """What the user says in a row, in order."""
    return tuple(message["content"] for message in example.messages if message["role"] == "user")


def overlap(train: Sequence[Example], evaluation: Sequence[Example]) -> OverlapReport:
    """Overlap of two sets of rows; see `overlap_with_texts`."""
    return overlap_with_texts(train, {example.id: user_texts(example) for example in evaluation})


def overlap_with_texts(train: Sequence[Example], evaluation: Mapping[str, Sequence[str]]) -> OverlapReport:
    """Overlap of training rows with any evaluation suite.

    Args:
        evaluation: id of each case -> its user messages; the last one is compared as a whole, all of them by word
            sequences.
    """
    lasts: dict[str, str] = {}
    sequences: dict[str, str] = {}
    for case, texts in evaluation.items():
        if texts and (last := normalise_text(texts[-1])):
            lasts.setdefault(last, case)
        for sequence in _sequences(texts):
            sequences.setdefault(sequence, case)
    exact, shared = [], []
    for example in train:
        texts = user_texts(example)
        if texts and (hit := lasts.get(normalise_text(texts[-1]))) is not None:
            exact.append(Match(example.id, hit))
        if (hit := next((sequences[s] for s in _sequences(texts) if s in sequences), None)) is not None:
            shared.append(Match(example.id, hit))
    return OverlapReport(len(train), len(evaluation), tuple(exact), tuple(shared))


def _sequences(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        words = normalise_text(text).split()
        for start in range(len(words) - WORDS + 1):
            yield " ".join(words[start : start + WORDS])
