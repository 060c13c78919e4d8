"""A validated run -> its report, and the gates that decide the exit code."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from star_edge import manifest, pipeline
from star_edge.contracts import Bundle, GateConfig, GateResult, Recipe
from star_edge.errors import GateFailed
from star_edge.report.rows import ReportInput, Row, StageTime, parity_from_json, row_from_json
from star_edge.report.write import write_report

PACKAGES = ("star-edge", "torch", "transformers", "peft", "trl", "llama-cpp-python", "onnxruntime", "optimum-onnx")


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run ends with."""

    report: ReportInput
    json_path: Path
    md_path: Path

    @property
    def failed(self) -> list[GateResult]:
        return [gate for gate in self.report.gates if not gate.passed]

    def raise_failed_gates(self) -> None:
        """Raises: GateFailed: one line that names every gate that did not pass."""
        if self.failed:
            told = "; ".join(f"{g.subject}: {g.gate} is {g.measured:.1f}, limit {g.limit:g}" for g in self.failed)
            raise GateFailed(f"{len(self.failed)} of {len(self.report.gates)} gates failed: {told}; see {self.md_path}")


def summarise(recipe: Recipe, folder: Path, *, command: str) -> Summary:
    """Judge the gates on what was measured and write report.json and report.md; nothing is measured again.

    Raises: ArtifactError: the run has not been validated yet, or its folder cannot be written.
    """
    results = manifest.read_json(folder / "validate" / "results.json")
    manifest.read_json(folder / "validate" / manifest.MANIFEST)
    rows = tuple(row_from_json(row) for row in results["rows"])
    report = ReportInput(
        name=recipe.name,
        command=command,
        suite=f"{results['cases']} held-out requests",
        rows=rows,
        gates=tuple(_gates(rows, recipe.validate.gates, pipeline.read_bundles(folder))),
        parity=tuple(parity_from_json(row) for row in results["parity"]),
        stages=tuple(StageTime(name, seconds / 60) for name, seconds in pipeline.stage_seconds(folder).items()),
        machine=results["machine"],
        versions=_versions(),
    )
    json_path, md_path = write_report(folder, report)
    return Summary(report, json_path, md_path)


def _gates(rows: tuple[Row, ...], config: GateConfig, bundles: list[Bundle]) -> list[GateResult]:
    from star_edge_device.gates import check

    files = [row for row in rows if row.latency is not None]
    torch_rows = [row for row in rows if row.latency is None]
    reference = torch_rows[-1].accuracy
    if reference is None:
        return []
    return check(
        {row.label: row.accuracy for row in files if row.accuracy is not None},
        {row.label: row.latency for row in files if row.latency is not None},
        config,
        reference=reference,
        base=torch_rows[0].accuracy,
        lossless={bundle.label for bundle in bundles if bundle.is_lossless},
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
