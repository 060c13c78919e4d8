"""From what a validation stored to differences and gates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiny_runs import write_tiny_recipe

from star_edge import engine, manifest, recipe
from star_edge.cli import main
from star_edge.contracts import Accuracy, GateConfig, Latency, Rate, TokenDifference
from star_edge.environment import versions
from star_edge.errors import ArtifactError
from star_edge.report.rows import ParityRow, Row
from star_edge.summary import _differences, _gates

RATE = Rate(0.5, 4, 0.2, 0.8)
ACCURACY = Accuracy(RATE, RATE, RATE, RATE, RATE, RATE)
LATENCY = Latency("r", "d", 1, 9, 1, 1, 50, 100, 1, 1, 30, 20, 1, 140)
ROWS = (Row("base", ACCURACY), Row("CKD", ACCURACY), Row("gguf Q8_0", ACCURACY, LATENCY))
EXACT: dict[str, Any] = {
    "base": [False, False, False, False],
    "CKD": [True, True, True, False],
    "gguf Q8_0": [True, True, False, False],
}


def test_student_is_compared_with_base_and_files_with_the_student() -> None:
    gain, drop = _differences(ROWS, {"exact_calls": EXACT})

    assert (gain.label, gain.reference, gain.n, gain.points) == ("CKD", "base", 4, 75.0)
    assert 0 <= gain.low < 75.0 < gain.high <= 100
    assert (drop.label, drop.reference, drop.points) == ("gguf Q8_0", "CKD", -25.0)
    assert drop.high == 0.0  # paired: no resample can make the file the better one


def test_suite_without_calls_has_no_difference() -> None:
    assert _differences(ROWS, {"exact_calls": {label: [] for label in EXACT}}) == []


def test_results_without_the_cases_are_refused_in_one_line() -> None:
    with pytest.raises(ArtifactError, match="run it again") as raised:
        _differences(ROWS, {})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("margin", "passed"), [(0.4, True), (5.0, False)])
def test_an_overturned_clear_decision_fails_a_gate(margin: float, passed: bool) -> None:
    differences = (TokenDifference("a", 3, 5, 6, 0.01, True), TokenDifference("b", 3, 5, 6, margin, True))
    parity = [ParityRow("gguf Q8_0", 4, 0.5, 1.0, 0.9, differences)]

    gates = _gates(ROWS, parity, GateConfig(), {"gguf Q8_0": "Q8_0"})

    assert [gate.gate for gate in gates] == ["exact-call drop (points)", "largest overturned margin (nats)"]
    assert (gates[1].measured, gates[1].passed) == (margin, passed)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A validated run without files; one of an earlier star-edge, which noted no versions but the machine's."""
    monkeypatch.setattr("star_edge.pipeline.read_bundles", lambda _: [])
    run = tmp_path / "my run"
    manifest.begin(run / "validate", "key")
    results = {
        "cases": 4,
        "rows": ROWS[:1],
        "parity": [],
        "exact_calls": {"base": EXACT["base"]},
        "machine": {"cpu": "x", "onnxruntime": "1.2.3"},
    }
    (run / "validate" / "results.json").write_text(json.dumps(manifest.plain(results)))
    manifest.finish(run / "validate", "validate", "key", details={}, seconds=1)
    loaded = recipe.load(write_tiny_recipe(tmp_path / "recipe", tmp_path))
    (run / engine.RESOLVED).write_text(recipe.to_yaml(loaded.recipe))
    return run


def test_a_rewritten_report_names_the_very_command(run: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(run), "--set", "validate.gates.size_mib=1"])
    assert result.exit_code == 0, result.output
    command = f"star-edge report '{run}' --set validate.gates.size_mib=1"
    assert json.loads((run / "report.json").read_text())["command"] == command
    assert f"`{command}`" in (run / "report.md").read_text()
    assert result.stderr.startswith(f"next: star-edge parity '{run}' ")


def test_a_report_names_the_versions_that_were_measured_with(run: Path) -> None:
    path = run / "validate" / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "versions": {"torch": "0.0.1"}}))
    assert CliRunner().invoke(main, ["report", str(run)]).exit_code == 0
    assert json.loads((run / "report.json").read_text())["versions"] == {"torch": "0.0.1"}
    assert "- torch: 0.0.1" in (run / "report.md").read_text()


def test_where_none_were_noted_they_are_todays_but_for_the_machines(run: Path) -> None:
    assert CliRunner().invoke(main, ["report", str(run)]).exit_code == 0
    assert json.loads((run / "report.json").read_text())["versions"] == versions()
    assert "- onnxruntime: 1.2.3" in (run / "report.md").read_text()
