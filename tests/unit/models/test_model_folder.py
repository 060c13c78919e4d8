from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from star_edge.errors import ModelError
from star_edge.models.folder import (
    CHAT_TEMPLATE,
    GENERATION_CONFIG,
    TOKENIZER,
    TOKENIZER_CONFIG,
    copy_tokenizer,
    end_turns_with,
    read_template,
    stop_token_ids,
    tokenizer_fingerprint,
)


@pytest.fixture
def folder(tiny_qwen2: Path, tmp_path: Path) -> Path:
    """A copy of a model folder without its weights."""
    shutil.copytree(tiny_qwen2, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "model"


def edit(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


# ------------------------------------------------------------------------------------------------------- template


def test_template_file_wins_over_the_one_in_the_config(folder: Path) -> None:
    edit(folder / TOKENIZER_CONFIG, lambda config: config.update(chat_template="old"))
    (folder / CHAT_TEMPLATE).write_text("new")
    assert read_template(folder) == "new"
    (folder / CHAT_TEMPLATE).unlink()
    assert read_template(folder) == "old"


def test_of_named_templates_the_one_for_tools_is_read(folder: Path) -> None:
    (folder / CHAT_TEMPLATE).unlink()
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    edit(folder / TOKENIZER_CONFIG, lambda config: config.update(chat_template=named))
    assert read_template(folder) == "tools"


def test_folder_without_a_template_is_refused(folder: Path) -> None:
    (folder / CHAT_TEMPLATE).unlink()
    with pytest.raises(ModelError, match="no chat template; set chat_template: hermes"):
        read_template(folder)


# ---------------------------------------------------------------------------------------------------- fingerprint


def reformat(tokenizer: Any) -> None:
    """Other ways to write the same tokenizer: key order, merges as strings, added tokens inside the vocabulary."""
    model = tokenizer["model"]
    model["merges"] = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    model["vocab"] = dict(reversed(model["vocab"].items()))
    model["vocab"].update({token["content"]: token["id"] for token in tokenizer["added_tokens"]})


def test_layout_does_not_change_the_fingerprint(folder: Path) -> None:
    before = tokenizer_fingerprint(folder)
    edit(folder / TOKENIZER, reformat)
    assert tokenizer_fingerprint(folder) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t["model"]["vocab"].update(new=799),
        lambda t: t["model"]["merges"].reverse(),
        lambda t: t["added_tokens"].pop(),
        lambda t: t["added_tokens"][0].update(id=820),
    ],
    ids=["vocabulary", "order of merges", "added token gone", "added token moved"],
)
def test_what_moves_an_id_changes_the_fingerprint(folder: Path, change: Callable[[Any], None]) -> None:
    before = tokenizer_fingerprint(folder)
    edit(folder / TOKENIZER, change)
    assert tokenizer_fingerprint(folder) != before


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00\x01"])
def test_damaged_tokenizer_is_one_line(folder: Path, content: str) -> None:
    (folder / TOKENIZER).write_text(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json: not readable as JSON") as caught:
        tokenizer_fingerprint(folder)
    assert "\n" not in str(caught.value)


# ----------------------------------------------------------------------------------------------------- end tokens


@pytest.mark.parametrize(
    ("eos_token", "generation", "expected"),
    [
        ("<|im_end|>", None, (802,)),
        ({"content": "<|im_end|>"}, {"eos_token_id": [802, 800]}, (802, 800)),
        ("<|im_end|>", {"eos_token_id": 800}, (802, 800)),
        (None, {"eos_token_id": 800}, (800,)),
        ("<|im_end|>", {"temperature": 0.7}, (802,)),
        ("no such token", {"eos_token_id": [800]}, (800,)),
    ],
)
def test_stop_tokens_come_from_tokenizer_then_generation_config(
    folder: Path, eos_token: Any, generation: Any, expected: tuple[int, ...]
) -> None:
    edit(folder / TOKENIZER_CONFIG, lambda config: config.update(eos_token=eos_token))
    (folder / GENERATION_CONFIG).unlink(missing_ok=True)
    if generation is not None:
        (folder / GENERATION_CONFIG).write_text(json.dumps(generation))
    assert stop_token_ids(folder) == expected


def test_folder_that_names_no_end_is_refused(folder: Path) -> None:
    edit(folder / TOKENIZER_CONFIG, lambda config: config.pop("eos_token"))
    (folder / GENERATION_CONFIG).unlink(missing_ok=True)
    with pytest.raises(ModelError, match="no eos_token"):
        stop_token_ids(folder)


def test_new_turn_end_goes_first_and_the_old_ends_stay(folder: Path) -> None:
    edit(folder / TOKENIZER_CONFIG, lambda config: config.update(eos_token="<|endoftext|>"))
    (folder / GENERATION_CONFIG).write_text(json.dumps({"eos_token_id": 800, "temperature": 0.5}))
    end_turns_with(folder, "<|im_end|>")
    assert stop_token_ids(folder) == (802, 800)
    assert json.loads((folder / GENERATION_CONFIG).read_text())["temperature"] == 0.5


def test_turn_end_that_is_in_place_leaves_the_bytes_alone(folder: Path) -> None:
    before = (folder / TOKENIZER_CONFIG).read_bytes()
    end_turns_with(folder, "<|im_end|>")
    assert (folder / TOKENIZER_CONFIG).read_bytes() == before


def test_turn_end_the_tokenizer_lacks_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"lacks <\|eot\|>.*set chat_template: model"):
        end_turns_with(folder, "<|eot|>")


def test_tokenizer_is_copied_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    copy_tokenizer(folder, tmp_path / "out")
    for name in (TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
