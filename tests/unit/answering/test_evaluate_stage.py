"""The stage that scores a run's checkpoints: what it leaves, what it asks again, and what the report says of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import fake_vllm
import pytest
import tiny_bfcl
from tiny_bundles import requests
from tiny_runs import write_tiny_recipe

from star_edge import manifest, pipeline, recipe
from star_edge.answering.stage import evaluate_checkpoints, suite_versions
from star_edge.contracts import Checkpoint, EvaluateConfig
from star_edge.data.rows import write_examples
from star_edge.engine import Run
from star_edge.errors import DataError
from star_edge.progress import Progress
from star_edge.summary import _evaluations

CONFIG = EvaluateConfig(("heldout", "mine.jsonl"), max_new_tokens=4, rows_per_forward=4)


@pytest.fixture
def heldout(tmp_path: Path) -> Path:
    """Held-out rows of a run, and a file of rows beside the recipe, which is in `tmp_path`."""
    for path in (tmp_path / "run.jsonl", tmp_path / "mine.jsonl"):
        write_examples(path, requests(2))
    return tmp_path / "run.jsonl"


def test_every_checkpoint_answers_every_suite_and_nothing_twice(
    tiny_student: Path, heldout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = {"base": Checkpoint(tiny_student, "base"), "merge": Checkpoint(tiny_student, "merge")}
    out = tmp_path / "out"
    for _ in range(2):
        evaluate_checkpoints(
            CONFIG, checkpoints, heldout, out, recipe_folder=tmp_path, device="cpu", progress=Progress()
        )
    told = capsys.readouterr().err
    assert told.count("loading tiny-student") == 2  # once a checkpoint, and never in the second round
    assert told.count("2 of 2 cases are answered already") == 4
    assert "  merge, mine: exact_call 0.0%" in told
    for place in ("base/heldout", "base/mine", "merge/heldout", "merge/mine"):
        saved = json.loads((out / place / "scores.json").read_text())
        assert (saved["cases"], saved["key"]["chat_template"]) == (2, "model")
        assert saved["machine"]
        assert saved["versions"]["star-edge"]


def test_one_engine_serves_all_suites_of_a_checkpoint(
    tiny_student: Path, heldout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = fake_vllm.install(monkeypatch, lambda *_: [5])
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "Some GPU")
    config = dataclasses.replace(CONFIG, limit=1)
    checkpoints = {"merge": Checkpoint(tiny_student, "merge")}
    evaluate_checkpoints(config, checkpoints, heldout, tmp_path / "out", recipe_folder=tmp_path, device="cuda")
    assert (len(fake.calls), fake.shutdowns) == (2, 1)
    assert json.loads((tmp_path / "out/merge/mine/scores.json").read_text())["machine"] == "Some GPU"


def test_suites_are_known_by_their_data(heldout: Path, tmp_path: Path) -> None:
    config = EvaluateConfig(("bfcl", *CONFIG.suites))
    before = suite_versions(config, tmp_path)
    assert list(before) == ["bfcl", "heldout", "mine"]
    assert before["bfcl"].startswith("bfcl-eval ")
    write_examples(tmp_path / "mine.jsonl", requests(1))
    after = suite_versions(config, tmp_path)
    assert {label for label in before if before[label] != after[label]} == {"mine"}
    with pytest.raises(DataError, match="bcfl"):
        suite_versions(EvaluateConfig(("bcfl",)), tmp_path)


@pytest.fixture
def run(tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run of the tiny recipe that is done up to `data`, with a merged checkpoint put in."""
    tiny_bfcl.install(monkeypatch, tmp_path)
    path = write_tiny_recipe(tmp_path / "recipe", tiny_student)
    chosen = "{suites: [bfcl, heldout], checkpoints: [base, merge], limit: 1, max_new_tokens: 4}"
    run = Run(recipe.load(path, [f"evaluate={chosen}"]), tmp_path / "run", "cpu")
    pipeline.execute(run, until="data")
    manifest.begin(run.stage_folder("merge"), "key")
    saved = run.save_checkpoint(run.checkpoint("base", "student"))
    manifest.finish(run.stage_folder("merge"), "merge", "key", details={"checkpoint": saved}, seconds=1)
    return run


def stage(name: str) -> pipeline.Stage:
    return next(stage for stage in pipeline.STAGES if stage.name == name)


def test_the_stage_ends_in_the_report(run: Run) -> None:
    out = run.stage_folder("evaluate")
    manifest.begin(out, "key")
    details = stage("evaluate").run(run, out)
    manifest.finish(out, "evaluate", "key", details=details, seconds=1)
    found = list(_evaluations(run.folder))
    assert [(row.suite, row.label) for row in found] == [
        ("bfcl", "base"), ("bfcl", "CKD + Sim-RL"), ("heldout", "base"), ("heldout", "CKD + Sim-RL"),
    ]  # fmt: skip
    assert [row.cases for row in found] == [13, 13, 1, 1]
    assert {score.label for score in found[0].scores} >= {"non_live", "live", "irrelevance", "live_irrelevance"}


def test_without_the_section_the_stage_does_nothing(tiny_student: Path, tmp_path: Path) -> None:
    loaded = recipe.load(write_tiny_recipe(tmp_path / "recipe", tiny_student), ["evaluate=null"])
    run = Run(loaded, tmp_path / "run", "cpu")
    assert stage("evaluate").run(run, tmp_path / "out") == {}
    assert not (tmp_path / "out").exists()
    assert list(_evaluations(run.folder)) == []


def test_batch_size_changes_no_key_and_the_export_does_not_wait_for_scores(run: Run) -> None:
    def keys(*overrides: str) -> dict[str, str]:
        loaded = recipe.load(run.loaded.path, ["evaluate={suites: [heldout]}", *overrides])
        return {item.stage.name: item.key for item in pipeline.plan(loaded, run.folder)}

    before = keys()
    assert keys("evaluate.rows_per_forward=2") == before
    changed = keys("evaluate.limit=2")
    assert {name for name in before if before[name] != changed[name]} == {"evaluate"}
