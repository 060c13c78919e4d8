"""A finished run -> `report.json` for programs and `report.md` for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from star_edge.errors import ArtifactError
from star_edge.manifest import plain, read_json, write_atomic
from star_edge.report.rows import SCHEMA, ParityRow, ReportInput, Row, from_json
from star_edge.report.tables import (
    accuracy_table,
    comparison_table,
    difference_table,
    gate_table,
    latency_table,
    markdown_table,
    parity_table,
    stage_table,
    suite_table,
)

REPORT_JSON = "report.json"
REPORT_MD = "report.md"
RATES_EXPLAINED = (
    "Percent with the 95 % interval. *Exact call*, *name*, *argument* and *missed call* are over requests that want a "
    "call, *false call* over those that do not, *malformed* over all."
)
SCORES_EXPLAINED = "Percent with the 95 % interval, by checkpoint."
DIFFERENCES_EXPLAINED = (
    "Exact-call rate of a model minus that of the one it is compared with, over the same requests, with the "
    "paired-bootstrap 95 % interval. The gates judge the difference, not the interval."
)
PARITY_EXPLAINED = (
    "Greedy answers of each file and of torch to the same prompts. The margin is torch's logit of its own token minus "
    "that of the file's token: near 0, rounding decided a tie."
)


def write_report(run_folder: Path, report: ReportInput) -> tuple[Path, Path]:
    """Write both files, each whole or not at all.

    Returns: the paths of report.json and report.md.
    Raises: ArtifactError: the folder cannot be written.
    """
    json_path, md_path = run_folder / REPORT_JSON, run_folder / REPORT_MD
    content = {"schema": SCHEMA, **plain(report)}
    write_atomic(json_path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_atomic(md_path, markdown(report))
    return json_path, md_path


def read_report(run_folder: Path) -> ReportInput:
    """The report of a finished run, from its report.json.

    Raises: ArtifactError: none there, damaged, or of another schema.
    """
    path = run_folder / REPORT_JSON
    value = read_json(path)
    if value.pop("schema", None) != SCHEMA:
        raise ArtifactError(f"{path}: not a report of schema {SCHEMA}; write it again with star-edge report")
    try:
        return from_json(value)
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: not readable ({error}); write it again with star-edge report") from error


def markdown(report: ReportInput) -> str:
    """The whole report as Markdown; parts without content are left out."""
    parts = [f"# {report.name}", f"`{report.command}`", *report.notes]
    parts += ["## Accuracy", f"{report.suite}. {RATES_EXPLAINED}", markdown_table(accuracy_table(report.rows))]
    if report.differences:
        parts += ["### Differences", DIFFERENCES_EXPLAINED, markdown_table(comparison_table(report.differences))]
    for suite in dict.fromkeys(row.suite for row in report.evaluations):
        found = [row for row in report.evaluations if row.suite == suite]
        parts += [f"## {suite}", f"{found[0].cases} cases. {SCORES_EXPLAINED}", markdown_table(suite_table(found))]
    if any(row.latency for row in report.rows):
        parts += ["## Files", _conditions(report.rows), markdown_table(latency_table(report.rows))]
    if report.gates:
        failed = sum(not gate.passed for gate in report.gates)
        verdict = f"{failed} of {len(report.gates)} failed." if failed else f"All {len(report.gates)} passed."
        parts += ["## Gates", verdict, markdown_table(gate_table(report.gates))]
    if report.parity:
        parts += ["## Parity with torch", PARITY_EXPLAINED, markdown_table(parity_table(report.parity))]
        parts += [part for row in report.parity for part in _differences(row)]
    if report.stages:
        parts += ["## Time", markdown_table(stage_table(report.stages))]
    if report.machine or report.versions:
        # In both a fact is the machine's: it was noted when the speeds were measured.
        facts = {**report.machine, **report.versions, **report.machine}
        parts += ["## Machine and versions", _facts(facts)]
    return "\n\n".join(parts) + "\n"


def _conditions(rows: tuple[Row, ...]) -> str:
    """What the speeds were measured with; they differ from file to file only in the runtime."""
    speeds = [row.latency for row in rows if row.latency is not None]
    first = speeds[0]
    clock = "CPU time of the one thread" if first.clock == "cpu" else "wall time"
    runtimes = ", ".join(dict.fromkeys(speed.runtime for speed in speeds))
    return (
        f"{first.device}, {first.threads} thread{'s' if first.threads > 1 else ''}, {clock} (loading: wall time); "
        f"{runtimes}; {first.n} warm cases. Pairs are p50 / p95, where p95 is the slow tail. TTFT is the time to first "
        "token, from the prompt's text; peak RSS is the whole process's, mapped weights included."
    )


def _differences(row: ParityRow) -> list[str]:
    if not row.differences:
        return []
    title = f"### {row.label}: {len(row.differences)} of {row.n} cases differ"
    return [title, markdown_table(difference_table(row.differences))]


def _facts(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())
