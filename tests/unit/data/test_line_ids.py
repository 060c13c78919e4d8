"""Ids put together from lines: the very ones that the tokenizer gives for the whole text."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from star_edge.data import line_ids
from star_edge.data.line_ids import LineIds, cuts_at_lines
from star_edge.models.gguf_tokenizer import SPLITS, build_tokenizer

# Every sign by which byte-level BPE writes a byte, and merges across what the splits keep apart.
BYTES = [chr(code) for code in range(33, 324)]
MERGES = ["} }", '{ "', "a b", "\u010a \u010a", "\u010a {", "} \u010a", "\u0120 \u0120", "\u0120 \u010a"]
PIECES = st.sampled_from(
    [
        '{"a": "ab"}',
        "}}",
        "}\n{",
        "\n",
        " \n",
        "\n\n",
        "\r\n",
        " ",
        "\t",
        "\x1c",
        "ab",
        "It's",
        "12345",
        "é",
        "\u3000",
        "<|im_end|>",
    ]
)


@lru_cache
def tokenizer_of(pre: str) -> Any:
    tokens = [*BYTES, *(merge.replace(" ", "") for merge in MERGES)]
    types = [1] * len(tokens) + [3]
    metadata = {"tokenizer.ggml.pre": pre, "tokenizer.ggml.merges": MERGES}
    return PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(metadata, [*tokens, "<|im_end|>"], types, where="test")
    )


@pytest.mark.parametrize("pre", SPLITS)
@given(pieces=st.lists(PIECES, max_size=12))
def test_ids_are_those_of_the_whole_text(pre: str, pieces: list[str]) -> None:
    tokenizer, text = tokenizer_of(pre), "".join(pieces)

    assert cuts_at_lines(tokenizer)
    assert LineIds(tokenizer).of([text, text]) == [tokenizer.encode(text, add_special_tokens=False)] * 2


class Counting:
    """A tokenizer that says how many texts it was given."""

    def __init__(self, tokenizer: Any) -> None:
        self.backend_tokenizer = tokenizer.backend_tokenizer
        self._tokenizer = tokenizer
        self.texts = 0

    def __call__(self, texts: list[str], **options: Any) -> Any:
        self.texts += len(texts)
        return self._tokenizer(texts, **options)


def test_a_line_is_tokenised_once_until_too_much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting(tokenizer_of("qwen2"))
    ids = LineIds(counting)
    first = ids.of(["{a}\n{b}\nc", "{a}\nc"])
    assert counting.texts == 3

    monkeypatch.setattr(line_ids, "MOST_KEPT", 0)
    assert ids.of(["{a}\n{b}\nc", "{a}\nc"]) == first
    assert counting.texts == 6


def test_tokenizers_that_may_join_lines_are_given_whole_texts(tiny_student: Path) -> None:
    own = AutoTokenizer.from_pretrained(tiny_student)  # its pre-tokenizer is spelt as none of ours
    normalising, joining = (AutoTokenizer.from_pretrained(tiny_student) for _ in range(2))
    for tokenizer in (normalising, joining):
        tokenizer.backend_tokenizer.pre_tokenizer = tokenizer_of("qwen2").backend_tokenizer.pre_tokenizer
    assert cuts_at_lines(joining)
    normalising.backend_tokenizer.normalizer = normalizers.NFC()
    joining.backend_tokenizer.add_tokens([AddedToken("}\n{", normalized=False)])

    assert not any(map(cuts_at_lines, (own, normalising, joining, object())))
    counting = Counting(own)
    LineIds(counting).of(["{a}\n{a}", "{a}\n{a}"])
    assert counting.texts == 2
    assert LineIds(own).of([]) == []
