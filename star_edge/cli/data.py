"""`star-edge data`: look at rows before they are trained on."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from pathlib import Path

import click

from star_edge.cli.common import echo_json, json_option, out_option, prepare_process, set_option, verbose_option
from star_edge.contracts import Example

FILE = click.Path(exists=False, dir_okay=False, path_type=Path)


@click.group()
def data() -> None:
    """Check, generate, mix, label and compare training rows.

    \b
    Example:
      star-edge data check my-rows.jsonl.gz
    """


@data.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@json_option
@verbose_option
def check(files: tuple[Path, ...], as_json: bool) -> None:
    """Read JSONL rows and report what a run would refuse, with file, line and reason.

    Exit code 1 when any row is bad.

    \b
    Example:
      star-edge data check calls.jsonl more.jsonl.gz
    """
    from star_edge.data.normalise import read_examples_strictly

    good: list[Example] = []
    bad: list[str] = []
    for file in files:
        for item in read_examples_strictly(file):
            if isinstance(item, str):
                bad.append(item)
            else:
                good.append(item)
    kinds = Counter("calls" if item.target_calls else "reply" for item in good)
    if as_json:
        echo_json({"good": len(good), "bad": len(bad), "kinds": kinds, "reasons": bad})
    else:
        for reason in bad[:20]:
            click.echo(reason)
        if len(bad) > 20:
            click.echo(f"... and {len(bad) - 20} more")
        click.echo(f"{len(good)} good rows ({', '.join(f'{n} {k}' for k, n in sorted(kinds.items()))}), {len(bad)} bad")
    click.get_current_context().exit(1 if bad else 0)


@data.command()
@click.argument("grammar", type=FILE)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the rows.")
@click.option("--seed", default=17, show_default=True, help="Seed of the generator.")
@click.option("--force", is_flag=True, help="Write over rows that are there.")
@verbose_option
def synth(grammar: Path, out: Path, seed: int, force: bool) -> None:
    """Write the rows that a request grammar generates, to read them or to train elsewhere.

    \b
    Example:
      star-edge data synth recipes/quickstart/requests.yaml --out rows
    """
    from star_edge.data.rows import write_examples
    from star_edge.data.synth import generate, read_grammar
    from star_edge.errors import ArtifactError
    from star_edge.recipe import packaged_folder

    packaged = packaged_folder() / str(grammar).removeprefix("recipes/")
    path = packaged if packaged.is_file() and not grammar.exists() else grammar
    train, heldout = generate(read_grammar(path), seed=seed, where=str(path))
    if any((out / f"{name}.jsonl").exists() for name in ("train", "heldout")) and not force:
        raise ArtifactError(f"{out}: holds rows already; choose another --out, or --force")
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("heldout", heldout)):
        write_examples(out / f"{name}.jsonl", rows)
        click.echo(f"{out / name}.jsonl  {len(rows)} rows")


@data.command()
@click.argument("recipe")
@out_option("Folder for the rows and their summary.", required=True)
@set_option
@click.option("--force", is_flag=True, help="Write over rows that are there.")
@json_option
@verbose_option
def mix(recipe: str, out: Path, overrides: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Make the rows of a recipe, and nothing else, and print what they are.

    Use it to look at a data section before a run is paid for: kinds, sources, lengths, what was dropped and why, and
    overlap with an evaluation. Of the student only the tokenizer is read. A run of the recipe makes the same rows.

    \b
    Example:
      star-edge data mix my-recipe.yaml --out mixed --set data.folder=rows --set data.mix.rows=4000
    """
    # One long pass of the tokenizer, and no process is forked after it: its threads are safe and twice as fast.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    prepare_process()
    from star_edge import recipe as recipes
    from star_edge.data.build import build
    from star_edge.data.chat import codec_of
    from star_edge.data.table import read_table
    from star_edge.errors import ArtifactError
    from star_edge.manifest import read_json
    from star_edge.progress import Progress

    loaded = recipes.load(recipes.find(recipe), overrides)
    if (out / "summary.json").exists() and not force:
        raise ArtifactError(f"{out}: holds rows already; choose another --out, or --force")
    codec = codec_of(loaded.recipe.student)
    build(loaded.recipe.data, codec, out, seed=loaded.recipe.seed, recipe_folder=loaded.folder, progress=Progress())
    if as_json:
        echo_json(read_json(out / "summary.json"))
        return
    click.echo(read_table(out))
    click.echo(f"next: star-edge distill {shlex.quote(recipe)}", err=True)


@data.command()
@click.argument("train", type=FILE)
@click.argument("evaluation", type=FILE)
@click.option("--skip-bad", is_flag=True, help="Leave unreadable rows out and say how many on stderr.")
@json_option
@verbose_option
def overlap(train: Path, evaluation: Path, skip_bad: bool, as_json: bool) -> None:
    """Count training rows whose request is also in an evaluation file (exact, and by shared 13-word runs).

    \b
    Example:
      star-edge data overlap runs/quickstart/data/train.jsonl runs/quickstart/data/heldout.jsonl
    """
    from star_edge.data.normalise import read_evaluation, refuse_bad
    from star_edge.data.overlap import overlap as compare

    rows = []
    for file in (train, evaluation):
        good, bad = read_evaluation(file)
        if not skip_bad:
            refuse_bad(file, good, bad, remedy="mend them, or leave them out with --skip-bad")
        elif bad:
            click.echo(f"{file}: {len(bad)} bad rows skipped", err=True)
        rows.append(good)
    found = compare(*rows)
    if as_json:
        echo_json(found)
        return
    click.echo(
        f"exact {found.exact}, 13-word {found.ngram}, of {len(rows[0])} training and {len(rows[1])} evaluation rows"
    )
