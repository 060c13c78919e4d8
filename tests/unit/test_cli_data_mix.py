"""`star-edge data mix`: the rows of a run, without the run."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_runs import row, write_tiny_recipe

from star_edge.cli import main

FILES = ("train.jsonl", "heldout.jsonl", "rejected.jsonl", "summary.json")


@pytest.fixture
def recipe(tmp_path: Path, tiny_student: Path) -> Path:
    return write_tiny_recipe(tmp_path / "recipe", tiny_student)


def mix(recipe: Path, out: Path, *more: str) -> str:
    result = CliRunner().invoke(main, ["data", "mix", str(recipe), "--out", str(out), *more])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_rows_are_those_of_a_run(recipe: Path, tmp_path: Path) -> None:
    settings = ("--set", "data.mix={rows: 12, mask_share: 0.5}")
    mix(recipe, tmp_path / "mixed", *settings)
    arguments = ["distill", str(recipe), "--out", str(tmp_path / "run"), "--until", "data", *settings]
    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 0, result.output
    assert "rows under masked names" in result.stderr
    for name in FILES:
        assert (tmp_path / "mixed" / name).read_bytes() == (tmp_path / "run" / "data" / name).read_bytes()


def test_weights_are_not_needed(recipe: Path, tmp_path: Path, tiny_student: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in tiny_student.glob("*.json*"):
        (bare / path.name).write_bytes(path.read_bytes())
    models = ("--set", f"student.source={bare}", "--set", "teacher.source=nowhere")

    assert "train.jsonl" in mix(recipe, tmp_path / "mixed", *models)


def test_json_is_the_summary(recipe: Path, tmp_path: Path) -> None:
    printed = json.loads(mix(recipe, tmp_path / "mixed", "--json"))

    assert printed == json.loads((tmp_path / "mixed" / "summary.json").read_text())


def test_the_next_command_repeats_the_overrides(recipe: Path, tmp_path: Path) -> None:
    settings = ("--set", "data.mix={rows: 12, mask_share: 0.5}", "--set", "seed=3")
    result = CliRunner().invoke(main, ["data", "mix", str(recipe), "--out", str(tmp_path / "mixed"), *settings])

    assert result.stderr.splitlines()[-1] == f"next: {shlex.join(['star-edge', 'distill', str(recipe), *settings])}"


def test_files_begin_in_the_data_folder(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    for name in ("train", "heldout"):
        (recipe.parent / f"{name}.jsonl").rename(folder / f"{name}.jsonl")
    missing = CliRunner().invoke(main, ["data", "mix", str(recipe), "--out", str(tmp_path / "none")])
    mix(recipe, tmp_path / "mixed", "--set", f"data.folder={folder}")

    assert missing.exit_code == 1
    assert missing.stderr.count("\n") == 1
    assert "train.jsonl: no such file" in missing.stderr
    assert "--set data.folder=PATH" in missing.stderr


def test_rows_that_are_there_are_kept_unless_forced(recipe: Path, tmp_path: Path) -> None:
    mix(recipe, tmp_path / "mixed")
    again = CliRunner().invoke(main, ["data", "mix", str(recipe), "--out", str(tmp_path / "mixed")])
    mix(recipe, tmp_path / "mixed", "--force")

    assert again.exit_code == 1
    assert "holds rows already; choose another --out, or --force" in again.stderr


def test_a_run_goes_on_where_the_data_folder_has_moved(recipe: Path, tmp_path: Path) -> None:
    from star_edge import pipeline
    from star_edge import recipe as recipes

    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("train", "heldout"):
        (moved / f"{name}.jsonl").write_bytes((recipe.parent / f"{name}.jsonl").read_bytes())
    keys = [
        {item.stage.name: item.key for item in pipeline.plan(recipes.load(recipe, overrides), tmp_path / "run")}
        for overrides in ([], [f"data.folder={moved}"], ["data.mix={rows: 9}"])
    ]

    assert keys[0] == keys[1]
    assert keys[0]["data"] != keys[2]["data"]
    assert keys[0]["base"] == keys[2]["base"]


def test_teacher_is_asked_the_unlabelled_prompts_evenly_among_the_rows(recipe: Path, tmp_path: Path) -> None:
    from star_edge import pipeline
    from star_edge import recipe as recipes
    from star_edge.engine import Run

    prompts = [row(200 + n, "barn", wants_call=False) for n in range(8)]
    lines = (json.dumps({**each, "messages": each["messages"][:-1]}) + "\n" for each in prompts)
    (recipe.parent / "open.jsonl").write_text("".join(lines))
    settings = ["data.unlabelled=[{path: open.jsonl}]"]
    run = Run(recipes.load(recipe, settings), tmp_path / "run", "cpu")
    pipeline.execute(run, until="data")
    asked, read = ([example.id for example in rows] for rows in pipeline._teacher_prompts(run))
    open_ids = {each["id"] for each in prompts}

    assert len(asked) == 12, "cache.prompts counts all of them"
    assert [len(open_ids & set(asked[:n])) for n in (4, 8, 12)] == [1, 2, 3]
    rows = [example.id for example in pipeline._examples(run, "train")]
    assert not open_ids & set(rows)
    assert not read

    run = Run(recipes.load(recipe, [*settings, "cache.prompts=4", "cache.labels=5"]), tmp_path / "run", "cpu")
    asked, read = ([example.id for example in rows] for rows in pipeline._teacher_prompts(run))
    assert len(asked) == 4
    assert read == [id for id in rows if id not in asked][:5], "rows whose labels are read are not asked as well"


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_process(recipe: Path, tmp_path: Path) -> None:
    lines = [json.dumps(row(n, "barn", wants_call=True)["tools"][0] | {"name": f"tool_{n}"}) for n in range(9)]
    (recipe.parent / "pool.jsonl").write_text("\n".join(lines))
    settings = "data.mix={rows: 14, irrelevance_share: 0.3, tool_pool: pool.jsonl, distractor_share: 0.5}"
    written = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        command = ["-m", "star_edge", "data", "mix", str(recipe), "--out", str(out), "--set", settings]
        subprocess.run([sys.executable, *command], check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        written.append([(out / name).read_bytes() for name in FILES])

    assert written[0] == written[1]


def test_the_mix_in_the_documentation_loads(tmp_path: Path) -> None:
    from star_edge import recipe as recipes

    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    models = "name: doc\nteacher: {source: a}\nstudent: {source: a}\n"
    (tmp_path / "doc.yaml").write_text(models + page.split("```yaml\n")[1].split("```")[0])
    data = recipes.load(tmp_path / "doc.yaml").recipe.data

    assert data.mix is not None
    assert data.mix.rows == 24000
    assert data.train[0].weight == 3.0
