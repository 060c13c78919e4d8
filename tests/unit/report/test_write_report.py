"""report.json and report.md of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from star_edge.contracts import Accuracy, GateResult, Latency, Rate, Score, TokenDifference
from star_edge.errors import ArtifactError
from star_edge.report.rows import Difference, Evaluated, ParityRow, ReportInput, Row, StageTime
from star_edge.report.write import markdown, read_report, write_report

RATE = Rate(0.5, 40, 0.35, 0.65)
ACCURACY = Accuracy(RATE, RATE, RATE, RATE, RATE, RATE)
LATENCY = Latency("llama.cpp 1", "Some CPU", 1, 59, 120, 700, 650, 800, 300, 250, 50, 40, 180, 138.1, "cpu")
FULL = ReportInput(
    name="quickstart",
    command="star-edge distill recipes/quickstart/star.yaml",
    suite="60 held-out requests",
    rows=(Row("base", ACCURACY), Row("gguf Q8_0", ACCURACY, LATENCY)),
    gates=(GateResult("file size (MiB)", "gguf Q8_0", 138.1, 150.0, True),),
    parity=(ParityRow("gguf Q8_0", 60, 0.98, 1.0, None, (TokenDifference("r-7", 3, 5, 6, 0.02, True, "é", "e"),)),),
    differences=(Difference("gguf Q8_0", "base", 40, 1.5, -2.0, 5.0),),
    stages=(StageTime("ckd", 3.3),),
    machine={"cpu": "Some CPU"},
    versions={"torch": "2.13"},
    notes=("One seed.",),
    evaluations=(
        Evaluated(
            "base", "bfcl", 3641, (Score("multiple", 0.25, 200, 0.2, 0.3), Score("live", 0.5, 9, 0.4, 0.6, True))
        ),
        Evaluated("CKD", "bfcl", 3641, (Score("multiple", 0.75, 200, 0.7, 0.8),)),
    ),
)
SMALL = ReportInput("run", "star-edge distill x", "no cases", (Row("base"),))


@pytest.mark.parametrize("report", [FULL, SMALL])
def test_what_is_written_reads_back_equal(report: ReportInput, tmp_path: Path) -> None:
    json_path, md_path = write_report(tmp_path, report)
    assert json.loads(json_path.read_text())["schema"] == 1
    assert read_report(tmp_path) == report
    assert md_path.read_text() == markdown(report)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["report.json", "report.md"]


def test_markdown_has_every_part_with_its_numbers() -> None:
    text = markdown(FULL)
    for part in (
        "# quickstart",
        "One seed.",
        "60 held-out requests.",
        "| gguf Q8_0 | 50.0 (35.0–65.0) |",
        "Some CPU, 1 thread, CPU time of the one thread",
        "59 warm cases",
        "All 1 passed.",
        "| gguf Q8_0 | base | 40 | +1.5 (-2.0 to +5.0) |",
        "### gguf Q8_0: 1 of 60 cases differ",
        '| r-7 | 3 | `"é"` | `"e"` | 0.0200 | yes |',
        "| ckd | 3.3 |",
        "- torch: 2.13",
        "## bfcl\n\n3641 cases. Percent",
        "| score | n | base | CKD |",
        "| multiple | 200 | 25.0 (20.0–30.0) | 75.0 (70.0–80.0) |",
        "| live | 9 | 50.0 (40.0–60.0) | – |",
    ):
        assert part in text


def test_parts_without_content_are_left_out() -> None:
    text = markdown(SMALL)
    assert [line for line in text.splitlines() if line.startswith("#")] == ["# run", "## Accuracy"]


def test_failed_gates_are_counted() -> None:
    gates = (GateResult("g", "f", 1.0, 2.0, False), GateResult("g", "h", 1.0, 2.0, True))
    assert "1 of 2 failed." in markdown(ReportInput("r", "c", "s", (), gates=gates))


@pytest.mark.parametrize("content", ['{"schema": 9}', '{"schema": 1, "name": "x"}', "[]", "{"])
def test_foreign_or_damaged_report_is_refused_in_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(ArtifactError) as raised:
        read_report(tmp_path)
    assert "\n" not in str(raised.value)
