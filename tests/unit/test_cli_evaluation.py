"""`star-edge score` and `star-edge evaluate`: what they print, write and refuse."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_bfcl
from click.testing import CliRunner, Result
from test_cli import parses
from tiny_bundles import requests

from star_edge.cli import main
from star_edge.data.rows import write_examples


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Right outputs of the small BFCL, but for one."""
    tiny_bfcl.install(monkeypatch, tmp_path)
    return tiny_bfcl.write_outputs(tmp_path / "outputs.jsonl", {**tiny_bfcl.right_texts(), "multiple_1": "No."})


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    write_examples(path, requests(4))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def score(outputs: Path, *more: object) -> Result:
    return run("score", "--suite", "bfcl", "--outputs", outputs, *more)


def next_command(result: Result) -> str:
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("next: ")]
    return line.removeprefix("next: ")


# ---------------------------------------------------------------------------------------------------------- score


def test_score_prints_categories_then_aggregates(outputs: Path) -> None:
    result = score(outputs)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("bfcl, 130 cases (bfcl-eval 2026.3.23 sha256:")
    assert next(line.split() for line in lines if line.startswith("multiple"))[:3] == ["multiple", "7", "85.7"]
    assert [line.split()[0] for line in lines[-3:]] == ["simple", "non_live", "live"]
    assert set(lines[-4]) == {"-", " "}
    assert "difference" not in result.stdout


def test_score_as_json_has_every_number(outputs: Path) -> None:
    found = json.loads(score(outputs, "--json").stdout)
    assert found["cases"] == 130
    (multiple,) = [line for line in found["scores"] if line["label"] == "multiple"]
    assert (multiple["n"], multiple["value"], multiple["is_aggregate"]) == (7, pytest.approx(6 / 7), False)
    assert multiple["low"] < multiple["value"] < multiple["high"]
    assert found["differences"] == []


def test_a_comparison_with_part_of_the_cases_says_so(outputs: Path, tmp_path: Path) -> None:
    part = tiny_bfcl.write_outputs(tmp_path / "part.jsonl", {"multiple_1": "No."})
    result = score(outputs, "--compare", part)
    assert result.exit_code == 0, result.output
    assert "part.jsonl: has 1 of 130 cases; differences are over those" in result.stderr


def test_a_comparison_with_nothing_is_refused(outputs: Path, tmp_path: Path) -> None:
    empty = tiny_bfcl.write_outputs(tmp_path / "empty.jsonl", {})
    result = score(outputs, "--compare", empty)
    assert result.exit_code == 1
    assert "empty.jsonl: holds no output of a case of bfcl; there is nothing to compare" in result.stderr


def test_missing_outputs_that_count_as_wrong_are_counted_aloud(tmp_path: Path, outputs: Path) -> None:
    part = tiny_bfcl.write_outputs(tmp_path / "part.jsonl", {"multiple_1": "No."})
    result = score(part, "--missing-as-wrong")
    assert "part.jsonl: 129 of 130 cases have no output, and count as wrong" in result.stderr


def test_score_writes_a_verdict_a_line(outputs: Path, tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text("an older run's")
    refused = score(outputs, "--cases", path)
    assert (refused.exit_code, path.read_text()) == (1, "an older run's")
    assert "cases.jsonl: is there already; give --cases another file, or --force" in refused.stderr
    score(outputs, "--cases", path, "--force")
    verdicts = [json.loads(line) for line in path.read_text().splitlines()]
    assert [verdict["id"] for verdict in verdicts] == list(tiny_bfcl.right_texts())
    wrong = [verdict for verdict in verdicts if verdict["ok"] is not True]
    assert wrong == [{"id": "multiple_1", "ok": False, "reason": "0 calls, where 1 are due"}]


def test_score_compares_two_outputs_case_by_case(outputs: Path, tmp_path: Path) -> None:
    other = tiny_bfcl.write_outputs(tmp_path / "other.jsonl", tiny_bfcl.right_texts())
    result = score(outputs, "--compare", other)
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("multiple")]
    assert line.split()[6:8] == ["100.0", "-14.3"]
    found = json.loads(score(outputs, "--compare", other, "--json").stdout)["differences"]
    (multiple,) = [line for line in found if line["label"] == "multiple"]
    assert multiple["difference"] == pytest.approx(-1 / 7)
    assert multiple["low"] < multiple["difference"] < multiple["high"] <= 0


def test_score_exports_what_the_official_tool_reads(outputs: Path, tmp_path: Path) -> None:
    result = score(outputs, "--export-official", tmp_path / "official")
    assert result.exit_code == 0, result.output
    root = tmp_path / "official"
    assert (root / "result" / "Qwen_Qwen3-0.6B-FC" / "live" / "BFCL_v4_live_simple_result.json").is_file()
    assert next_command(result) == (
        f"BFCL_PROJECT_ROOT={root} bfcl evaluate --model Qwen/Qwen3-0.6B-FC --test-category single_turn"
    )


