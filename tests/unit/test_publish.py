"""From a run's folder to a published adapter, and the files made of that one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from peft import LoraConfig, get_peft_model
from tiny_runs import ROOMS, row, write_tiny_recipe

from star_edge import engine, recipe
from star_edge.cli import main
from star_edge.contracts import Checkpoint
from star_edge.engine import Run
from star_edge.manifest import begin, finish
from star_edge.models.load import load, prepare
from star_edge.publish import _scores


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def run(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose `base` and `sim-rl` are there, the latter an adapter on the student."""
    folder = tmp_path_factory.mktemp("run")
    loaded = recipe.load(write_tiny_recipe(folder / "recipe", tiny_student))
    run = Run(loaded, folder / "runs", "cpu")
    base, stage = run.stage_folder("base"), run.stage_folder("sim-rl")
    for place in (base, stage):
        begin(place, "key")
    student = prepare(loaded.recipe.student, base / "student")
    finish(base, "base", "key", details={"student": run.save_checkpoint(student)}, seconds=1)
    model = get_peft_model(load(student, device="cpu").model, LoraConfig(r=2, target_modules=["q_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.2)
    model.save_pretrained(stage / "adapter")
    saved = run.save_checkpoint(Checkpoint(stage / "adapter", "sim-rl", student.folder))
    finish(stage, "sim-rl", "key", details={"checkpoint": saved}, seconds=1)
    (run.folder / engine.RESOLVED).write_text(recipe.to_yaml(loaded.recipe))
    return run


def write_scores(run: Run, suite: str, right: int) -> None:
    """As the `evaluate` stage leaves them."""
    stage = run.stage_folder("evaluate")
    folder = stage / "merge" / suite
    folder.mkdir(parents=True, exist_ok=True)
    score = {"label": "exact_call", "value": right / 100, "n": 100, "low": 0.0, "high": 1.0, "is_aggregate": False}
    found: dict[str, Any] = {"version": "v1", "cases": 100, "right": right, "scores": [score]}
    (folder / "scores.json").write_text(json.dumps(found))
    finish(stage, "evaluate", "key", details={}, seconds=1)


@pytest.mark.slow
def test_an_adapter_is_published_with_its_scores_then_evaluated_and_exported(
    run: Run, tiny_student: Path, tiny_qwen2: Path, tmp_path: Path
) -> None:
    out = tmp_path / "adapter"
    write_scores(run, "heldout", 40)
    done = invoke("publish", run.folder, "--out", out)
    assert done.exit_code == 0, done.output
    assert "next: star-edge evaluate" in done.stderr
    record = json.loads((out / "published.json").read_text())
    assert (record["recipe"], record["stage"], record["seed"]) == ("tiny", "sim-rl", 3)
    assert record["scores"]["heldout"] == {"version": "v1", "cases": 100, "right": 40, "scores": {"exact_call": 0.4}}

    again = invoke("publish", run.folder, "--out", out)
    assert again.exit_code == 1
    assert "2 points better" in again.stderr

    shutil.rmtree(run.stage_folder("evaluate"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row(n, ROOMS[n], wants_call=True)) + "\n" for n in range(2)))
    settings = ("--suite", rows, "--device", "cpu", "--max-new-tokens", 4)
    answered = [
        invoke("evaluate", place, *settings, "--base", tiny_student, "--out", tmp_path / name)
        for name, place in {"published": out, "trained": run.stage_folder("sim-rl") / "adapter"}.items()
    ]
    assert [result.exit_code for result in answered] == [0, 0], answered[0].output
    exported = invoke("export", out, "--base", tiny_student, "--gguf", "F16", "--out", tmp_path / "bundles")
    assert exported.exit_code == 0, exported.output
    assert (tmp_path / "bundles" / "gguf-F16" / "manifest.json").is_file()
    assert not (tmp_path / "bundles" / "scratch").exists()

    for command in (("evaluate", out, *settings), ("export", out, "--gguf", "F16")):
        refused = invoke(*command, "--base", tiny_qwen2, "--out", tmp_path / "other")
        assert refused.exit_code == 1
        assert "another model than tiny-student" in refused.stderr
        assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["evaluate", "export"])
def test_a_whole_model_has_no_base(verb: str, tiny_student: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(row(0, "hall", wants_call=True)) + "\n")
    more = ("--suite", rows) if verb == "evaluate" else ()
    result = invoke(verb, tiny_student, "--base", tiny_student, "--out", tmp_path / "out", *more)
    assert result.exit_code == 1
    assert "leave --base out" in result.stderr


def test_what_is_no_run_or_no_finished_stage_is_refused(run: Run, tmp_path: Path) -> None:
    for folder, stage, message in ((tmp_path, "sim-rl", "not a run of star-edge"), (run.folder, "ckd", "no such file")):
        result = invoke("publish", folder, "--stage", stage, "--out", tmp_path / "out")
        assert result.exit_code == 1
        assert message in result.stderr
        assert not (tmp_path / "out").exists()


def test_scores_of_an_evaluation_that_is_not_finished_are_not_published(run: Run, tmp_path: Path) -> None:
    copy = replace(run, folder=shutil.copytree(run.folder, tmp_path / "run", symlinks=True))
    write_scores(copy, "heldout", 40)
    assert _scores(copy.folder, "sim-rl")["heldout"]["right"] == 40
    (copy.folder / "evaluate" / "manifest.json").unlink()
    assert _scores(copy.folder, "sim-rl") == {}


def test_an_adapter_on_a_trained_model_is_refused(run: Run, tmp_path: Path) -> None:
    copy = shutil.copytree(run.folder, tmp_path / "run", symlinks=True)
    path = copy / "sim-rl" / "manifest.json"
    path.write_text(path.read_text().replace("base/student", "ckd/model"))
    result = invoke("publish", copy, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "which was trained and is not published" in result.stderr
