from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer

from star_edge.errors import ModelError
from star_edge.models.folder import CHAT_TEMPLATE, TOKENIZER, TOKENIZER_CONFIG
from star_edge.models.gguf_tokenizer import ALIASES, SPLITS, build_tokenizer, write_tokenizer

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
WORDS = ["he", "ll", "hell", "hello", "Ġhello", "12", "Ġ1"]
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ hello", "1 2", "Ġ 1"]
SPECIAL = ["<|endoftext|>", "<|im_end|>", "<tool_call>", "[PAD265]", "[PAD266]"]
TYPES = [1] * (len(ALPHABET) + len(WORDS)) + [3, 3, 4, 5, 5]
TOKENS = [*ALPHABET, *WORDS, *SPECIAL]
END_OF_TEXT, IM_END, TOOL_CALL = (TOKENS.index(token) for token in SPECIAL[:3])


def metadata(**changes: Any) -> dict[str, Any]:
    entries = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": TOKENS,
        "token_type": TYPES,
        "merges": MERGES,
        "eos_token_id": END_OF_TEXT,
        "padding_token_id": END_OF_TEXT,
    } | changes
    found = {f"tokenizer.ggml.{name}": value for name, value in entries.items() if value is not None}
    found["tokenizer.chat_template"] = "{{ messages }}<|im_end|>"
    return found


def write(out: Path, **changes: Any) -> tuple[int, ...]:
    return write_tokenizer(metadata(**changes), out, where="x.gguf", context_length=128)


def pieces(text: str, pre: str) -> list[str]:
    tokenizer = build_tokenizer(metadata(pre=pre), TOKENS[:-2], TYPES[:-2], where="x.gguf")
    return [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


def test_ids_are_those_of_the_file(tmp_path: Path) -> None:
    write(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / TOKENIZER))
    encoded = tokenizer.encode("hello hello<tool_call>\n<|im_end|>")
    assert encoded.tokens == ["hello", "Ġhello", "<tool_call>", "Ċ", "<|im_end|>"]
    assert encoded.ids == [TOKENS.index(token) for token in encoded.tokens]


def test_padding_tokens_at_the_end_are_no_tokens(tmp_path: Path) -> None:
    write(tmp_path)
    assert Tokenizer.from_file(str(tmp_path / TOKENIZER)).get_vocab_size() == len(TOKENS) - 2


def test_control_tokens_are_special_and_user_defined_ones_are_not(tmp_path: Path) -> None:
    write(tmp_path)
    added = json.loads((tmp_path / TOKENIZER).read_text())["added_tokens"]
    assert {token["content"]: token["special"] for token in added} == {
        "<|endoftext|>": True,
        "<|im_end|>": True,
        "<tool_call>": False,
    }


def test_automatic_class_reads_the_same_ids_and_names(tmp_path: Path) -> None:
    write(tmp_path, bos_token_id=END_OF_TEXT)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("hello 12<tool_call>", add_special_tokens=False)["input_ids"] == [
        TOKENS.index(token) for token in ("hello", "Ġ", "12", "<tool_call>")
    ]
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|endoftext|>", "<|im_end|>", "<|endoftext|>",
    )  # fmt: skip
    assert tokenizer.model_input_names == ["input_ids", "attention_mask"]
    assert tokenizer.chat_template == (tmp_path / CHAT_TEMPLATE).read_text() == "{{ messages }}<|im_end|>"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (IM_END, END_OF_TEXT)),
        ({"eos_token_id": IM_END}, (IM_END, END_OF_TEXT)),
        ({"eos_token_id": None}, (IM_END, END_OF_TEXT)),
        ({"eos_token_id": 9_999}, (IM_END, END_OF_TEXT)),
        ({"eot_token_id": TOOL_CALL}, (IM_END, END_OF_TEXT)),
        ({"token_type": [1] * len(TOKENS)}, (END_OF_TEXT,)),
    ],
)
def test_turn_end_comes_before_the_files_eos(
    tmp_path: Path, changes: dict[str, Any], expected: tuple[int, ...]
) -> None:
    assert write(tmp_path, **changes) == expected
    settings = json.loads((tmp_path / TOKENIZER_CONFIG).read_text())
    assert settings["eos_token"] == TOKENS[expected[0]]


@pytest.mark.parametrize(("pre", "add_bos", "begins"), [
    ("gpt-2", None, False), ("gpt-2", True, True), ("llama-bpe", None, True), ("llama-bpe", False, False),
])  # fmt: skip
def test_bos_is_added_when_the_file_says_so(tmp_path: Path, pre: str, add_bos: bool | None, begins: bool) -> None:
    write(tmp_path, pre=pre, add_bos_token=add_bos, bos_token_id=END_OF_TEXT)
    tokenizer = Tokenizer.from_file(str(tmp_path / TOKENIZER))
    assert (tokenizer.encode("hello").ids[0] == END_OF_TEXT) is begins
    assert tokenizer.encode("hello", add_special_tokens=False).ids == [TOKENS.index("hello")]


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("gpt-2", ["It", "'s", "Ġ1234", "Ġa", "!=", "b", "Ġ", "Ġc", "Ċ", "Ċ", "d"]),
        ("smollm", ["It", "'s", "Ġ", "1", "2", "3", "4", "Ġa", "!=", "b", "Ġ", "Ġc", "Ċ", "Ċ", "d"]),
        ("qwen2", ["It", "'s", "Ġ", "1", "2", "3", "4", "Ġa", "!=", "b", "Ġ", "Ġc", "ĊĊ", "d"]),
        ("llama-bpe", ["It", "'s", "Ġ", "123", "4", "Ġa", "!=", "b", "Ġ", "Ġc", "ĊĊ", "d"]),
        ("default", ["It", "'", "s", "Ġ", "123", "4", "Ġa", "!=", "b", "Ġ", "Ġc", "Ċ", "Ċ", "d"]),
    ],
)
def test_each_pre_tokenizer_cuts_its_own_way(pre: str, expected: list[str]) -> None:
    found = pieces("It's 1234 a!=b  c\n\nd", pre)
    assert "".join(found) == "".join(expected)
    assert found == expected


def test_aliases_point_at_known_rules() -> None:
    assert set(ALIASES.values()) <= set(SPLITS)
    assert pieces("x 12", "llama3") == pieces("x 12", "llama-bpe")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pre": "martian"}, "x.gguf: pre-tokenizer 'martian' is not known"),
        ({"model": "llama"}, r"its tokenizer is 'llama', and only byte-level BPE \('gpt2'\)"),
        ({"model": None}, "its tokenizer is 'None'"),
        ({"tokens": None}, "0 tokens but"),
        ({"token_type": [1]}, "tokens but 1 token types"),
        ({"merges": ["zz yy"]}, "vocabulary and merges do not fit"),
    ],
)
def test_fields_that_make_no_tokenizer_are_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        write(tmp_path, **changes)
    assert "\n" not in str(caught.value)
