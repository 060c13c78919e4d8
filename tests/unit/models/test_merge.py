from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from star_edge.contracts import Checkpoint, ModelConfig, TuningConfig
from star_edge.errors import ModelError
from star_edge.models.folder import CHAT_TEMPLATE, GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG
from star_edge.models.load import load, prepare
from star_edge.models.merge import merge
from star_edge.models.tuning import attach

IDS = torch.tensor([[1, 300, 40, 2, 7]])


@pytest.fixture
def adapter(tiny_folder: Path, tmp_path: Path) -> Checkpoint:
    """An adapter whose every weight is away from zero, with a trained token."""
    loaded = load(Checkpoint(tiny_folder, "base"), device="cpu")
    tuning = TuningConfig(rank=2, last_layers=1, train_tokens=("<|im_end|>",))
    model = attach(loaded.model, tuning, loaded.tokenizer)
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path / "adapter")
    return Checkpoint(tmp_path / "adapter", "ckd", base=tiny_folder)


def logits(checkpoint: Checkpoint) -> torch.Tensor:
    with torch.inference_mode():
        return load(checkpoint, device="cpu").model(input_ids=IDS).logits


def test_merged_model_answers_as_base_with_adapter(adapter: Checkpoint, tmp_path: Path) -> None:
    merged = merge(adapter, tmp_path / "merged")
    assert not merged.is_adapter
    torch.testing.assert_close(logits(merged), logits(adapter), atol=1e-4, rtol=1e-4)
    assert adapter.base is not None
    assert (logits(merged) - logits(Checkpoint(adapter.base, "base"))).abs().max() > 0.1


def test_merged_weights_can_be_written_in_half_the_size(adapter: Checkpoint, tmp_path: Path) -> None:
    whole, half = (merge(adapter, tmp_path / dtype, dtype=dtype).folder for dtype in ("float32", "bfloat16"))
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.01)
    assert {weight.dtype for weight in load_file(half / "model.safetensors").values()} == {torch.bfloat16}


def test_tokenizer_files_are_the_bases_bytes(adapter: Checkpoint, tmp_path: Path) -> None:
    merged = merge(adapter, tmp_path / "merged")
    assert adapter.base is not None
    for name in (TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE, GENERATION_CONFIG):
        assert (merged.folder / name).read_bytes() == (adapter.base / name).read_bytes()


def test_full_checkpoint_is_passed_on_without_copying_weights(tiny_student: Path, tmp_path: Path) -> None:
    merged = merge(Checkpoint(tiny_student, "sim-rl"), tmp_path / "merged")
    weights = merged.folder / "model.safetensors"
    assert weights.is_symlink()
    torch.testing.assert_close(logits(merged), logits(Checkpoint(tiny_student, "base")))


@pytest.mark.parametrize("trained", [True, False], ids=["own weights", "the user's weights, linked"])
def test_a_run_that_is_moved_keeps_its_weights(trained: bool, tiny_student: Path, tmp_path: Path) -> None:
    run = tmp_path / "home" / "runs" / "first"
    if trained:
        checkpoint = Checkpoint(Path(shutil.copytree(tiny_student, run / "sim-rl" / "model")), "sim-rl")
    else:
        user = Path(shutil.copytree(tiny_student, tmp_path / "user" / "model"))
        checkpoint = prepare(ModelConfig(str(user)), run / "base" / "student")
    merge(checkpoint, run / "merge" / "model")
    moved = run.rename(tmp_path / "elsewhere") / "merge" / "model"
    assert not Path(os.readlink(moved / "model.safetensors")).is_absolute()
    torch.testing.assert_close(logits(Checkpoint(moved, "merge")), logits(Checkpoint(tiny_student, "base")))


def test_adapter_without_weights_is_refused(tiny_student: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors"):
        merge(Checkpoint(tmp_path / "adapter", "ckd", base=tiny_student), tmp_path / "merged")
