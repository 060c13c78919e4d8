"""`star-edge publish`: a run's adapter, small enough to be kept with the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from star_edge.cli.common import echo_json, json_option, out_option, prepare_process, verbose_option


@click.command()
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@out_option("Folder for the adapter, for example recipes/NAME/adapter.", required=True)
@click.option(
    "--stage",
    type=click.Choice(["ckd", "sim-rl"]),
    default="sim-rl",
    show_default=True,
    help="Whose checkpoint of the student.",
)
@click.option("--force", is_flag=True, help="Replace a published adapter whatever the dev scores say.")
@json_option
@verbose_option
def publish(run: Path, out: Path, stage: Any, force: bool, as_json: bool) -> None:
    """Write the LoRA adapter of a run in bfloat16, at most 10 MB, with the base it belongs to and its scores.

    An adapter that is there already is replaced by one that gets at least 2 points more of the dev split right.
    `export` and `evaluate` take the folder as CHECKPOINT.

    \b
    Example:
      star-edge publish runs/house --out recipes/house/adapter
    """
    prepare_process()
    import shlex

    from star_edge.publish import publish as write

    size = write(run, out, stage=stage, force=force)
    if as_json:
        echo_json({"folder": out, "bytes": size})
    else:
        click.echo(f"{out}  {size / 1e6:.2f} MB")
    folder = shlex.quote(str(out))
    click.echo(f"next: star-edge evaluate {folder} --suite bfcl    (--base MODEL says where the base is)", err=True)