def test_a_part_is_exported_as_a_part(outputs: Path, tmp_path: Path) -> None:
    options = ("--category", "parallel", "--export-official", tmp_path / "official", "--model-name", "Qwen/Qwen3-8B-FC")
    result = score(outputs, *options)
    assert next_command(result).endswith("--model Qwen/Qwen3-8B-FC --test-category single_turn --partial-eval")
    assert len(list((tmp_path / "official").rglob("*.json"))) == 1


def test_a_wrong_model_name_fails_before_anything_is_written(outputs: Path, tmp_path: Path) -> None:
    cases, official = tmp_path / "cases.jsonl", tmp_path / "official"
    result = score(outputs, "--cases", cases, "--export-official", official, "--model-name", "gpt")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert not cases.exists()


def test_a_file_that_is_read_is_never_written_over(outputs: Path, tmp_path: Path) -> None:
    other = tiny_bfcl.write_outputs(tmp_path / "other.jsonl", tiny_bfcl.right_texts())
    before = other.read_bytes()
    result = score(outputs, "--compare", other, "--cases", other, "--force")
    assert result.exit_code == 2
    assert "--cases would write over --compare" in result.stderr
    assert other.read_bytes() == before


def test_prompts_without_room_are_counted_apart(outputs: Path) -> None:
    lines = [json.loads(line) for line in outputs.read_text().splitlines()]
    without_room = {"text": "", "tokens": 0, "stopped": False}
    lines = [{**line, **(without_room if line["id"] == "irrelevance_0" else {})} for line in lines]
    outputs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = score(outputs)
    assert result.stdout.splitlines()[-1] == "1 prompts had no room in the context, and count as wrong"
    found = json.loads(score(outputs, "--json").stdout)
    assert (found["without_room"], found["right"]) == (1, 128)


def test_score_reads_rows_too(rows: Path, tmp_path: Path) -> None:
    path = tiny_bfcl.write_outputs(tmp_path / "outputs.jsonl", {f"request-{n}": "No." for n in range(4)})
    result = run("score", "--suite", rows, "--outputs", path)
    assert result.exit_code == 0, result.output
    assert "missed_call" in result.stdout


