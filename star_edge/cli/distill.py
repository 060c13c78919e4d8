"""`star-edge distill`: the whole chain."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from star_edge.cli.common import (
    echo_json,
    json_option,
    out_option,
    prepare_process,
    set_option,
    set_words,
    verbose_option,
)

if TYPE_CHECKING:
    from star_edge.engine import Stage
    from star_edge.recipe import LoadedRecipe


@click.command()
@click.argument("recipe")
@out_option("Folder of the run.  [default: runs/<recipe name>]")
@set_option
@click.option("--until", metavar="STAGE", help="Stop after this stage (see --dry-run for their names).")
@click.option(
    "--from",
    "take_from",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="RUN",
    help="Take over what this other run has finished under the same settings, its teacher for example.",
)
@click.option("--force", is_flag=True, help="Reuse a folder made by another recipe; stages that changed are redone.")
@click.option("--dry-run", is_flag=True, help="Print the resolved recipe and what is already done; run nothing.")
@json_option
@verbose_option
def distill(
    recipe: str,
    out: Path | None,
    overrides: tuple[str, ...],
    until: str | None,
    take_from: Path | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make a small function-calling model from a recipe and prove its exported files.

    Use it to run the whole chain: adapt the teacher, distil, reinforce, export, validate. The same command goes on
    where a run was stopped. Exit code 3 means that everything ran and a gate of the recipe failed.

    \b
    Example:
      star-edge distill quickstart --set validate.cases=200
      star-edge distill house.yaml --out runs/fkl --from runs/house --set distill.objective=fkl
    """
    from star_edge import recipe as recipes

    _check_stage(until)
    loaded = recipes.load(recipes.find(recipe), overrides)
    folder = out or Path("runs") / loaded.recipe.name
    if dry_run:
        _print_plan(loaded, folder, until, take_from, as_json)
        return
    command = shlex.join(["star-edge", "distill", str(loaded.path), *set_words(overrides), "--out", str(folder)])
    _run(loaded, folder, until, force, take_from, command, as_json)


def _check_stage(name: str | None) -> None:
    from star_edge import pipeline

    if name is not None and name not in pipeline.STAGE_NAMES:
        raise click.BadParameter(
            f"{name!r} is no stage; there are: {', '.join(pipeline.STAGE_NAMES)}", param_hint="--until"
        )


def _print_plan(loaded: LoadedRecipe, folder: Path, until: str | None, take_from: Path | None, as_json: bool) -> None:
    from star_edge import engine, pipeline
    from star_edge.manifest import plain
    from star_edge.recipe import to_yaml

    planned = pipeline.plan(loaded, folder, until=until, take_from=take_from)
    if line := engine.first_not_taken(planned, take_from):
        click.echo(line, err=True)
    stages = [
        {
            "stage": item.stage.name,
            "state": item.state,
            "what": item.stage.what,
            "does_nothing": _does_nothing(item.stage, loaded),
        }
        for item in engine.up_to(planned, until)
    ]
    if as_json:
        lost = engine.lost_stages(planned, folder)
        echo_json({"folder": str(folder), "stages": stages, "needs_force": lost, "recipe": plain(loaded.recipe)})
        return
    click.echo(to_yaml(loaded.recipe))
    click.echo(f"# run folder: {folder}")
    for stage in stages:
        source = f" from {take_from}" if stage["state"] == "take" else ""
        idle = "; nothing to do under this recipe" if stage["does_nothing"] else ""
        click.echo(f"# {stage['stage']:<10} {stage['state']:<9} {stage['what']}{source}{idle}")
    if line := engine.lost_work(planned, folder):
        click.echo(f"# needs --force: {line}")


def _does_nothing(stage: Stage, loaded: LoadedRecipe) -> bool:
    """Whether the recipe leaves a stage without work; `prepare` says so, and a stage without one always has some."""
    return stage.prepare is not None and stage.prepare(loaded.recipe) is None


def _run(
    loaded: LoadedRecipe,
    folder: Path,
    until: str | None,
    force: bool,
    take_from: Path | None,
    command: str,
    as_json: bool,
) -> None:
    """`command` is what goes on with this very run."""
    prepare_process()
    from star_edge import engine, launch, pipeline
    from star_edge.progress import Progress

    progress = Progress(quiet=launch.rank() > 0)
    run = engine.Run(loaded, folder, pipeline.resolve_device(loaded.recipe.device), progress)
    pipeline.execute(run, until=until, force=force, take_from=take_from)
    if launch.rank() > 0:
        return
    if until is not None and until != pipeline.STAGE_NAMES[-1]:
        if as_json:
            echo_json({"folder": str(folder), "until": until, "artifact": str(folder / until)})
        else:
            click.echo(folder / until)
        progress.line(f"next: {command}")
        return
    from star_edge.cli.report import publish

    publish(loaded.recipe, folder, command=command, as_json=as_json)
