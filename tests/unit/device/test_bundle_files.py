"""The small files beside a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from star_edge.errors import RuntimeFailure
from star_edge_device.bundle_files import read_chat, stop_tokens


class Words:
    def token_to_id(self, token: str) -> int | None:
        return {"<end>": 7, "<other>": 8}.get(token)


def write(folder: Path, name: str, value: object) -> None:
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


def test_chat_reads_template_and_special_tokens_in_either_form(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("é{{ bos_token }}", encoding="utf-8")
    write(tmp_path, "tokenizer_config.json", {"bos_token": {"content": "<s>", "special": True}, "eos_token": None})
    chat = read_chat(tmp_path)
    assert (chat.template, chat.bos_token, chat.eos_token) == ("é{{ bos_token }}", "<s>", "")


def test_chat_without_a_template_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match=r"chat_template\.jinja: cannot be read") as raised:
        read_chat(tmp_path)
    assert "\n" not in str(raised.value)


TOKENIZER = {"tokenizer_config.json": {"eos_token": "<end>"}}


TOKENIZER = {"tokenizer_config.json": {"eos_token": "<end>"}}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (TOKENIZER, {7}),
        ({**TOKENIZER, "generation_config.json": {"eos_token_id": [3, 4]}}, {3, 4, 7}),
        ({"generation_config.json": {"eos_token_id": 3}}, {3}),
        ({**TOKENIZER, "manifest.json": {"details": {"stop_token_ids": [8]}}}, {8}),
    ],
)
def test_end_tokens_come_from_the_manifest_or_else_the_tokenizer(
    files: dict[str, object], expected: set[int], tmp_path: Path
) -> None:
    for name, value in files.items():
        write(tmp_path, name, value)
    assert stop_tokens(tmp_path, Words()) == expected


def test_no_end_token_or_broken_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match="no end token"):
        stop_tokens(tmp_path, Words())
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(RuntimeFailure, match=r"generation_config\.json: not readable"):
        stop_tokens(tmp_path, Words())
