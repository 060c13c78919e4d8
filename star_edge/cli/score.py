"""`star-edge score`: what stored completions are worth."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from star_edge.cli.common import Command, echo_json, json_option, verbose_option

if TYPE_CHECKING:
    from star_edge.evaluate.suites import Missing, Suite, SuiteScores

FILE = click.Path(dir_okay=False, path_type=Path)


def suite_options(command: Command) -> Command:
    """`--suite`, `--category` and `--limit`: what is asked."""
    for option in (
        click.option("--limit", type=click.IntRange(min=1), help="Use at most N cases of a category, evenly spread."),
        click.option("--category", "categories", multiple=True, metavar="NAME", help="Use this category. Repeatable."),
        click.option(
            "--suite",
            "suite_name",
            default="bfcl",
            show_default=True,
            metavar="SUITE",
            help="bfcl (the single-turn part of BFCL v4), or a JSONL file of rows with answers.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@suite_options
@click.option("--outputs", type=FILE, required=True, help="JSONL rows with id and text to score.")
@click.option("--cases", type=FILE, help="Write a verdict a line to this file: id, ok, and why not.")
@click.option("--compare", type=FILE, help="Outputs of another model: print the paired differences from them.")
@click.option("--missing-as-wrong", is_flag=True, help="Count a case without an output as wrong, not as an error.")
@click.option(
    "--export-official",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the result files that `bfcl evaluate` reads.",
)
@click.option("--model-name", help="Name of the results there.  [default: Qwen/Qwen3-0.6B-FC]")
@click.option("--force", is_flag=True, help="Replace official results, and a file of --cases, that are there.")
@json_option
@verbose_option
def score(
    suite_name: str,
    categories: tuple[str, ...],
    limit: int | None,
    outputs: Path,
    cases: Path | None,
    compare: Path | None,
    missing_as_wrong: bool,
    export_official: Path | None,
    model_name: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Score stored completions on a suite, with intervals, and compare them with another model's.

    Use it for outputs of any program: a row is {"id": ..., "text": ...}, the text being what the model said. It needs
    no GPU and no torch.

    \b
    Example:
      star-edge score --suite bfcl --outputs mine/outputs.jsonl --compare base/outputs.jsonl
    """
    from star_edge.evaluate.outputs import read_answers
    from star_edge.evaluate.suites import open_suite

    if export_official is not None and suite_name != "bfcl":
        raise click.UsageError("--export-official is for --suite bfcl")
    if export_official is None and model_name is not None:
        raise click.UsageError("--model-name is for --export-official; give both, or neither")
    if export_official is None and cases is None and force:
        raise click.UsageError("--force is for --export-official and --cases; neither is given")
    _check_cases_file(cases, {"--outputs": outputs, "--compare": compare}, force=force)
    if export_official is not None:
        _check_model_name(model_name)
    answers = read_answers(outputs)
    suite = open_suite(suite_name, categories=categories, limit=limit)
    reference = reference_scores(suite, compare)
    scores = _judged(suite, outputs, answers, "wrong" if missing_as_wrong else "refuse")
    if absent := len(scores.verdicts.keys() - answers.keys()):
        click.echo(f"{outputs}: {absent} of {len(scores.verdicts)} cases have no output, and count as wrong", err=True)
    if cases is not None:
        _write_cases(cases, scores)
    print_scores(scores, reference, as_json=as_json)
    if export_official is not None:
        narrowed = bool(categories or limit or missing_as_wrong)
        texts = {id: text or "" for id, text in answers.items()}
        _export(suite, texts, export_official, model_name, force=force, narrowed=narrowed)


def reference_scores(suite: Suite, outputs: Path | None) -> SuiteScores | None:
    """Scores of another model's outputs, as far as they go; none without a file.

    Raises: EvaluationError: they have no case of the suite.
    """
    from star_edge.errors import EvaluationError
    from star_edge.evaluate.outputs import read_answers

    if outputs is None:
        return None
    scores = _judged(suite, outputs, read_answers(outputs), "skip")
    if not scores.verdicts:
        raise EvaluationError(f"{outputs}: holds no output of a case of {suite.name}; there is nothing to compare")
    if len(scores.verdicts) < len(suite.ids):
        click.echo(
            f"{outputs}: has {len(scores.verdicts)} of {len(suite.ids)} cases; differences are over those", err=True
        )
    return scores


def _judged(suite: Suite, path: Path, answers: Mapping[str, str | None], missing: Missing) -> SuiteScores:
    from star_edge.errors import EvaluationError

    try:
        return suite.judge(answers, missing=missing)
    except EvaluationError as error:
        raise EvaluationError(f"{path}: {error}") from error


def print_scores(scores: SuiteScores, reference: SuiteScores | None, *, as_json: bool) -> None:
    """The table or the JSON of a suite's scores, and of the differences from others, on stdout."""
    from star_edge.evaluate.suites import compare
    from star_edge.report.scores import score_text

    differences = compare(scores, reference) if reference is not None else ()
    if as_json:
        echo_json({**scores.numbers(), "differences": differences})
        return
    version = re.sub(r"(sha256:[0-9a-f]{12})[0-9a-f]+", r"\1", scores.version)
    click.echo(f"{scores.suite}, {len(scores.verdicts)} cases ({version})")
    click.echo(score_text(scores.scores, differences))
    if scores.without_room:
        click.echo(f"{scores.without_room} prompts had no room in the context, and count as wrong")


def _check_cases_file(cases: Path | None, read: Mapping[str, Path | None], *, force: bool) -> None:
    """Refuse a file for verdicts that is read, or that is there and not given up by --force."""
    from star_edge.errors import ArtifactError

    if cases is None:
        return
    for option, path in read.items():
        if path is not None and cases.resolve() == path.resolve():
            raise click.UsageError(f"--cases would write over {option}; give it another file")
    if cases.exists() and not force:
        raise ArtifactError(f"{cases}: is there already; give --cases another file, or --force")


def _check_model_name(name: str | None) -> None:
    from star_edge.evaluate.bfcl import wheel
    from star_edge.evaluate.bfcl.official import check_model_name

    if name is not None:
        check_model_name(name, wheel.fetch())


def _write_cases(path: Path, scores: SuiteScores) -> None:
    import json

    from star_edge.manifest import write_atomic

    lines = []
    for id, ok in scores.verdicts.items():
        reason = {"reason": scores.reasons[id]} if id in scores.reasons else {}
        lines.append(json.dumps({"id": id, "ok": ok, **reason}, ensure_ascii=False) + "\n")
    write_atomic(path, "".join(lines))


def _export(
    suite: Suite, texts: Mapping[str, str], out: Path, model_name: str | None, *, force: bool, narrowed: bool
) -> None:
    """Write the official result files, and on stderr the command that reads them."""
    from star_edge.evaluate.bfcl import wheel
    from star_edge.evaluate.bfcl.official import DEFAULT_MODEL, export_official
    from star_edge.evaluate.bfcl.suite import BfclSuite

    assert isinstance(suite, BfclSuite)
    name = model_name or DEFAULT_MODEL
    folder = export_official(suite.cases, texts, out, model_name=name, wheel=wheel.fetch(), force=force)
    partial = " --partial-eval" if narrowed else ""
    root = shlex.quote(str(out.resolve()))
    click.echo(f"{folder}: results under the name of {name}, whose answers bfcl-eval reads in this form", err=True)
    click.echo(
        f"next: BFCL_PROJECT_ROOT={root} bfcl evaluate --model {name} --test-category single_turn{partial}", err=True
    )
