"""SIGKILL in each stage in turn, then the same command; and a whole run of the tiny model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_runs import write_tiny_recipe

from star_edge.cli import main
from star_edge.pipeline import STAGE_NAMES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TRAINED = STAGE_NAMES[: STAGE_NAMES.index("evaluate")]
COMMAND = [sys.executable, "-c", "from star_edge.cli import main; main()"]

# The first of these files to appear means that the stage is in the middle of its work.
KILL_WHEN = {
    "base": "base/in_progress.json",
    "data": "data/in_progress.json",
    "warmup": "warmup/trainer/checkpoint-15/*",
    "adapt": "adapt/trainer/checkpoint-1/*",
    "cache": "cache/shard-00000.safetensors",
    "ckd": "ckd/trainer/checkpoint-1/*",
    "sim-rl": "sim-rl/trainer/checkpoint-1/*",
    "merge": "merge/in_progress.json",
    "evaluate": "evaluate/base/heldout/outputs.key.json",
    "export": "export/gguf-F16/manifest.json",
    "validate": "answers/*/torch-base-64.json",
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> Path:
    return write_tiny_recipe(tmp_path_factory.mktemp("recipe"), tiny_student)


def start(recipe: Path, run: Path) -> subprocess.Popen[str]:
    command = [*COMMAND, "distill", str(recipe), "--out", str(run)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ))


def kill_in(recipe: Path, run: Path, pattern: str) -> str:
    """Start the run and SIGKILL it as soon as a file of that name is there; returns what it had printed."""
    process = start(recipe, run)
    while process.poll() is None and not any(run.glob(pattern)):
        time.sleep(0.002)
    assert process.poll() is None, process.communicate()[0]
    process.send_signal(signal.SIGKILL)
    return process.communicate()[0]


def manifests(run: Path) -> dict[str, str]:
    return {
        name: (run / name / "manifest.json").read_text()
        for name in STAGE_NAMES
        if (run / name / "manifest.json").exists()
    }


def test_killed_in_every_stage_the_same_command_goes_on_and_finished_stages_keep_their_hashes(
    recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    finished: dict[str, str] = {}
    for stage, pattern in KILL_WHEN.items():
        printed = kill_in(recipe, run, pattern)
        assert stage not in manifests(run), f"{stage} ended before the kill; its pattern must match earlier"
        for name, manifest in finished.items():
            assert manifests(run)[name] == manifest, f"{name} was done again after the kill in {stage}"
            assert f"{name}: already done" in printed
        finished = manifests(run)
    process = start(recipe, run)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode in (0, 3), printed
    assert {name: manifests(run)[name] for name in finished} == finished
    assert list(manifests(run)) == list(STAGE_NAMES)
    report = json.loads((run / "report.json").read_text())
    assert [entry["label"] for entry in report["rows"]] == [
        "base", "adapted teacher", "CKD", "CKD + Sim-RL", "gguf F16", "gguf Q8_0", "onnx fp32",
    ]  # fmt: skip
    leftovers = [path for path in run.rglob("*partial*") if "trainer" not in path.parts]
    assert not leftovers


def test_a_whole_run_reports_gates_and_is_not_repeated(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    invoke = CliRunner().invoke
    first = invoke(main, ["distill", str(recipe), "--out", str(run), "--set", "validate.gates.size_mib=0.001"])
    assert first.exit_code == 3, first.output
    assert "gates failed" in first.stderr
    assert "gguf F16: file size (MiB)" in first.stderr
    for name in ("report.md", "report.json", "recipe.resolved.yaml"):
        assert (run / name).is_file()
    assert "heldout, percent" in first.stdout
    before = manifests(run)
    report = json.loads((run / "report.json").read_text())
    parity = {row["label"]: row for row in report["parity"]}
    assert [(row["label"], row["cases"]) for row in report["evaluations"]] == [("base", 6), ("CKD + Sim-RL", 6)]
    assert parity["onnx fp32"]["agreement"] == 1.0
    # The tiny model decides by hair's breadths; F16 may turn those, and only those.
    assert all(difference["torch_margin"] < 0.2 for difference in parity["gguf F16"]["differences"])
    assert parity["gguf F16"]["forced_agreement"] > 0.9

    again = invoke(main, ["report", str(run), "--set", "validate.gates.size_mib=1000.0"])
    assert again.exit_code == 0, again.output
    assert "CKD + Sim-RL" in again.stdout
    assert manifests(run) == before
    listed = invoke(main, ["parity", str(run)])
    assert listed.exit_code == 0
    assert "teacher-forced" in listed.stdout

    bundle, rows = run / "export" / "gguf-Q8_0", run / "data" / "heldout.jsonl"
    validated = invoke(
        main, ["validate", str(bundle), "--cases", str(rows), "--out", str(tmp_path / "answers"), "--json"]
    )
    assert validated.exit_code == 0, validated.output
    assert json.loads(validated.stdout)["accuracy"]["malformed"]["n"] == 6

    exported = invoke(
        main, ["export", str(run / "ckd" / "adapter"), "--gguf", "Q8_0", "--out", str(tmp_path / "bundles")]
    )
    assert exported.exit_code == 0, exported.output
    assert (tmp_path / "bundles" / "gguf-Q8_0" / "manifest.json").is_file()

    other = invoke(main, ["distill", str(recipe), "--out", str(run), "--set", "seed=4"])
    assert other.exit_code == 1
    assert "another recipe" in other.stderr
    assert manifests(run) == before

    more = invoke(main, ["distill", str(recipe), "--out", str(run), "--set", "validate.cases=6"])
    assert more.exit_code in (0, 3), more.output
    assert {name: manifests(run)[name] for name in TRAINED} == {name: before[name] for name in TRAINED}
    assert json.loads((run / "report.json").read_text())["rows"][0]["accuracy"]["malformed"]["n"] == 6
    (answers,) = (run / "answers").iterdir()
    assert len((answers / "gguf-F16" / "generations.jsonl").read_text().splitlines()) == 6, "a case was asked twice"


def test_two_processes_of_a_launch_make_one_run(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "star_edge"]
    command = [*launch, "distill", str(recipe), "--out", str(run), "--set", "device=cpu", "--until", "merge"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert list(manifests(run)) == list(TRAINED)
    assert done.stderr.count("[6/11] ckd: done") == 1
    steps = json.loads((run / "warmup" / "manifest.json").read_text())
    assert steps["details"]["checkpoint"]["folder"] == "warmup/model"
