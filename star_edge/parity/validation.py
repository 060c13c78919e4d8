"""Every checkpoint in torch and every file on its own runtime over the same held-out requests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from star_edge.alone import alone
from star_edge.contracts import Bundle, Checkpoint, Example, Generation, Latency, ValidateConfig
from star_edge.data.chat import ChatCodec
from star_edge.environment import versions
from star_edge.errors import DataError
from star_edge.evaluate.scores import CaseVerdict, accuracy, judge
from star_edge.manifest import LOCK, plain, write_atomic
from star_edge.models.load import LoadedModel, load
from star_edge.parity.answers import torch_answers
from star_edge.parity.compare import ParityReport, compare
from star_edge.parity.exports import torch_store
from star_edge.progress import Progress, or_quiet
from star_edge.report.rows import ParityRow, Row
from star_edge_device import machine
from star_edge_device.accuracy import Run, run_in_subprocess
from star_edge_device.runtimes import open_runtime

RESULTS = "results.json"


def validate_run(
    config: ValidateConfig,
    checkpoints: Mapping[str, Checkpoint],
    bundles: Sequence[Bundle],
    heldout: Sequence[Example],
    out: Path,
    *,
    answers: Path,
    device: str,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score everything on the first `config.cases` held-out rows and write `results.json`.

    Args:
        checkpoints: by label, in the order of the table; the last is the one the files were made from.
        out: folder of the stage. `exact_calls` in `results.json` holds, by label, whether each case that wants a call
            got it exactly, in the same order of cases for every label.
        answers: folder of what these checkpoints and files said before; nothing in it is generated again.
    Returns: the number of cases and the labels, for the manifest.
    Raises: DataError: fewer held-out rows than cases. RuntimeFailure: a file cannot be run.
    """
    if len(heldout) < config.cases:
        raise DataError(
            f"validate.cases is {config.cases}, but there are {len(heldout)} held-out rows; "
            "lower it or give more held-out data"
        )
    progress = or_quiet(progress)
    examples = list(heldout[: config.cases])
    table = _Table(examples, progress)
    exported = [*checkpoints][-1]
    for label, checkpoint in checkpoints.items():
        loaded = load(checkpoint, device=device)
        told = torch_answers(
            loaded,
            examples,
            torch_store(answers, config, "" if label == exported else label),
            max_new_tokens=config.max_new_tokens,
            rows_per_forward=config.rows_per_forward,
            progress=progress,
        )
        table.add(label, told)
    parity = []
    for bundle in bundles:
        run = _run_bundle(bundle, examples, answers / bundle.folder.name, config, progress)
        table.add(bundle.label, run.generations, run.latency)
        parity.append(_parity_row(_parity(bundle, loaded, examples, told, run, config)))
    results = {
        "cases": len(examples),
        "rows": table.rows,
        "exact_calls": table.exact_calls,
        "parity": parity,
        "machine": machine.facts(),
        "versions": versions(),
    }
    write_atomic(out / RESULTS, json.dumps(plain(results), indent=1, ensure_ascii=False) + "\n")
    return {"cases": len(examples), "labels": [row.label for row in table.rows]}


class _Table:
    """The scores of model after model on the same examples."""

    def __init__(self, examples: Sequence[Example], progress: Progress) -> None:
        self.rows: list[Row] = []
        self.exact_calls: dict[str, list[bool]] = {}
        self._examples = examples
        self._progress = progress

    def add(self, label: str, generations: Sequence[Generation], latency: Latency | None = None) -> None:
        verdicts = judge_all(self._examples, generations)
        self.rows.append(Row(label, accuracy(verdicts), latency))
        self.exact_calls[label] = [verdict.exact_call for verdict in verdicts if verdict.has_target_calls]
        self._progress.line(f"  {label}: {_summary(self.rows[-1])}")


def validate_bundle(
    bundle: Bundle,
    examples: Sequence[Example],
    out: Path,
    *,
    threads: int,
    max_new_tokens: int,
    progress: Progress | None = None,
) -> Row:
    """Accuracy and latency of one bundle, on its runtime, in a process of its own.

    Args:
        out: folder for the answers; a stopped validation goes on there.
    Raises:
        DataError: no examples. ArtifactError: another process works in `out`.
        RuntimeFailure, RuntimeMissing: the bundle cannot be run here.
    """
    if not examples:
        raise DataError("no cases to validate on; give a JSONL file with at least one row")
    config = ValidateConfig(cases=len(examples), threads=threads, max_new_tokens=max_new_tokens)
    with alone(out, out / LOCK):
        run = _run_bundle(bundle, examples, out, config, or_quiet(progress))
    return Row(bundle.label, accuracy(judge_all(examples, run.generations)), run.latency)


def judge_all(examples: Sequence[Example], answers: Sequence[Generation]) -> list[CaseVerdict]:
    """The verdicts on one model's answers, given in the examples' order."""
    return [judge(example, answer.text) for example, answer in zip(examples, answers, strict=True)]


def _run_bundle(
    bundle: Bundle, examples: Sequence[Example], out: Path, config: ValidateConfig, progress: Progress
) -> Run:
    bar = progress.bar(bundle.label, len(examples))
    try:
        return run_in_subprocess(
            bundle,
            examples,
            out,
            threads=config.threads,
            max_new_tokens=config.max_new_tokens,
            advance=lambda done: bar.update(done),
        )
    finally:
        bar.close()


def _parity(
    bundle: Bundle,
    loaded: LoadedModel,
    examples: Sequence[Example],
    answers: Sequence[Generation],
    run: Run,
    config: ValidateConfig,
) -> ParityReport:
    codec = ChatCodec(loaded.tokenizer, loaded.template)
    prompts = {example.id: codec.prompt_text(example) for example in examples}
    longest = max(g.prompt_tokens for g in answers) + config.max_new_tokens + 1
    runtime = open_runtime(bundle, threads=config.threads, context_length=longest)
    try:
        return compare(loaded, prompts, answers, run.generations, label=bundle.label, runtime=runtime)
    finally:
        runtime.close()


def _parity_row(report: ParityReport) -> ParityRow:
    return ParityRow(
        label=report.label,
        n=report.n,
        agreement=report.agreement,
        same_calls=report.same_calls,
        forced_agreement=report.forced_agreement,
        differences=report.differences,
    )


def _summary(row: Row) -> str:
    if row.accuracy is None:
        return "not scored"
    rate = row.accuracy.exact_call
    return f"exact call {rate.value * 100:.1f} % of {rate.n} ({rate.low * 100:.0f} to {rate.high * 100:.0f})"
