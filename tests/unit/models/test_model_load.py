from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from star_edge.calls.template import HERMES
from star_edge.contracts import Checkpoint, ModelConfig, TuningConfig
from star_edge.errors import ModelError
from star_edge.models.folder import CHAT_TEMPLATE, CONFIG, TOKENIZER, TOKENIZER_CONFIG, read_template
from star_edge.models.load import LoadedModel, load, load_tokenizer, prepare
from star_edge.models.tuning import attach

TOOLLESS = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
TEXTS = ("Turn on 12 lights.", "<|im_start|>user\n<tool_call>{}</tool_call><|im_end|>", "日本 🚀  \n\n\t x")


def copy(source: Path, out: Path) -> Path:
    shutil.copytree(source, out)
    return out


# -------------------------------------------------------------------------------------------------------- prepare


def test_prepared_folder_is_the_same_model_with_linked_weights(tiny_folder: Path, tmp_path: Path) -> None:
    checkpoint = prepare(ModelConfig(str(tiny_folder)), tmp_path / "base")
    assert (checkpoint.stage, checkpoint.is_adapter) == ("base", False)
    assert (checkpoint.folder / "model.safetensors").is_symlink()
    for name in (CONFIG, TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE):
        assert (checkpoint.folder / name).read_bytes() == (tiny_folder / name).read_bytes()


def test_weights_outside_the_run_are_linked_by_their_full_path(tiny_student: Path, tmp_path: Path) -> None:
    user = copy(tiny_student, tmp_path / "user" / "model")
    checkpoint = prepare(ModelConfig(str(user)), tmp_path / "runs" / "first" / "base" / "teacher")
    assert (checkpoint.folder / "model.safetensors").readlink() == (user / "model.safetensors").resolve()


def test_prepare_twice_is_prepare_once(tiny_student: Path, tmp_path: Path) -> None:
    for _ in range(2):
        checkpoint = prepare(ModelConfig(str(tiny_student)), tmp_path / "base")
    load(checkpoint, device="cpu")


@pytest.mark.parametrize(
    ("choice", "own", "expected"),
    [
        ("auto", HERMES + "{# of the model #}", HERMES + "{# of the model #}"),
        ("auto", TOOLLESS, HERMES),
        ("auto", None, HERMES),
        ("model", TOOLLESS, TOOLLESS),
        ("hermes", HERMES + "{# of the model #}", HERMES),
    ],
)
def test_template_is_the_models_own_unless_it_drops_the_tools(
    tiny_student: Path, tmp_path: Path, choice: str, own: str | None, expected: str
) -> None:
    source = copy(tiny_student, tmp_path / "source")
    (source / CHAT_TEMPLATE).unlink()
    if own is not None:
        (source / CHAT_TEMPLATE).write_text(own)
    checkpoint = prepare(ModelConfig(str(source), chat_template=choice), tmp_path / "out")  # type: ignore[arg-type]
    assert read_template(checkpoint.folder) == expected
    assert (checkpoint.folder / CHAT_TEMPLATE).read_text() == expected


def test_our_template_brings_its_turn_end(tiny_student: Path, tmp_path: Path) -> None:
    source = copy(tiny_student, tmp_path / "source")
    settings = json.loads((source / TOKENIZER_CONFIG).read_text())
    (source / TOKENIZER_CONFIG).write_text(json.dumps({**settings, "eos_token": "<|endoftext|>"}))
    loaded = load(prepare(ModelConfig(str(source)), tmp_path / "out"), device="cpu")
    assert loaded.stop_token_ids[0] == loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert json.loads((source / TOKENIZER_CONFIG).read_text())["eos_token"] == "<|endoftext|>"


def test_pruned_student_loads_and_leaves_its_source_whole(tiny_folder: Path, tmp_path: Path) -> None:
    checkpoint = prepare(ModelConfig(str(tiny_folder), keep_layers=1), tmp_path / "out")
    pruned = load(checkpoint, device="cpu").model
    whole = load(Checkpoint(tiny_folder, "base"), device="cpu").model
    assert (len(pruned.model.layers), len(whole.model.layers)) == (1, 2)
    torch.testing.assert_close(pruned.model.layers[0].mlp.up_proj.weight, whole.model.layers[0].mlp.up_proj.weight)


