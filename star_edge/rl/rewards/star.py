"""`star`, the published similarity reward, its holes kept on purpose so that results compare.

`"5"` passes for 5 and `true` for 1, ROUGE drops punctuation (`C` is `C++`) and non-Latin letters, nested values are
compared as text, and calls are matched greedily in the order they come. Only its demand for a `<think>` block is left
out. Source: STAR (arXiv 2602.03022), Sim-RL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from nltk.stem.porter import PorterStemmer  # type: ignore[import-untyped]
from rouge_score.scoring import fmeasure
from rouge_score.tokenize import tokenize

from star_edge.calls.offered import all_offered
from star_edge.calls.parse import parse_completion, strip_end_tokens
from star_edge.calls.schema import normalise_call
from star_edge.contracts import ToolCall

# Porter's algorithm walks runs of `y` recursively: a degenerate completion must not end the run.
_LONGEST_STEMMED_WORD = 64


def star(completion: str, target: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> float:
    """The published similarity reward.

    -1 for a malformed completion, a function that was not offered, or a parameter its schema lacks. Where calls
    are due: 0 without a call, else the summed similarity of matched calls over predicted plus unmatched target
    calls. Where a reply is due: ROUGE-L F1 of the reply, 0 for a call.
    """
    parsed = parse_completion(completion)
    if parsed.is_malformed or not all_offered(parsed.calls, tools):
        return -1.0
    wanted = [normalise_call(call) for call in target.get("tool_calls") or ()]
    if wanted:
        return _calls_similarity(parsed.calls, wanted) if parsed.calls else 0.0
    if parsed.calls:
        return 0.0
    return text_similarity(parsed.reply, strip_end_tokens(str(target.get("content") or "")))


def text_similarity(predicted: str, wanted: str) -> float:
    """ROUGE-L F1 over stemmed lower-case ASCII words; 1 when equal, 0 when one is blank."""
    if predicted == wanted:
        return 1.0
    if not predicted.strip() or not wanted.strip():
        return 0.0
    predicted_words, wanted_words = _words(predicted), _words(wanted)
    if not predicted_words or not wanted_words:
        return 0.0
    common = _common_subsequence(predicted_words, wanted_words)
    return float(fmeasure(common / len(predicted_words), common / len(wanted_words)))


def _calls_similarity(predicted: Sequence[ToolCall], wanted: Sequence[ToolCall]) -> float:
    """Each predicted call in turn takes the most similar target of its name that is still free."""
    free = list(wanted)
    matched = 0.0
    for call in predicted:
        rivals = [other for other in free if other.name == call.name]
        if rivals:
            best = max(rivals, key=lambda other: _arguments_similarity(call.arguments, other.arguments))
            matched += _arguments_similarity(call.arguments, best.arguments)
            del free[next(position for position, other in enumerate(free) if other is best)]
    return matched / (len(predicted) + len(free))


def _arguments_similarity(predicted: Mapping[str, Any], wanted: Mapping[str, Any]) -> float:
    names = predicted.keys() | wanted.keys()
    if not names:
        return 1.0
    shared = predicted.keys() & wanted.keys()
    return sum(_value_similarity(predicted[name], wanted[name]) for name in sorted(shared)) / len(names)


def _value_similarity(predicted: Any, wanted: Any) -> float:
    if isinstance(predicted, str) and isinstance(wanted, str):
        return text_similarity(predicted, wanted)
    # bool is an int in Python, which is how `true` comes to pass for 1.
    if isinstance(predicted, int | float) and isinstance(wanted, int | float):
        return float(predicted == wanted)
    return float(str(predicted) == str(wanted))


class _Stemmer:
    """Porter's stemmer, each word once."""

    def __init__(self) -> None:
        self._porter = PorterStemmer()
        self.stem = lru_cache(maxsize=65536)(self._stem)

    def _stem(self, word: str) -> str:
        return str(self._porter.stem(word)) if len(word) <= _LONGEST_STEMMED_WORD else word


_STEMMER = _Stemmer()


@lru_cache(maxsize=16384)
def _words(text: str) -> tuple[str, ...]:
    return tuple(tokenize(text, _STEMMER))


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the usual table at a time in the bits of one integer.

    Source: Hyyrö 2004, "Bit-parallel LCS-length computation revisited".
    """
    places: dict[str, int] = {}
    for position, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << position
    everything = (1 << len(a)) - 1
    row = everything
    for word in b:
        hits = row & places.get(word, 0)
        row = ((row + hits) | (row - hits)) & everything
    return len(a) - row.bit_count()
