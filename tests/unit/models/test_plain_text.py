from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import TOOL_TAGS
from tokenizers import Tokenizer

from star_edge.contracts import ModelConfig
from star_edge.errors import ModelError
from star_edge.models.folder import ADDED_TOKENS, TOKENIZER, tokenizer_fingerprint
from star_edge.models.load import prepare

TEXT = '<|im_start|>assistant\n<tool_call>\n{"name": "f"}\n</tool_call><|im_end|>\n'


def prepared(source: Path, out: Path, *tokens: str) -> Tokenizer:
    prepare(ModelConfig(str(source), plain_text_tokens=tokens), out)
    return Tokenizer.from_file(str(out / TOKENIZER))


def test_the_text_of_the_tokens_is_cut_into_ordinary_pieces(tiny_qwen2: Path, tmp_path: Path) -> None:
    before, after = prepared(tiny_qwen2, tmp_path / "a"), prepared(tiny_qwen2, tmp_path / "b", *TOOL_TAGS)
    assert before.encode("<tool_call>").tokens == ["<tool_call>"]
    assert len(after.encode("<tool_call>").ids) > 1
    assert after.decode(after.encode(TEXT).ids, skip_special_tokens=False) == TEXT


def test_other_tokens_keep_their_ids(tiny_qwen2: Path, tmp_path: Path) -> None:
    before = prepared(tiny_qwen2, tmp_path / "a").get_vocab(with_added_tokens=True)
    after = prepared(tiny_qwen2, tmp_path / "b", TOOL_TAGS[0]).get_vocab(with_added_tokens=True)
    assert {token: index for token, index in before.items() if token != TOOL_TAGS[0]}.items() <= after.items()
    assert sorted(before.values()) == sorted(after.values())


def test_the_vocabulary_counts_as_another_one(tiny_qwen2: Path, tmp_path: Path) -> None:
    prepared(tiny_qwen2, tmp_path / "a", *TOOL_TAGS)
    assert tokenizer_fingerprint(tmp_path / "a") != tokenizer_fingerprint(tiny_qwen2)


def test_other_files_do_not_bring_the_tokens_back(tiny_qwen2: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    prepare(ModelConfig(str(tiny_qwen2)), source)
    (source / ADDED_TOKENS).write_text(json.dumps({"<tool_call>": 803, "</tool_call>": 804}))
    prepared(source, tmp_path / "b", *TOOL_TAGS)
    assert not set(TOOL_TAGS) & json.loads((tmp_path / "b" / ADDED_TOKENS).read_text()).keys()


def test_a_token_that_is_not_there_is_refused(tiny_qwen2: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="<call> is not an added token"):
        prepared(tiny_qwen2, tmp_path / "a", "<call>")
