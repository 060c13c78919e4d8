from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from star_edge.errors import ExportError
from star_edge.models.folder import TOKENIZER, TOKENIZER_CONFIG
from star_edge.models.gguf_tokenizer import SPLITS, build_tokenizer
from star_edge_export.gguf_vocab import detect_pre_tokenizer, read_vocabulary

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
BYTES_AND_WORDS = {**BYTES, "use_regex": True}


def split(pattern: str, behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def tokenizer(*steps: dict[str, Any], ignore_merges: bool = False, normalizer: Any = None) -> dict[str, Any]:
    pre = steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": list(steps)}
    return {
        "model": {"type": "BPE", "ignore_merges": ignore_merges},
        "pre_tokenizer": pre,
        "normalizer": normalizer,
    }


@pytest.fixture
def folder(tiny_qwen2: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_qwen2, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors")))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


# ------------------------------------------------------------------------------------------------------- pre-tokenizer


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (tokenizer(BYTES_AND_WORDS), "gpt-2"),
        (tokenizer({"type": "Digits", "individual_digits": True}, BYTES_AND_WORDS), "smollm"),
        (tokenizer(split(LLAMA3), BYTES, ignore_merges=True), "llama-bpe"),
        (tokenizer(split(LLAMA3, "Removed", invert=True), BYTES, ignore_merges=True), "llama-bpe"),
        (tokenizer(split(LLAMA3.replace("{1,3}", "")), BYTES), "qwen2"),
        (tokenizer(split(LLAMA3.replace("{1,3}", "")), BYTES, normalizer={"type": "NFC"}), "qwen2"),
    ],
    ids=["gpt-2", "smollm", "llama-bpe", "llama-bpe inverted", "qwen2", "qwen2 with NFC"],
)
def test_published_tokenizers_are_recognised(content: dict[str, Any], expected: str) -> None:
    assert detect_pre_tokenizer(content, "x") == expected


@pytest.mark.parametrize("pre", list(SPLITS))
def test_what_the_reader_builds_is_recognised_again(pre: str) -> None:
    built = build_tokenizer({"tokenizer.ggml.pre": pre}, ["a"], [NORMAL], where="x")
    assert detect_pre_tokenizer(json.loads(built.to_str()), "x") == pre


def test_tiny_models_are_what_they_imitate(tiny_student: Path, tiny_qwen2: Path) -> None:
    assert read_vocabulary(tiny_student, 800).pre == "smollm"
    assert read_vocabulary(tiny_qwen2, 832).pre == "qwen2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tokenizer(split(r"\w+"), BYTES), "llama.cpp has no name for its pre-tokenizer"),
        (tokenizer(split(LLAMA3), BYTES), "no name for its pre-tokenizer"),
        (tokenizer(BYTES_AND_WORDS, ignore_merges=True), "no name for its pre-tokenizer"),
        (tokenizer({**BYTES_AND_WORDS, "add_prefix_space": True}), "puts a space before a text"),
        (tokenizer(split(LLAMA3, "Contiguous"), BYTES), r"its split \(Contiguous\) does not exist"),
        (tokenizer({"type": "Metaspace"}), "step Metaspace does not exist"),
        ({**tokenizer(BYTES), "pre_tokenizer": None}, "step None does not exist"),
        (tokenizer(BYTES_AND_WORDS, normalizer={"type": "Lowercase"}), r"its normaliser \(Lowercase\)"),
    ],
)
def test_rules_llama_cpp_does_not_have_are_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        detect_pre_tokenizer(content, "x")
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- vocabulary


def test_every_embedding_row_has_a_token_and_a_type(tiny_qwen2: Path) -> None:
    found = read_vocabulary(tiny_qwen2, 832)
    expected = Tokenizer.from_file(str(tiny_qwen2 / TOKENIZER))
    assert [expected.id_to_token(index) for index in range(805)] == found.tokens[:805]
    assert found.tokens[805:] == [f"[PAD{index}]" for index in range(805, 832)]
    assert found.types == [NORMAL] * 800 + [CONTROL] * 3 + [USER_DEFINED] * 2 + [UNUSED] * 27


def test_merges_are_pairs_in_one_string(folder: Path) -> None:
    in_lists = read_vocabulary(folder, 832).merges
    edit(folder / TOKENIZER, lambda t: t["model"].update(merges=[" ".join(merge) for merge in t["model"]["merges"]]))
    assert read_vocabulary(folder, 832).merges == in_lists
    assert all(merge.count(" ") == 1 for merge in in_lists)


def test_special_ids_carry_both_end_tokens(folder: Path) -> None:
    edit(
        folder / TOKENIZER_CONFIG, lambda c: c.update(bos_token="<|im_start|>", unk_token={"content": "<|endoftext|>"})
    )
    (folder / "generation_config.json").write_text('{"eos_token_id": [802, 800]}')
    found = read_vocabulary(folder, 832)
    assert found.special_ids == {"eos": 802, "eot": 800, "bos": 801, "unknown": 800, "padding": 800}
    assert found.add_bos is False


def test_bos_of_the_post_processor_is_seen(folder: Path) -> None:
    bos = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>"}}, {"Sequence": {"id": "A"}}],
    }
    edit(folder / TOKENIZER, lambda t: t.update(post_processor={"type": "Sequence", "processors": [bos]}))
    assert read_vocabulary(folder, 832).add_bos is True
    edit(folder / TOKENIZER, lambda t: t.update(post_processor=bos))
    assert read_vocabulary(folder, 832).add_bos is True


@pytest.mark.parametrize(
    ("change", "rows", "message"),
    [
        (lambda t: t["model"].update(type="Unigram"), 832, "only byte-level BPE can be written"),
        (lambda t: t["model"].update(byte_fallback=True), 832, "only byte-level BPE can be written"),
        (lambda t: None, 804, r"token 804 has no row in the embedding \(804 rows\)"),
    ],
)
def test_vocabulary_that_does_not_fit_is_refused(
    folder: Path, change: Callable[[Any], Any], rows: int, message: str
) -> None:
    edit(folder / TOKENIZER, change)
    with pytest.raises(ExportError, match=message):
        read_vocabulary(folder, rows)
