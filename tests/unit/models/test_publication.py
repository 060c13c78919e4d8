"""Publishing an adapter, and finding the base it belongs to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from star_edge.contracts import Checkpoint, ModelConfig
from star_edge.errors import ArtifactError, ModelError
from star_edge.models import publication
from star_edge.models.adapter import RECORD, find_base, open_base, read_base_record
from star_edge.models.load import load, prepare
from star_edge.models.publication import publish_adapter

TAGS = ("<tool_call>", "</tool_call>")
FACTS = {"recipe": "tiny", "stage": "sim-rl", "seed": 3}


def dev(right: int, version: str = "sha256:a") -> dict[str, Any]:
    return {"heldout": {"version": version, "cases": 100, "right": right}}


@pytest.fixture(scope="module")
def student(tiny_qwen2: Path) -> ModelConfig:
    return ModelConfig(str(tiny_qwen2), plain_text_tokens=TAGS)


@pytest.fixture(scope="module")
def checkpoint(student: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A LoRA checkpoint on the student as a run prepares it."""
    folder = tmp_path_factory.mktemp("run")
    base = prepare(student, folder / "student")
    model = get_peft_model(load(base, device="cpu").model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder / "adapter")
    return Checkpoint(folder / "adapter", "sim-rl", base.folder)


def published(checkpoint: Checkpoint, student: ModelConfig, out: Path, scores: Mapping[str, Any] | None = None) -> Path:
    publish_adapter(checkpoint, student, FACTS, scores or {}, out)
    return out


def test_weights_become_bfloat16_and_no_path_of_this_machine_is_left(
    checkpoint: Checkpoint, student: ModelConfig, tmp_path: Path
) -> None:
    out = published(checkpoint, student, tmp_path / "adapter", dev(50))

    assert sorted(path.name for path in out.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "published.json",
    ]  # fmt: skip
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (checkpoint.folder, out))
    assert before.keys() == after.keys()
    assert {weight.dtype for weight in after.values()} == {torch.bfloat16}
    for name, weight in after.items():
        torch.testing.assert_close(weight.float(), before[name], rtol=2**-8, atol=0.0)
    settings = json.loads((out / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["r"]) == ("tiny-qwen2", 2)
    for name in ("adapter_config.json", RECORD):
        text = (out / name).read_text()
        assert str(tmp_path.parent) not in text
        assert '"/' not in text
    assert json.loads((out / RECORD).read_text())["scores"] == dev(50)
    assert read_base_record(out).model == ModelConfig("tiny-qwen2", plain_text_tokens=TAGS)


@pytest.mark.parametrize("given", ["source", "prepared", "copy"])
def test_published_adapter_on_its_base_answers_as_the_checkpoint(
    given: str, checkpoint: Checkpoint, student: ModelConfig, tmp_path: Path
) -> None:
    assert checkpoint.base is not None
    out = published(checkpoint, student, tmp_path / "adapter")
    places = {"source": Path(student.source), "prepared": checkpoint.base, "copy": tmp_path / "renamed"}
    if given == "copy":
        shutil.copytree(student.source, places["copy"])
    base = open_base(find_base(out, str(places[given])), tmp_path / "base")

    ids = torch.arange(20, 40).unsqueeze(0)
    ours, theirs, alone = (
        load(c, device="cpu") for c in (Checkpoint(out, "adapter", base), checkpoint, Checkpoint(base, "base"))
    )
    logits, wanted, without = (loaded.model(input_ids=ids).logits for loaded in (ours, theirs, alone))
    off = (logits - wanted).abs().max()
    assert off < 0.1
    assert off < (without - wanted).abs().max() / 20
    assert ours.tokenizer.encode("<tool_call>") == theirs.tokenizer.encode("<tool_call>")
    assert len(ours.tokenizer.encode("<tool_call>")) > 1


def test_base_of_a_recipe_that_names_a_relative_path_is_found_by_itself(
    checkpoint: Checkpoint, tiny_qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_qwen2.parent)
    out = published(checkpoint, ModelConfig("./tiny-qwen2", plain_text_tokens=TAGS), tmp_path / "adapter")
    assert find_base(out).path.resolve() == tiny_qwen2
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ModelError, match=r"adapter: its base model is not here .*say where it is with --base"
    ) as raised:
        find_base(out)
    assert "\n" not in str(raised.value)


def test_another_base_is_refused_in_one_line(
    checkpoint: Checkpoint, student: ModelConfig, tiny_student: Path, tmp_path: Path
) -> None:
    out = published(checkpoint, student, tmp_path / "adapter")
    with pytest.raises(
        ModelError, match=r"tiny-student: another model than tiny-qwen2, which .*give that one"
    ) as raised:
        find_base(out, str(tiny_student))
    assert "\n" not in str(raised.value)


def test_damaged_record_is_refused(checkpoint: Checkpoint, student: ModelConfig, tmp_path: Path) -> None:
    out = published(checkpoint, student, tmp_path / "adapter")
    (out / RECORD).write_text("{}")
    with pytest.raises(ArtifactError, match="does not say what the base is"):
        find_base(out)


def test_a_large_adapter_is_refused_and_leaves_nothing(
    checkpoint: Checkpoint, student: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publication, "LARGEST_BYTES", 10_000)
    with pytest.raises(ModelError, match=r"more than the 0\.01 MB .* lower tuning\.rank than 2"):
        published(checkpoint, student, tmp_path / "adapter")
    assert list(tmp_path.iterdir()) == []


def test_a_whole_model_is_not_published(student: ModelConfig, tiny_qwen2: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="only adapters are published"):
        published(Checkpoint(tiny_qwen2, "ckd"), student, tmp_path / "adapter")


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (dev(50), dev(52), None),
        (dev(50), dev(51), r"50\.0% right on the dev split, this one has 51\.0%"),
        (dev(50), {}, "this one has no score on its dev split"),
        ({}, dev(90), "the published one has no score on its dev split"),
        (dev(50), dev(90, "sha256:b"), "scored on another dev split"),
    ],
)
def test_only_a_better_adapter_takes_the_place_of_one(
    before: dict[str, Any], after: dict[str, Any], problem: str | None,
    checkpoint: Checkpoint, student: ModelConfig, tmp_path: Path,
) -> None:  # fmt: skip
    out = published(checkpoint, student, tmp_path / "adapter", before)
    if problem is not None:
        with pytest.raises(ArtifactError, match=problem):
            published(checkpoint, student, out, after)
        assert json.loads((out / RECORD).read_text())["scores"] == before
    publish_adapter(checkpoint, student, FACTS, after, out, force=problem is not None)
    assert json.loads((out / RECORD).read_text())["scores"] == after


def test_a_folder_of_something_else_is_left_alone(checkpoint: Checkpoint, student: ModelConfig, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="is no published adapter"):
        publish_adapter(checkpoint, student, FACTS, {}, tmp_path, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
