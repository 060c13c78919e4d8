"""Bad input through the command line: one line, the right exit code, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_runs import row, write_tiny_recipe

from star_edge.cli import main


@pytest.fixture
def recipe(tmp_path: Path, tiny_student: Path) -> Path:
    return write_tiny_recipe(tmp_path / "recipe", tiny_student)


def distill(recipe: Path, run: Path, *more: str) -> Result:
    return CliRunner().invoke(main, ["distill", str(recipe), "--out", str(run), *more])


def assert_one_line(result: Result, code: int, *said: str) -> None:
    assert result.exit_code == code, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert result.stderr.rstrip().endswith(errors[0]), "the error must be the last line"
    for words in said:
        assert words in errors[0]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_missing_data_file_is_named_before_anything_is_made(recipe: Path, tmp_path: Path) -> None:
    (recipe.parent / "train.jsonl").unlink()
    assert_one_line(distill(recipe, tmp_path / "run"), 1, "train.jsonl: no such file")
    assert not (tmp_path / "run").exists()


def test_an_unknown_recipe_key_names_line_and_nearest_key(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(recipe.read_text().replace("seed: 3", "sede: 3"))
    assert_one_line(distill(recipe, tmp_path / "run"), 1, "tiny.yaml:2: unknown key 'sede'; did you mean 'seed'?")
    assert not (tmp_path / "run").exists()


def test_broken_json_is_a_bad_row_with_its_line_and_too_many_stop_the_run(recipe: Path, tmp_path: Path) -> None:
    train = recipe.parent / "train.jsonl"
    lines = train.read_text().splitlines()
    lines[6] = lines[6][:40]
    train.write_text("\n".join(lines) + "\n")
    result = distill(recipe, tmp_path / "run", "--until", "data")
    assert_one_line(result, 1, "train.jsonl", ":7", "max_bad_share")

    result = distill(recipe, tmp_path / "other", "--until", "data", "--set", "data.max_bad_share=0.1")
    assert result.exit_code == 0, result.output
    rejected = [json.loads(line) for line in (tmp_path / "other" / "data" / "rejected.jsonl").read_text().splitlines()]
    assert [(Path(entry["file"]).name, entry["line"]) for entry in rejected] == [("train.jsonl", 7)]
    assert json.loads((tmp_path / "other" / "data" / "manifest.json").read_text())["details"]["train_rows"] == 23


def test_teacher_and_student_with_other_vocabularies_are_refused_before_training(
    recipe: Path, tiny_qwen2: Path, tmp_path: Path
) -> None:
    result = distill(recipe, tmp_path / "run", "--set", f"teacher.source={tiny_qwen2}")
    assert_one_line(result, 1, "vocabularies differ", str(tiny_qwen2))
    assert not (tmp_path / "run" / "base" / "manifest.json").exists()
    assert not (tmp_path / "run" / "warmup").exists()


def test_a_teacher_with_another_template_is_refused_unless_it_takes_the_students(
    recipe: Path, tiny_student: Path, tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(tiny_student, teacher)
    template = teacher / "chat_template.jinja"
    template.write_text(template.read_text().replace("If no tool fits", "When no tool fits"))
    generation = teacher / "generation_config.json"
    generation.write_text(json.dumps({"eos_token_id": [1, 2]}))
    given = ("--until", "base", "--set", f"teacher.source={teacher}")
    result = distill(recipe, tmp_path / "run", *given)
    assert_one_line(result, 1, "chat templates differ", "set teacher.chat_template: student")
    assert not (tmp_path / "run" / "base" / "teacher").exists()
    result = distill(recipe, tmp_path / "other", *given, "--set", "teacher.chat_template=student")
    assert result.exit_code == 0, result.output
    for name in ("chat_template.jinja", "generation_config.json", "tokenizer_config.json"):
        read, students = (
            (tmp_path / "other" / "base" / folder / name).read_text() for folder in ("teacher", "student")
        )
        assert read == students
    assert read != generation.read_text()


def test_the_next_command_and_the_dry_run_know_of_other_settings(recipe: Path, tmp_path: Path) -> None:
    result = distill(recipe, tmp_path / "run", "--until", "data", "--set", "seed=4")
    assert result.stderr.rstrip().endswith(f"next: star-edge distill {recipe} --set seed=4 --out {tmp_path / 'run'}")
    assert_one_line(distill(recipe, tmp_path / "run", "--until", "data"), 1, "whose data would be done again")
    planned = distill(recipe, tmp_path / "run", "--until", "data", "--dry-run").stdout
    assert planned.rstrip().endswith(" --set values, whose data would be done again")
    assert "# warmup" not in planned
    assert json.loads(distill(recipe, tmp_path / "run", "--dry-run", "--json").stdout)["needs_force"] == ["data"]
    lent = distill(recipe, tmp_path / "other", "--from", str(tmp_path / "run"), "--set", "seed=4", "--dry-run")
    assert f"take      normalise, render and split the rows from {tmp_path / 'run'}" in lent.stdout
    why = f"warmup is run here and not taken from {tmp_path / 'run'}: warmup is not finished there\n"
    assert lent.stderr == why


def test_a_run_up_to_a_stage_is_json_when_asked(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = distill(recipe, run, "--until", "data", "--json")
    assert json.loads(result.stdout) == {"folder": str(run), "until": "data", "artifact": str(run / "data")}


def test_the_dry_run_says_which_stages_the_recipe_leaves_without_work(recipe: Path, tmp_path: Path) -> None:
    asked = ("--dry-run", "--set", "evaluate=null", "--set", "adapt.sim_rl.steps=0")
    planned = json.loads(distill(recipe, tmp_path / "run", *asked, "--json").stdout)
    assert planned["needs_force"] == []
    assert [stage["stage"] for stage in planned["stages"] if stage["does_nothing"]] == ["adapt", "evaluate"]
    lines = distill(recipe, tmp_path / "run", *asked).stdout.splitlines()
    assert "# evaluate   run       score checkpoints on suites; nothing to do under this recipe" in lines


def test_the_next_command_of_a_forced_run_goes_on_without_force(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert distill(recipe, run, "--until", "data").exit_code == 0
    forced = distill(recipe, run, "--until", "base", "--set", "seed=4", "--force")
    assert forced.exit_code == 0, forced.output
    told = forced.stderr.rstrip().rpartition("next: star-edge ")[2]
    result = CliRunner().invoke(main, [*shlex.split(told), "--until", "data"])
    assert result.exit_code == 0, result.output


def test_a_student_cannot_take_its_own_template_from_the_student(recipe: Path, tmp_path: Path) -> None:
    result = distill(recipe, tmp_path / "run", "--set", "student.chat_template=student")
    assert_one_line(result, 1, "student.chat_template is student; that is for the teacher")


def test_a_gguf_cut_in_half_is_refused(recipe: Path, tiny_student: Path, tmp_path: Path) -> None:
    from star_edge_export.gguf import export_gguf

    whole, half = tmp_path / "whole.gguf", tmp_path / "half.gguf"
    export_gguf(tiny_student, whole)
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert_one_line(distill(recipe, tmp_path / "run", "--set", f"student.source={half}"), 1, "half.gguf")
    assert not (tmp_path / "run" / "base" / "manifest.json").exists()


@pytest.mark.slow
def test_a_full_disk_while_exporting_keeps_what_was_exported_before(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import star_edge_export.gguf as exporter

    out = tmp_path / "bundles"
    arguments = ["export", str(tiny_student), "--gguf", "F16", "--out", str(out)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    before = files(out / "gguf-F16")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    import star_edge_export.quantize as quantizer

    monkeypatch.setattr(quantizer, "log_errors_only", full)
    monkeypatch.setattr(exporter, "_write_tensors", full)
    result = CliRunner().invoke(main, [*arguments, "--gguf", "Q8_0"])
    assert_one_line(result, 1, "model.gguf", "No space left on device", "free some space")
    assert files(out / "gguf-F16") == before
    assert not (out / "gguf-Q8_0").exists()
    assert not list(out.glob(".*partial*"))

    monkeypatch.undo()
    assert CliRunner().invoke(main, [*arguments, "--gguf", "Q8_0"]).exit_code == 0
    assert files(out / "gguf-F16") == before


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["plain", "forced"])
def test_an_existing_output_folder_of_something_else_is_never_touched(
    recipe: Path, tmp_path: Path, force: tuple[str, ...]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "thesis.txt").write_text("x")
    assert_one_line(distill(recipe, run, *force), 1, "not a run of star-edge; choose another --out")
    assert files(run) == {"thesis.txt": b"x"}


def test_a_row_without_an_offered_tool_is_told_by_data_check(tmp_path: Path) -> None:
    bad = row(1, "hall", wants_call=True) | {"tools": []}
    (tmp_path / "rows.jsonl").write_text(json.dumps(bad) + "\n")
    result = CliRunner().invoke(main, ["data", "check", str(tmp_path / "rows.jsonl")])
    assert result.exit_code == 1
    assert "rows.jsonl:1" in result.stdout
    assert "set_light" in result.stdout
