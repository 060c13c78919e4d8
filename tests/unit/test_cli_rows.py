"""Verbs that read a user's rows: any format of docs/data.md, and bad rows are never passed over in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from star_edge.answering.writing import Written
from star_edge.cli import main
from star_edge.contracts import Example

CALL = {"type": "function", "function": {"name": "set_alarm", "arguments": '{"time": "6"}'}}
TOOL = {
    "type": "function",
    "function": {"name": "set_alarm", "description": "d", "parameters": {"type": "object", "properties": {}}},
}
WRAPPED = {
    "messages": [
        {"role": "user", "content": "wake me at 6"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
    ],
    "tools": [TOOL],
}


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Example]:
    """What `validate` hands to the runtime, which is left out here."""
    seen: list[Example] = []

    def stand_in(_bundle: object, examples: list[Example], _out: Path, **_: object) -> dict[str, int]:
        seen.extend(examples)
        return {"cases": len(examples)}

    monkeypatch.setattr("star_edge.parity.validation.validate_bundle", stand_in)
    monkeypatch.setattr("star_edge_export.bundle.read_bundle", lambda folder: folder)
    return seen


def validate(cases: Path, *more: str) -> Any:
    out = cases.parent / "answers"
    return CliRunner().invoke(
        main, ["validate", str(cases.parent), "--cases", str(cases), "--out", str(out), "--json", *more]
    )


def test_validate_reads_wrapped_rows_without_id(asked: list[Example], tmp_path: Path) -> None:
    result = validate(write(tmp_path / "rows.jsonl", WRAPPED, WRAPPED, WRAPPED), "--limit", "2")

    assert result.exit_code == 0, result.output
    assert [example.id for example in asked] == ["rows.jsonl:1", "rows.jsonl:2"]
    assert asked[0].target_calls[0].arguments == {"time": "6"}


def test_validate_gives_rows_that_share_an_id_their_own(asked: list[Example], tmp_path: Path) -> None:
    validate(write(tmp_path / "rows.jsonl", {"id": "a", **WRAPPED}, {"id": "a", **WRAPPED}))

    assert [example.id for example in asked] == ["a", "a~2"]


def test_validate_stops_at_bad_rows_and_counts_them(asked: list[Example], tmp_path: Path) -> None:
    result = validate(write(tmp_path / "rows.jsonl", WRAPPED, "{broken", {"tools": []}))

    assert result.exit_code == 1
    assert "rows.jsonl:2: " in result.stderr
    assert "2 of 3 rows" in result.stderr
    assert result.stderr.count("\n") == 1
    assert asked == []


def test_overlap_stops_at_bad_rows_unless_told_to_skip_them(tmp_path: Path) -> None:
    train, evaluation = write(tmp_path / "a.jsonl", WRAPPED, "{broken"), write(tmp_path / "b.jsonl", WRAPPED)
    strict = CliRunner().invoke(main, ["data", "overlap", str(train), str(evaluation)])
    skipping = CliRunner().invoke(main, ["data", "overlap", str(train), str(evaluation), "--skip-bad"])

    assert strict.exit_code == 1
    assert "a.jsonl:2: " in strict.stderr
    assert "1 of 2 rows" in strict.stderr
    assert strict.stderr.count("\n") == 1
    assert skipping.exit_code == 0
    assert skipping.stderr == f"{train}: 1 bad rows skipped\n"
    assert skipping.stdout == "exact 1, 13-word 0, of 1 training and 1 evaluation rows\n"


@pytest.mark.parametrize("verb", ["label", "write"])
def test_what_is_read_is_never_written_over(verb: str, tmp_path: Path) -> None:
    rows, tools = write(tmp_path / "rows.jsonl", WRAPPED), write(tmp_path / "tools.jsonl", TOOL["function"])
    before = (rows.read_text(), tools.read_text())
    given = {"label": [str(rows)], "write": [str(tools), "--like", str(rows)]}[verb]
    result = CliRunner().invoke(main, ["data", verb, *given, "--model", "none", "--out", str(rows), "--force"])

    assert result.exit_code == 2
    assert "a file that this command reads; choose another" in result.stderr
    assert (rows.read_text(), tools.read_text()) == before

    missing, there = [str(tmp_path / "none.jsonl"), *given[1:]], write(tmp_path / "out.jsonl", "old")
    result = CliRunner().invoke(main, ["data", verb, *missing, "--model", "none", "--out", str(there), "--force"])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "none.jsonl" in result.stderr


@pytest.mark.parametrize("verb", ["label", "write"])
def test_vllm_without_a_gpu_is_refused_in_words_of_options_that_are_there(
    verb: str, tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    rows, tools = write(tmp_path / "rows.jsonl", WRAPPED), write(tmp_path / "tools.jsonl", TOOL["function"])
    prompts = write(tmp_path / "prompts.jsonl", {"messages": [{"role": "user", "content": "Hi"}], "tools": [TOOL]})
    given = {"label": [str(prompts)], "write": [str(tools), "--like", str(rows)]}[verb]
    given += ["--model", str(tiny_student), "--out", str(tmp_path / "out.jsonl"), "--backend", "vllm"]
    result = CliRunner().invoke(main, ["data", verb, *given])

    assert result.exit_code == 1
    assert result.stderr == (
        "Error: --backend vllm: torch sees no GPU here; give --backend transformers, or leave it out\n"
    )


@pytest.mark.parametrize(("without_room", "end"), [(0, "samples kept\n"), (3, "samples kept, 3 functions too long\n")])
def test_functions_without_room_are_told_where_there_are_any(
    without_room: int, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Written(rows=2, heldout_rows=0, functions=2, samples=9, kept=4, without_room=without_room, prompts=0)
    monkeypatch.setattr("star_edge.answering.writing.write_rows", lambda *_, **__: done)
    rows, tools = write(tmp_path / "rows.jsonl", WRAPPED), write(tmp_path / "tools.jsonl", TOOL["function"])
    given = [str(tools), "--like", str(rows), "--model", "none", "--out", str(tmp_path / "out.jsonl")]
    result = CliRunner().invoke(main, ["data", "write", *given])

    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(end)
