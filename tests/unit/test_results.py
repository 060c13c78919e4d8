"""Evaluations and runs -> a results file, its page, its plots."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_bfcl
from click.testing import CliRunner, Result
from tiny_runs import write_tiny_recipe

from star_edge import engine, manifest, recipe
from star_edge.cli import main
from star_edge.errors import ArtifactError
from star_edge.evaluate.bfcl.cases import CATEGORIES
from star_edge.evaluate.suites import open_suite
from star_edge.manifest import plain
from star_edge.results import read_curves

SECONDS = {"base": 6, "data": 12, "warmup": 60, "adapt": 120, "cache": 60, "ckd": 180, "sim-rl": 60, "merge": 6}
STEPS = {"warmup": 30, "adapt": 2, "ckd": 40, "sim-rl": 3}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["results", *map(str, arguments)])


def write_evaluation(folder: Path, *, wrong: int, suite: str = "bfcl", **changed: Any) -> Path:
    """`scores.json` of the small BFCL with the first answers of every category wrong."""
    texts = tiny_bfcl.right_texts()
    texts |= {id: "<tool_call>" for id in texts if int(id.rpartition("_")[2]) < wrong}
    found = {**open_suite("bfcl").judge(texts).numbers(), "suite": suite, "machine": "Some GPU"}
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text(json.dumps(plain({**found, "versions": {"torch": "2.0"}, **changed})))
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run with the small BFCL's scores of two checkpoints."""
    tiny_bfcl.install(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    run = Path("runs/tiny")
    for name, seconds in SECONDS.items():
        stage = run / name
        manifest.begin(stage, "key")
        if name in STEPS:
            lines = [{"step": step, "loss": 1.0, "reward": 0.5, "kl": None} for step in range(1, STEPS[name] + 1)]
            (stage / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            watched = [{"step": 0, "score": 0.4}, {"step": STEPS[name], "score": 0.6}]
            (stage / "watch.jsonl").write_text("".join(json.dumps(line) + "\n" for line in watched))
        manifest.finish(stage, name, "key", details={}, seconds=seconds)
    loaded = recipe.load(write_tiny_recipe(tmp_path / "recipe", tmp_path))
    (run / engine.RESOLVED).write_text(recipe.to_yaml(loaded.recipe))
    manifest.begin(run / "evaluate", "key")
    write_evaluation(run / "evaluate" / "base" / "bfcl", wrong=2)
    write_evaluation(run / "evaluate" / "merge" / "bfcl", wrong=1)
    manifest.finish(run / "evaluate", "evaluate", "key", details={}, seconds=1)
    return run


def rows(run: Path) -> list[str]:
    return [f"{name}={run}/evaluate/{stage}/bfcl" for name, stage in (("base", "base"), ("CKD + Sim-RL", "merge"))]


@pytest.mark.parametrize(("scores", "kept"), [((0.7, 0.6, 0.5), 0), ((0.5, 0.6, 0.6), 3), ((0.5, 0.6, 0.4), 2)])
def test_steps_are_those_behind_the_weights_that_were_kept(run: Path, scores: tuple[float, ...], kept: int) -> None:
    lines = [{"step": step, "score": score} for step, score in zip((0, 2, 3), scores, strict=True)]
    (run / "sim-rl" / "watch.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert invoke(*rows(run), "--no-plots", "--out", "docs/tiny.json").exit_code == 0
    found = json.loads(Path("docs/tiny.json").read_text())["rows"]
    assert [row["steps"] for row in found] == [0, STEPS["ckd"] + kept]
    assert [row["without_effect"] for row in found] == [[], [] if kept else ["sim-rl"]]
    told = (
        "No step of sim-rl was kept in CKD + Sim-RL: the dev score was best before it"
        in Path("docs/tiny.md").read_text()
    )
    assert told == (not kept)


def test_a_results_file_says_all_that_is_needed_to_believe_it(run: Path) -> None:
    write_evaluation(Path("elsewhere"), wrong=0, versions={"torch": "2.1"})
    named = [*rows(run), f"adapted teacher=elsewhere@{run}/adapt", "unknown=elsewhere"]
    done = invoke(*named, "--no-plots", "--out", "docs/tiny.json")
    assert done.exit_code == 0, done.output
    found = json.loads(Path("docs/tiny.json").read_text())
    assert found["command"].startswith("star-edge results base=runs/tiny/evaluate/base/bfcl 'CKD + Sim-RL=")
    assert (found["gpu"], found["versions"], found["cases"]) == ("Some GPU", {"torch": "2.0, 2.1"}, 130)
    assert found["unit"].startswith("percent")

    table = [(row["name"], row["seed"], row["minutes"], row["steps"]) for row in found["rows"]]
    assert table == [
        ("base", 3, 0.1, 0),
        ("CKD + Sim-RL", 3, 8.4, 43),
        ("adapted teacher", 3, 3.3, 32),
        ("unknown", None, None, None),
    ]
    merged = found["rows"][1]["bfcl"]
    assert list(merged)[:4] == ["non_live", "live", "irrelevance", "live_irrelevance"]
    assert set(merged) == {*CATEGORIES, "simple", "non_live", "live"}
    sizes = tiny_bfcl.sizes()
    assert merged["multiple"] == round(100 * (1 - 1 / sizes["multiple"]), 2)
    low, high = found["rows"][1]["intervals"]["multiple"]
    assert low < merged["multiple"] < high

    page = Path("docs/tiny.md").read_text()
    (unknown,) = re.findall(r"\| unknown \| 100\.0 \((.*?)–100\.0\) \|", page)
    assert 50 < float(unknown) < 100  # a few cases that are all right are no certainty
    assert "- GPU: Some GPU" in page
    assert re.search(r"^- recipe tiny [0-9a-f]{12}: base, CKD \+ Sim-RL, adapted teacher$", page, flags=re.MULTILINE)
    assert "star-edge results base=" in page
    assert sorted(path.name for path in Path("docs").iterdir()) == ["tiny.json", "tiny.md"]
    assert "CKD + Sim-RL" in done.stdout


def test_plots_are_drawn_beside_the_file_and_named_in_the_page(run: Path) -> None:
    pytest.importorskip("matplotlib")
    curves = ("--curves", f"star={run}/sim-rl", "--curves", f"fine-tuning={run}/warmup")
    assert invoke(*rows(run), *curves, "--out", "tiny.json").exit_code == 0
    page = Path("tiny.md").read_text()
    for name in ("tiny-stages.png", "tiny-curves.png"):
        assert Path(name).read_bytes().startswith(b"\x89PNG")
        assert f"]({name})" in page
    refused = invoke(*rows(run), "--out", "tiny.json")
    assert refused.exit_code == 1
    assert "is there already" in refused.stderr
    assert invoke(*rows(run), "--force", "--json", "--out", "tiny.json").exit_code == 0


@pytest.mark.parametrize("there", ["tiny.md", "tiny-stages.png", "tiny-curves.png"])
def test_a_page_or_picture_that_is_there_is_not_written_over(there: str, run: Path) -> None:
    pytest.importorskip("matplotlib")
    Path(there).write_text("mine")
    asked = (*rows(run), "--curves", f"star={run}/sim-rl", "--out", "tiny.json")
    refused = invoke(*asked)
    assert (refused.exit_code, Path(there).read_text()) == (1, "mine")
    assert refused.stderr == f"Error: {there}: is there already; choose another --out, or --force\n"
    assert {path.name for path in Path().glob("tiny*")} == {there, "tiny_bfcl.whl"}
    assert invoke(*asked, "--force").exit_code == 0
    assert Path(there).read_bytes() != b"mine"


def test_curves_without_plots_are_refused(run: Path) -> None:
    refused = invoke(*rows(run), "--no-plots", "--curves", f"star={run}/sim-rl", "--out", "tiny.json")
    assert refused.exit_code == 2
    assert "--curves asks for a plot, and --no-plots for none; leave out one of them" in refused.stderr
    assert not Path("tiny.json").exists()


def test_a_name_that_the_page_would_take_is_refused(run: Path) -> None:
    refused = invoke(*rows(run), "--no-plots", "--out", "tiny.md")
    assert refused.exit_code == 1
    assert "tiny.md: the page and the plots take this name with other endings; end --out with .json" in refused.stderr
    assert not Path("tiny.md").exists()


def test_without_matplotlib_nothing_is_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = invoke(*rows(run), "--out", "tiny.json")
    assert done.exit_code == 1
    assert "pip install 'star-edge[plots]'" in done.stderr
    assert list(Path().glob("tiny*")) == [Path("tiny_bfcl.whl")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing: expected NAME=FOLDER"),
        (["a=nowhere"], "scores.json: no such file"),
        (["a={base}", "a={base}"], "row 'a' stands twice"),
        (["a={base}", "b=part"], "row 'b': 9 cases of bfcl, where 130 of bfcl are due"),
        (["a=damaged"], "damaged/scores.json: has no version, scores; evaluate the checkpoint again"),
        (["a=rows"], "row 'a': 130 cases of rows.jsonl, where 130 of bfcl are due"),
        (["a={base}@runs/tiny/export"], "runs/tiny/export is no finished stage of a run; give RUN/base|"),
        (["a={base}@nowhere/ckd"], "nowhere/ckd is no finished stage of a run"),
        (["a={base}", "--curves", "b=runs/tiny/base"], "b=runs/tiny/base: nothing to draw"),
        (["a={base}", "--curves", "runs/tiny/sim-rl"], "runs/tiny/sim-rl: nothing to draw; give NAME=RUN/STAGE"),
    ],
)
def test_what_cannot_be_collected_is_one_line(arguments: list[str], message: str, run: Path) -> None:
    pytest.importorskip("matplotlib")
    write_evaluation(Path("part"), wrong=0, cases=9)
    write_evaluation(Path("rows"), wrong=0, suite="rows.jsonl")
    Path("damaged").mkdir()
    Path("damaged/scores.json").write_text('{"suite": "bfcl", "cases": 130}')
    done = invoke(*(text.format(base=run / "evaluate/base/bfcl") for text in arguments), "--out", "tiny.json")
    assert done.exit_code == 1, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("tiny.json").exists()


@pytest.mark.parametrize(
    ("stage", "row", "message"),
    [
        ("evaluate", "a={base}", "its run has not finished evaluating; let `star-edge distill` go on"),
        ("ckd", "a={base}@runs/tiny/ckd", "runs/tiny/ckd is no finished stage of a run"),
    ],
)
def test_a_stage_that_is_not_finished_lends_no_numbers(stage: str, row: str, message: str, run: Path) -> None:
    (run / stage / manifest.MANIFEST).unlink()
    done = invoke(row.format(base=run / "evaluate/base/bfcl"), "--no-plots", "--out", "tiny.json")
    assert done.exit_code == 1, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_curves_hold_every_number_and_a_damaged_log_is_refused(run: Path) -> None:
    curves = read_curves(run / "adapt")
    assert curves == {
        "loss": [(1, 1.0), (2, 1.0)], "reward": [(1, 0.5), (2, 0.5)], "score": [(0, 0.4), (2, 0.6)],
    }  # fmt: skip
    (run / "adapt" / "log.jsonl").write_text('{"loss": 1.0}\n')
    with pytest.raises(ArtifactError, match=r"log\.jsonl:1: no line of a training log"):
        read_curves(run / "adapt")
