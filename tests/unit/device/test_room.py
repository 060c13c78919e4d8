"""How long a context a suite is given."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tiny_bundles import requests

from star_edge.contracts import Bundle, Example
from star_edge.errors import RuntimeFailure
from star_edge_device.accuracy import LEAST_CONTEXT, room_for
from star_edge_device.bundle_files import read_chat, read_tokenizer


def long_request(words: int) -> Example:
    example = requests(1)[0]
    return dataclasses.replace(example, messages=({"role": "user", "content": "light " * words}, example.target))


def test_long_rows_get_the_room_they_need_and_short_ones_the_usual(gguf_bundle: Bundle) -> None:
    roomy = dataclasses.replace(gguf_bundle, context_length=100_000)
    example = long_request(3000)
    prompt = read_chat(roomy.folder).prompt(example)
    tokens = len(read_tokenizer(roomy.folder).encode(prompt, add_special_tokens=False).ids)
    assert tokens > LEAST_CONTEXT

    assert room_for(roomy, [*requests(2), example], max_new_tokens=10) == tokens + 11
    assert room_for(roomy, requests(2), max_new_tokens=10) == LEAST_CONTEXT


def test_room_ends_where_the_model_does(gguf_bundle: Bundle) -> None:
    assert gguf_bundle.context_length < LEAST_CONTEXT
    assert room_for(gguf_bundle, [long_request(3000)], max_new_tokens=10) == gguf_bundle.context_length


def test_damaged_tokenizer_is_told_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(RuntimeFailure, match=r"tokenizer\.json: cannot be read") as raised:
        read_tokenizer(folder)
    assert "\n" not in str(raised.value)
