"""`star-edge validate`: one exported file against rows it has not seen."""

from __future__ import annotations

from pathlib import Path

import click

from star_edge.cli.common import echo_json, json_option, prepare_process, verbose_option


@click.command()
@click.argument("bundle", type=click.Path(file_okay=False, path_type=Path))
@click.option("--cases", type=click.Path(dir_okay=False, path_type=Path), required=True, help="JSONL rows to answer.")
@click.option("--limit", type=click.IntRange(min=1), help="Use the first N rows.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1), help="Threads of the runtime.")
@click.option("--max-new-tokens", default=128, show_default=True, type=click.IntRange(min=1), help="Longest answer.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the answers.")
@json_option
@verbose_option
def validate(
    bundle: Path, cases: Path, limit: int | None, threads: int, max_new_tokens: int, out: Path, as_json: bool
) -> None:
    """Measure accuracy and latency of one exported bundle on its own runtime.

    Use it on the machine the file is meant for. Answers are kept in --out, so a stopped run goes on.

    \b
    Example:
      star-edge validate runs/quickstart/export/gguf-Q8_0 \\
        --cases runs/quickstart/data/heldout.jsonl --limit 60 --out answers
    """
    prepare_process()
    from star_edge.data.normalise import read_evaluation, refuse_bad
    from star_edge.parity.validation import validate_bundle
    from star_edge.progress import Progress
    from star_edge.report.tables import terminal
    from star_edge_export.bundle import read_bundle

    exported = read_bundle(bundle)
    rows, bad = read_evaluation(cases)
    refuse_bad(cases, rows, bad, remedy="mend or remove them; `star-edge data check` lists all")
    row = validate_bundle(
        exported,
        rows[:limit],
        out,
        threads=threads,
        max_new_tokens=max_new_tokens,
        progress=Progress(),
    )
    if as_json:
        echo_json(row)
        return
    click.echo(terminal([row]))
