"""`star-edge results`: several evaluated checkpoints as one published table."""

from __future__ import annotations

from pathlib import Path

import click

from star_edge.cli.common import echo_json, json_option, verbose_option


@click.command()
@click.argument("rows", metavar="NAME=FOLDER...", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="JSON file, for example docs/results/house.json; the page and the plots go beside it.",
)
@click.option("--curves", multiple=True, metavar="NAME=RUN/STAGE", help="Draw the curves of this training. Repeatable.")
@click.option("--plots/--no-plots", default=True, show_default=True, help="Draw PNG plots (needs matplotlib).")
@click.option("--force", is_flag=True, help="Write over results that are there.")
@json_option
@verbose_option
def results(rows: tuple[str, ...], out: Path, curves: tuple[str, ...], plots: bool, force: bool, as_json: bool) -> None:
    """Collect BFCL scores of checkpoints into a results file, a Markdown page and plots.

    FOLDER is an evaluation: RUN/evaluate/CHECKPOINT/bfcl, whose minutes, steps and seed are read from the run. For one
    made elsewhere, NAME=FOLDER@RUN/STAGE says what was scored. Rows stand in the order given.

    \b
    Example:
      star-edge results base=runs/house/evaluate/base/bfcl CKD=runs/house/evaluate/ckd/bfcl --out house.json
    """
    import shlex

    from star_edge.report.results import headline_table, results_json
    from star_edge.report.tables import plain_table
    from star_edge.results import collect, write_results

    if curves and not plots:
        raise click.UsageError("--curves asks for a plot, and --no-plots for none; leave out one of them")
    options = [word for text in curves for word in ("--curves", text)] + ([] if plots else ["--no-plots"])
    command = shlex.join(["star-edge", "results", *rows, *options, "--out", str(out)])
    found = collect(out.stem, rows, command=command)
    written = write_results(found, out, curves=curves, plots=plots, force=force)
    if as_json:
        echo_json(results_json(found))
        return
    click.echo(plain_table(headline_table(found.rows)))
    for path in written:
        click.echo(f"{path}  {path.stat().st_size / 1024:.0f} KiB")
