"""`star-edge reward`: whether a reward pays for what is right."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from star_edge.cli.common import echo_json, json_option, verbose_option
from star_edge.contracts import AuditReport, RewardKind

KINDS: tuple[RewardKind, ...] = get_args(RewardKind)


@click.group()
def reward() -> None:
    """Look into the rewards of Sim-RL (docs/rewards.md defines them).

    \b
    Example:
      star-edge reward audit --reward typed
    """


@reward.command()
@click.option(
    "--reward",
    "kinds",
    type=click.Choice(KINDS),
    multiple=True,
    default=KINDS,
    show_default=True,
    help="Audit this reward. Repeatable.",
)
@click.option("--answers", type=click.IntRange(min=1), default=2000, show_default=True, help="Perturbed answers.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws cases and perturbations.")
@click.option(
    "--markdown",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the tables to this file too, without the answers of the suite.",
)
@click.option("--force", is_flag=True, help="Replace a file of --markdown that is there.")
@json_option
@verbose_option
def audit(
    kinds: tuple[RewardKind, ...], answers: int, seed: int, markdown: Path | None, force: bool, as_json: bool
) -> None:
    """Score perturbed answers to BFCL's cases and list where a reward disagrees in order with BFCL's checker.

    Use it when you change or add a reward. The cases come from the bfcl-eval wheel, which pip downloads once.

    \b
    Example:
      star-edge reward audit --reward typed --reward star --answers 500
    """
    from star_edge.errors import ArtifactError
    from star_edge.evaluate.bfcl.cases import load
    from star_edge.rl.audit import audit as run_audit

    if markdown is None and force:
        raise click.UsageError("--force is for --markdown, which is not given")
    if markdown is not None and markdown.exists() and not force:
        raise ArtifactError(f"{markdown}: is there already; give --markdown another file, or --force")
    report = run_audit(tuple(dict.fromkeys(kinds)), load(), answers=answers, seed=seed)
    if markdown is not None:
        _write(report, markdown)
    if as_json:
        echo_json(report)
        return
    from star_edge.report.audit import audit_text

    click.echo(audit_text(report))


def _write(report: AuditReport, path: Path) -> None:
    from importlib.metadata import version

    from star_edge import __version__
    from star_edge.evaluate.bfcl.wheel import VERSION
    from star_edge.manifest import write_atomic
    from star_edge.report.audit import audit_markdown

    rewards = [f"--reward {row.reward}" for row in report.rewards] if len(report.rewards) < len(KINDS) else []
    options = [*rewards, f"--answers {report.answers}", f"--seed {report.seed}", f"--markdown {path}"]
    versions = {"star-edge": __version__, "bfcl-eval": VERSION}
    versions |= {name: version(name) for name in ("rapidfuzz", "rouge-score", "nltk", "scipy")}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(
        path, audit_markdown(report, command=" ".join(["star-edge reward audit", *options]), versions=versions)
    )
