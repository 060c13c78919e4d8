"""Rows that are too long for a model are refused before anything is made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from click.testing import CliRunner
from tiny_runs import write_tiny_recipe

from star_edge import recipe
from star_edge.cli import main
from star_edge.contracts import ModelConfig
from star_edge.errors import ModelError, RecipeError
from star_edge.positions import check_positions, positions
from star_edge_export.gguf import export_gguf


@pytest.fixture
def path(tmp_path: Path, tiny_student: Path) -> Path:
    """Its model has 512 positions, of which the prompt may take 384."""
    return write_tiny_recipe(tmp_path / "recipe", tiny_student)


def without_a_limit(folder: Path, out: Path) -> Path:
    shutil.copytree(folder, out)
    config = json.loads((out / "config.json").read_text())
    del config["max_position_embeddings"]
    (out / "config.json").write_text(json.dumps(config))
    return out


def test_positions_are_read_without_the_weights(tiny_student: Path, tmp_path: Path) -> None:
    export_gguf(tiny_student, tmp_path / "tiny.gguf")
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copyfile(tiny_student / "config.json", bare / "config.json")
    assert [positions(ModelConfig(str(source))) for source in (bare, tmp_path / "tiny.gguf")] == [512, 512]
    assert positions(ModelConfig(str(without_a_limit(tiny_student, tmp_path / "endless")))) is None
    (bare / "config.json").unlink()
    with pytest.raises(ModelError, match=r"bare: no config\.json"):
        positions(ModelConfig(str(bare)))


def test_only_the_config_is_fetched_from_a_hub(monkeypatch: pytest.MonkeyPatch, tiny_student: Path) -> None:
    asked: list[str] = []

    def fetch(_: str, *, allow_patterns: list[str], **__: object) -> str:
        asked.extend(allow_patterns)
        return str(tiny_student)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert positions(ModelConfig("someone/some-model", revision="v1")) == 512
    assert asked == ["config.json"]


def test_what_just_fits_is_taken(path: Path) -> None:
    check_positions(recipe.load(path, ["cache.max_new_tokens=128", "sim_rl.sim_rl.max_new_tokens=128"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data.max_prompt_tokens=385", r"data.max_prompt_tokens \(385\) and data.max_completion_tokens \(128\)"),
        ("data.max_completion_tokens=129", r"\(384\) and data.max_completion_tokens \(129\) .* 512 tokens"),
        ("cache.max_new_tokens=200", r"\(384\) and cache.max_new_tokens \(200\) .* the teacher \("),
        ("adapt.sim_rl.max_new_tokens=200", r"adapt.sim_rl.max_new_tokens \(200\) .* the teacher \("),
        ("sim_rl.sim_rl.max_new_tokens=200", r"sim_rl.sim_rl.max_new_tokens \(200\) .* the student \("),
    ],
)
def test_what_does_not_fit_is_named(path: Path, change: str, said: str) -> None:
    with pytest.raises(RecipeError, match=rf"recipe {path}: .*{said}.*; lower one, or choose another model"):
        check_positions(recipe.load(path, [change]))


def test_the_student_alone_may_be_too_short(path: Path, tiny_student: Path, tmp_path: Path) -> None:
    teacher = without_a_limit(tiny_student, tmp_path / "endless")
    with pytest.raises(RecipeError, match=r"cache.max_new_tokens .* the student"):
        check_positions(recipe.load(path, [f"teacher.source={teacher}", "cache.max_new_tokens=200"]))


def test_sim_rl_that_is_left_out_needs_no_room(path: Path) -> None:
    check_positions(recipe.load(path, ["sim_rl.sim_rl.steps=0", "sim_rl.sim_rl.max_new_tokens=200"]))


@pytest.mark.parametrize("command", [["distill"], ["distill", "--dry-run"], ["recipes", "check"]], ids=" ".join)
def test_every_command_refuses_before_anything_is_made(path: Path, tmp_path: Path, command: list[str]) -> None:
    more = ["--out", str(tmp_path / "run")] if command[0] == "distill" else []
    result = CliRunner().invoke(main, [*command, str(path), *more, "--set", "data.max_prompt_tokens=1024"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: recipe ")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_finished_stage_does_not_hide_settings_that_were_changed_since(path: Path, tmp_path: Path) -> None:
    arguments = ["distill", str(path), "--out", str(tmp_path / "run"), "--until", "data"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    result = CliRunner().invoke(main, [*arguments, "--set", "cache.max_new_tokens=200"])
    assert (result.exit_code, "cache.max_new_tokens" in result.stderr) == (1, True)
