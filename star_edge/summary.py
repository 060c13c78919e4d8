"""A validated run -> its report, and the gates that decide the exit code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_edge import manifest, pipeline
from star_edge.contracts import GateConfig, GateResult, Recipe, Score
from star_edge.environment import versions
from star_edge.errors import ArtifactError, GateFailed
from star_edge.report.rows import (
    Difference,
    Evaluated,
    ParityRow,
    ReportInput,
    Row,
    StageTime,
    parity_from_json,
    row_from_json,
)
from star_edge.report.tables import measured
from star_edge.report.write import write_report


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
            told = "; ".join(f"{g.subject}: {g.gate} is {measured(g)}, limit {g.limit:g}" for g in self.failed)
            raise GateFailed(f"{len(self.failed)} of {len(self.report.gates)} gates failed: {told}; see {self.md_path}")


def summarise(recipe: Recipe, folder: Path, *, command: str) -> Summary:
    """Judge the gates on what was measured and write report.json and report.md; nothing is measured again.

    Raises: ArtifactError: the run has not been validated yet, or its folder cannot be written.
    """
    manifest.read_json(folder / "validate" / manifest.MANIFEST)
    results = manifest.read_json(folder / "validate" / "results.json")
    rows = tuple(row_from_json(row) for row in results["rows"])
    parity = tuple(parity_from_json(row) for row in results["parity"])
    quantizations = {bundle.label: bundle.quantization for bundle in pipeline.read_bundles(folder)}
    report = ReportInput(
        name=recipe.name,
        command=command,
        suite=f"{results['cases']} held-out requests",
        rows=rows,
        gates=tuple(_gates(rows, parity, recipe.validate.gates, quantizations)),
        parity=parity,
        differences=tuple(_differences(rows, results)),
        stages=tuple(StageTime(name, seconds / 60) for name, seconds in pipeline.stage_seconds(folder).items()),
        machine=results["machine"],
        versions=results.get("versions") or versions(),  # an earlier star-edge did not note what it measured with
        evaluations=tuple(_evaluations(folder)),
    )
    json_path, md_path = write_report(folder, report)
    return Summary(report, json_path, md_path)


def _evaluations(folder: Path) -> Iterator[Evaluated]:
    """What the `evaluate` stage measured, by the recipe's order of suites and checkpoints."""
    from star_edge.answering.evaluation import SCORES

    stage = folder / "evaluate"
    if not (stage / manifest.MANIFEST).is_file():
        return
    details = manifest.read_json(stage / manifest.MANIFEST)["details"]
    for suite in details.get("suites", ()):
        for name in details["checkpoints"]:
            value = manifest.read_json(stage / name / suite / SCORES)
            scores = tuple(Score(**score) for score in value["scores"])
            yield Evaluated(pipeline.LABELS[name], suite, value["cases"], scores)


def _differences(rows: Sequence[Row], results: Mapping[str, Any]) -> list[Difference]:
    """The student's gain over the untrained base, then each file against the student it was made from.

    Raises: ArtifactError: the results do not say which cases were exact.
    """
    from star_edge.evaluate.intervals import stratified_bootstrap

    exact = results.get("exact_calls")
    if exact is None:
        raise ArtifactError("validate/results.json: made by an earlier star-edge; remove validate/ and run it again")
    torch_labels = [row.label for row in rows if row.latency is None]
    base, student = torch_labels[0], torch_labels[-1]
    pairs = [(student, base)] if student != base else []
    pairs += [(row.label, student) for row in rows if row.latency is not None]
    found = []
    for label, reference in pairs:
        if exact[label]:
            gaps = [ours - theirs for ours, theirs in zip(exact[label], exact[reference], strict=True)]
            low, high = stratified_bootstrap([(1.0, gaps, [1] * len(gaps))])
            mean = sum(gaps) / len(gaps)
            found.append(Difference(label, reference, len(gaps), 100 * mean, 100 * low, 100 * high))
    return found


def _gates(
    rows: Sequence[Row], parity: Sequence[ParityRow], config: GateConfig, quantizations: Mapping[str, str]
) -> list[GateResult]:
    """The recipe's limits on every file, and the margins that a lossless file may overturn."""
    from star_edge_device.gates import LARGEST_OVERTURNED_MARGIN, check, check_margins

    files = [row for row in rows if row.latency is not None]
    torch_rows = [row for row in rows if row.latency is None]
    margins = {
        row.label: max((difference.torch_margin for difference in row.differences), default=0.0) for row in parity
    }
    reference = torch_rows[-1].accuracy
    if reference is None:
        return check_margins(margins, quantizations)
    limits = check(
        {row.label: row.accuracy for row in files if row.accuracy is not None},
        {row.label: row.latency for row in files if row.latency is not None},
        config,
        reference=reference,
        base=torch_rows[0].accuracy,
        lossless={label for label, name in quantizations.items() if name in LARGEST_OVERTURNED_MARGIN},
    )
    return [*limits, *check_margins(margins, quantizations)]