# ----------------------------------------------------------------------------------------------------------- load


def test_model_is_frozen_and_in_evaluation_mode_by_default(tiny_student: Path) -> None:
    loaded = load(Checkpoint(tiny_student, "base"), device="cpu")
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert loaded.template == HERMES


def test_trainable_model_has_gradients(tiny_student: Path) -> None:
    loaded = load(Checkpoint(tiny_student, "base"), device="cpu", trainable=True, dtype="bfloat16")
    assert loaded.model.training
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.model.dtype == torch.bfloat16


@pytest.mark.parametrize("trainable", [False, True])
def test_adapter_sits_on_its_base(tiny_student: Path, tmp_path: Path, trainable: bool) -> None:
    model = attach(load(Checkpoint(tiny_student, "base"), device="cpu").model, TuningConfig(rank=2), None)
    model.save_pretrained(tmp_path)
    loaded = load(Checkpoint(tmp_path, "ckd", base=tiny_student), device="cpu", trainable=trainable)
    learning = [name for name, parameter in loaded.model.named_parameters() if parameter.requires_grad]
    assert bool(learning) is trainable
    assert all(".lora_" in name for name in learning)
    assert loaded.tokenizer.eos_token == "<|im_end|>"


def without(name: str, folder: Path) -> None:
    (folder / name).unlink()


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])


def drop_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: without(CONFIG, f), "no config.json"),
        (lambda f: without(TOKENIZER, f), "no tokenizer.json"),
        (lambda f: without("model.safetensors", f), "no .safetensors file"),
        (pickled, "pickled weights are not read"),
        (cut, "cannot be loaded"),
        (drop_weight, "1 weights are missing, first model.layers.1.mlp.up_proj.weight"),
        (lambda f: (f / TOKENIZER).write_text("{}"), "not a tokenizer"),
        (lambda f: (f / CONFIG).write_text('{"model_type": "no-such"}'), "cannot be loaded"),
    ],
    ids=["config", "tokenizer", "weights", "pickle", "cut", "weight", "empty tokenizer", "architecture"],
)
def test_damaged_folder_is_one_line(tiny_student: Path, tmp_path: Path, damage: object, message: str) -> None:
    folder = copy(tiny_student, tmp_path / "model")
    damage(folder)  # type: ignore[operator]
    with pytest.raises(ModelError, match=message) as caught:
        load(Checkpoint(folder, "base"), device="cpu")
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------ tokenizer


@pytest.mark.parametrize("text", TEXTS)
def test_tokenizer_gives_the_ids_transformers_gives(tiny_folder: Path, text: str) -> None:
    expected = AutoTokenizer.from_pretrained(tiny_folder)(text)["input_ids"]
    assert load_tokenizer(tiny_folder)(text, add_special_tokens=False)["input_ids"] == expected


def test_tokenizer_is_json_whatever_class_the_folder_names(tiny_qwen2: Path, tmp_path: Path) -> None:
    folder = copy(tiny_qwen2, tmp_path / "model")
    settings = json.loads((folder / TOKENIZER_CONFIG).read_text())
    (folder / TOKENIZER_CONFIG).write_text(json.dumps({**settings, "tokenizer_class": "LlamaTokenizer"}))
    for text in TEXTS:
        assert load_tokenizer(folder)(text)["input_ids"] == load_tokenizer(tiny_qwen2)(text)["input_ids"]


def test_padding_goes_to_the_left_and_falls_back_to_the_end_token(tiny_student: Path, tmp_path: Path) -> None:
    folder = copy(tiny_student, tmp_path / "model")
    settings = json.loads((folder / TOKENIZER_CONFIG).read_text())
    settings.pop("pad_token")
    (folder / TOKENIZER_CONFIG).write_text(json.dumps(settings))
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.padding_side, tokenizer.pad_token) == ("left", "<|im_end|>")


def test_loaded_model_knows_its_device(loaded_student: LoadedModel) -> None:
    assert loaded_student.device == torch.device("cpu")