def test_missing_outputs_count_as_wrong_when_told_so(outputs: Path) -> None:
    lines = outputs.read_text().splitlines(keepends=True)
    outputs.write_text("".join(lines[1:]))
    found = json.loads(score(outputs, "--missing-as-wrong", "--json").stdout)
    assert found["cases"] == 130
    assert found["scores"][0]["value"] == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--outputs", "{none}"], 1, "none.jsonl: cannot read (No such file or directory); give a JSONL file"),
        (["--outputs", "{broken}"], 1, "broken.jsonl:1: broken JSON"),
        (["--outputs", "{short}"], 1, "short.jsonl: 129 of 130 cases have no output, first 'simple_python_0'"),
        (["--outputs", "{foreign}"], 1, "foreign.jsonl: 1 of 1 outputs are for no case of this suite, first 'x'"),
        (["--outputs", "{right}", "--compare", "{foreign}"], 1, "foreign.jsonl: 1 of 1 outputs are for no case"),
        (["--outputs", "{right}", "--category", "live"], 1, "no BFCL category 'live'; choose from simple_python"),
        (["--outputs", "{right}", "--suite", "bcfl"], 1, "bcfl: no such suite or file; give bfcl"),
        (["--outputs", "{right}", "--cases", "{right}"], 2, "--cases would write over --outputs"),
        (["--outputs", "{right}", "--export-official", "{new}", "--model-name", "gpt"], 1, "gpt: bfcl-eval does not"),
        (["--outputs", "{right}", "--export-official", "{new}", "--suite", "rows"], 2, "--export-official is for"),
        (["--outputs", "{right}", "--model-name", "Qwen/Qwen3-8B-FC"], 2, "--model-name is for --export-official"),
        (["--outputs", "{right}", "--force"], 2, "--force is for --export-official and --cases"),
        (["--suite", "bfcl"], 2, "Missing option '--outputs'"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_one_line(
    arguments: list[str], code: int, message: str, outputs: Path, tmp_path: Path
) -> None:
    files = {"none": tmp_path / "none.jsonl", "right": outputs, "new": tmp_path / "new"}
    for name, texts in (("short", {"multiple_0": "x"}), ("foreign", {"x": "y"})):
        files[name] = tiny_bfcl.write_outputs(tmp_path / f"{name}.jsonl", texts)
    files["broken"] = tmp_path / "broken.jsonl"
    files["broken"].write_text("{")
    before = outputs.read_bytes()
    result = run("score", *(argument.format(**files) for argument in arguments))
    assert result.exit_code == code, result.output
    assert message in result.stderr
    if code == 1:
        assert result.stderr.strip().count("\n") == 0
    assert outputs.read_bytes() == before
    assert not files["new"].exists()


def test_scoring_loads_no_torch(outputs: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom star_edge.evaluate.bfcl import wheel\nfrom pathlib import Path\n"
        f"wheel.fetch = lambda *_: Path({str(tmp_path / 'tiny_bfcl.whl')!r})\n"
        "from star_edge.cli import main\n"
        f"main(['score', '--outputs', {str(outputs)!r}, '--compare', {str(outputs)!r}, "
        f"'--export-official', {str(tmp_path / 'official')!r}], standalone_mode=False)\n"
        "print([m for m in ('torch', 'transformers', 'scipy', 'llama_cpp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


# ------------------------------------------------------------------------------------------------------- evaluate


def evaluate(checkpoint: Path, rows: Path, *more: object) -> Result:
    return run(
        "evaluate",
        checkpoint,
        "--suite",
        rows,
        "--device",
        "cpu",
        "--max-new-tokens",
        6,
        "--rows-per-forward",
        2,
        *more,
    )


def test_evaluate_answers_scores_and_names_the_next_command(tiny_student: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = evaluate(tiny_student, rows, "--out", out, "--limit", 3)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].startswith(f"{rows}, 3 cases (sha256:")
    assert "3 answers ended at a length limit" in result.stderr
    assert {path.name for path in out.iterdir()} - {".lock"} == {"outputs.jsonl", "outputs.key.json", "scores.json"}
    assert parses(shlex.split(next_command(result)))
    again = run(*shlex.split(next_command(result))[1:-4], "--limit", 3)
    assert again.stdout == result.stdout


def test_evaluate_goes_on_where_it_was_stopped_and_compares(tiny_student: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate(tiny_student, rows, "--out", out, "--limit", 2)
    result = evaluate(tiny_student, rows, "--out", out, "--compare", out / "outputs.jsonl", "--json")
    assert "2 of 4 cases are answered already" in result.stderr
    found = json.loads(result.stdout)
    assert found["cases"] == 4
    assert {difference["n"] for difference in found["differences"] if difference["label"] == "exact_call"} == {2}
    assert {difference["difference"] for difference in found["differences"]} == {0.0}


def test_evaluate_refuses_other_answers_and_throws_them_away_when_told(
    tiny_student: Path, tiny_qwen2: Path, rows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    evaluate(tiny_student, rows, "--out", out, "--limit", 1)
    refused = evaluate(tiny_qwen2, rows, "--out", out, "--limit", 1)
    assert refused.exit_code == 1
    assert "was made with another checkpoint" in refused.stderr
    assert "choose another --out, or --force" in refused.stderr
    assert refused.stderr.strip().count("\n") == 0
    assert evaluate(tiny_qwen2, rows, "--out", out, "--limit", 1, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{none}", "--suite", "{rows}"], 1, "none: not found; give a folder, a .gguf file"),
        (["some/hub-id", "--suite", "{rows}"], 1, "some/hub-id: a hub id needs a revision"),
        (["{folder}", "--suite", "{rows}"], 1, "no config.json"),
        (["{model}", "--suite", "{rows}", "--backend", "file"], 1, "no bundle and no .gguf file"),
        (["{model}", "--suite", "{none}"], 1, "no such suite or file; give bfcl"),
        (["{model}", "--suite", "{rows}", "--compare", "{none}"], 1, "cannot read (No such file or directory)"),
        (["{model}", "--suite", "{rows}", "--backend", "tgi"], 2, "'tgi' is not one of 'auto', 'vllm'"),
        ([], 2, "Missing argument 'CHECKPOINT'"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(
    arguments: list[str], code: int, message: str, tiny_student: Path, rows: Path, tmp_path: Path
) -> None:
    places: dict[str, Any] = {"none": tmp_path / "none", "folder": tmp_path, "model": tiny_student, "rows": rows}
    result = run("evaluate", *(argument.format(**places) for argument in arguments), "--out", tmp_path / "out")
    assert result.exit_code == code, result.output
    assert message in result.stderr
    if code == 1:
        assert [line for line in result.stderr.splitlines() if line.startswith("Error: ")] != []
        assert result.stderr.splitlines()[-1].startswith("Error: ")


def test_a_bundle_is_evaluated_without_torch(tiny_student: Path, rows: Path, tmp_path: Path) -> None:
    from tiny_bundles import write_gguf_bundle

    bundle = write_gguf_bundle(tiny_student, tmp_path / "gguf-F16")
    code = (
        "import sys\nfrom star_edge.cli import main\n"
        f"main(['evaluate', {str(bundle.folder)!r}, '--suite', {str(rows)!r}, '--max-new-tokens', '4', "
        f"'--out', {str(tmp_path / 'out')!r}], standalone_mode=False)\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    assert "answered by llama.cpp" in done.stderr
