"""Token ids of texts of which each line is tokenised once: prompts offer the same tools again and again."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any

from star_edge.models.gguf_tokenizer import SPLITS

# A single line break between signs that are no white space, whatever a regex takes for white space.
_LINE_BREAK = re.compile(r"\n(?<=[!-~]\n)(?=[!-~])")
_KNOWN_RULES = frozenset(chain.from_iterable(SPLITS.values()))
MOST_KEPT = 1 << 23
"""Tokens; 32 MiB."""


class LineIds:
    """Tokenises with a tokenizer of transformers, without special tokens of its own."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._has_lines = cuts_at_lines(tokenizer)
        self._kept: dict[str, array[int]] = {}
        self._tokens_kept = 0

    def of(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, exactly those that the tokenizer gives for the whole of it."""
        if not self._has_lines:
            return self._tokenised(texts)
        lines = [_lines(text) for text in texts]
        self._keep(dict.fromkeys(chain.from_iterable(lines)))
        return [list(chain.from_iterable(map(self._kept.__getitem__, each))) for each in lines]

    def _keep(self, lines: dict[str, None]) -> None:
        if self._tokens_kept > MOST_KEPT:
            self._kept, self._tokens_kept = {}, 0
        new = [line for line in lines if line not in self._kept]
        for line, ids in zip(new, self._tokenised(new), strict=True):
            self._kept[line] = array("I", ids)
            self._tokens_kept += len(ids)

    def _tokenised(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        ids: list[list[int]] = self._tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
        )["input_ids"]
        return ids


def cuts_at_lines(tokenizer: Any) -> bool:
    """Whether the tokens of a text are those of its lines, one after the other.

    It is so under the splits that `star_edge.models.gguf_tokenizer` writes: none looks behind, none goes on behind a
    line break to a sign that is no white space, and at a single break the only one that looks ahead, `\\s+(?!\\S)`,
    takes the same at the end of a text. Others are not looked into, and taken for ones that do not.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.pre_tokenizer is None or backend.normalizer is not None:
        return False
    added = backend.get_added_tokens_decoder().values()
    if any(token.lstrip or token.rstrip or token.single_word or "\n" in token.content for token in added):
        return False
    step = json.loads(backend.pre_tokenizer.__getstate__())
    return all(map(_is_known, step.get("pretokenizers", [step])))


def _is_known(step: dict[str, Any]) -> bool:
    if step["type"] == "ByteLevel":
        return not step["add_prefix_space"]
    return step["type"] == "Split" and step["behavior"] == "Isolated" and step["pattern"].get("Regex") in _KNOWN_RULES


def _lines(text: str) -> list[str]:
    """The text in pieces that end with its line breaks, but for the last."""
    *lines, last = _LINE_BREAK.split(text)
    return [*(f"{line}\n" for line in lines), last]
