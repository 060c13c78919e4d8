"""`star-edge parity`: where the files of a run differ from torch."""

from __future__ import annotations

from pathlib import Path

import click

from star_edge.cli.common import echo_json, json_option, verbose_option


@click.command()
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@json_option
@verbose_option
def parity(run: Path, as_json: bool) -> None:
    """List the cases in which an exported file's answer is not torch's, with the margin between the two tokens.

    Use it when a file scores below the checkpoint: near-ties are rounding, clear decisions are a broken file.

    \b
    Example:
      star-edge parity runs/quickstart
    """
    from star_edge.report.tables import difference_table, parity_table, plain_table
    from star_edge.report.write import read_report

    rows = read_report(run).parity
    if as_json:
        echo_json(list(rows))
        return
    click.echo(plain_table(parity_table(rows)))
    for row in rows:
        if row.differences:
            click.echo(f"\n{row.label}")
            click.echo(plain_table(difference_table(row.differences)))
