"""`star-edge report`: what a run came to."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from star_edge.cli.common import echo_json, json_option, set_option, set_words, verbose_option
from star_edge.contracts import Recipe


@click.command()
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@set_option
@json_option
@verbose_option
def report(run: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Write report.md and report.json of a validated run again, and judge its gates.

    Use it after changing a gate: nothing is measured again. Exit code 3 when a gate fails.

    \b
    Example:
      star-edge report runs/quickstart --set validate.gates.size_mib=150
    """
    from star_edge import engine
    from star_edge import recipe as recipes

    if not (run / engine.RESOLVED).is_file():
        raise click.BadParameter(f"{run} is not a run of star-edge (no {engine.RESOLVED} in it)", param_hint="RUN")
    loaded = recipes.load(run / engine.RESOLVED, overrides)
    if any(not override.startswith("validate.gates.") for override in overrides):
        raise click.UsageError("a report sets gates only (--set validate.gates.NAME=VALUE); `distill` measures again")
    command = shlex.join(["star-edge", "report", str(run), *set_words(overrides)])
    publish(loaded.recipe, run, command=command, as_json=as_json)


def publish(recipe: Recipe, folder: Path, *, command: str, as_json: bool) -> None:
    """Print the table of a validated run and end with what to type next.

    Raises: GateFailed: after everything is written and printed.
    """
    from star_edge.report.tables import plain_table, suite_table, terminal
    from star_edge.summary import summarise

    summary = summarise(recipe, folder, command=command)
    if as_json:
        echo_json(summary.report)
    else:
        click.echo(terminal(summary.report.rows))
        evaluations = summary.report.evaluations
        for suite in dict.fromkeys(row.suite for row in evaluations):
            click.echo(f"\n{suite}, percent")
            click.echo(plain_table(suite_table([row for row in evaluations if row.suite == suite])))
        click.echo(summary.md_path)
    place = shlex.quote(str(folder))
    click.echo(f"next: star-edge parity {place}    (where and by how little the files differ from torch)", err=True)
    summary.raise_failed_gates()
