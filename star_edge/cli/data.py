"""`star-edge data`: look at rows before they are trained on."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable
from functools import reduce
from pathlib import Path
from typing import Any

import click

from star_edge.cli.common import (
    Command,
    echo_json,
    json_option,
    out_option,
    prepare_process,
    set_option,
    verbose_option,
)
from star_edge.contracts import Example

FILE = click.Path(exists=False, dir_okay=False, path_type=Path)


@click.group()
def data() -> None:
    """Check, generate, mix, label, write and compare training rows.

    \b
    Example:
      star-edge data check my-rows.jsonl.gz
    """


@data.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--prompts", is_flag=True, help="The files hold prompts without an answer, for data.unlabelled.")
@json_option
@verbose_option
def check(files: tuple[Path, ...], prompts: bool, as_json: bool) -> None:
    """Read JSONL rows and report what a run would refuse, with file, line and reason.

    Exit code 1 when any row is bad.

    \b
    Example:
      star-edge data check calls.jsonl more.jsonl.gz
    """
    from star_edge.data.normalise import read_normalised, read_prompts
    from star_edge.data.sources import BadRow
    from star_edge.errors import DataError

    good: list[Example] = []
    bad: list[str] = []
    for file in files:
        for _, item in (read_prompts if prompts else read_normalised)(file):
            if isinstance(item, BadRow):
                bad.append(str(item))
            else:
                good.append(item)
    if not good and not bad:
        raise DataError(f"{', '.join(map(str, files))}: no rows; give a file with at least one line")
    kinds = Counter("prompts" if prompts else "calls" if item.target_calls else "reply" for item in good)
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
    words = ["star-edge", "distill", recipe, *(word for value in overrides for word in ("--set", value))]
    click.echo(f"next: {shlex.join(words)}", err=True)


def _refuse_own_input(out: Path, *inputs: Path) -> None:
    """Raises: click.UsageError: what `--out` makes is a file that is read, which `--force` would write over."""
    if out.resolve() in {path.resolve() for path in inputs}:
        raise click.UsageError(f"--out writes to {out}, a file that this command reads; choose another")


def _read_all(files: Iterable[Path]) -> list[Example]:
    """Raises: DataError: a row that is none."""
    from star_edge.data.normalise import read_evaluation, refuse_bad

    rows = []
    for file in files:
        good, bad = read_evaluation(file)
        refuse_bad(file, good, bad, remedy="mend them or take them out")
        rows += good
    return rows


def _sampling_options(*, what: str, temperature: float, max_new_tokens: int) -> Callable[[Command], Command]:
    """What `label` and `write` ask about the model and its samples, with defaults of their own."""
    above_zero = click.IntRange(min=1)
    options = (
        click.option("--model", required=True, help="Model folder, LoRA adapter folder, hub id or .gguf file."),
        click.option("--revision", metavar="COMMIT", help="Commit or tag of a hub id, which needs one."),
        click.option("--out", type=FILE, required=True, help="File for the rows; samples are kept beside it."),
        click.option("--samples", default=4, show_default=True, type=above_zero, help=f"Completions a {what}."),
        click.option(
            "--temperature",
            default=temperature,
            show_default=True,
            type=click.FloatRange(0.0, min_open=True),
            help="Of the sampling.",
        ),
        click.option(
            "--max-new-tokens", default=max_new_tokens, show_default=True, type=above_zero, help="Longest answer."
        ),
        click.option(
            "--rows-per-forward",
            default=16,
            show_default=True,
            type=above_zero,
            help="Completions that transformers draws together.",
        ),
        click.option(
            "--backend",
            type=click.Choice(["auto", "vllm", "transformers"]),
            default="auto",
            show_default=True,
            help="What samples; auto is vllm on a GPU that has it, else transformers.",
        ),
        click.option(
            "--limit",
            type=above_zero,
            help=f"Take the first N {what}s; a wider limit asks only the new ones.  [default: all]",
        ),
        click.option("--seed", default=17, show_default=True, help="Seed of the sampling."),
        click.option(
            "--force",
            is_flag=True,
            help="Write over rows, and throw away samples that were drawn otherwise; others are kept.",
        ),
    )
    return lambda command: reduce(lambda inner, option: option(inner), reversed(options), command)


@data.command()
@click.argument("prompts", type=FILE)
@_sampling_options(what="prompt", temperature=1.0, max_new_tokens=256)
@click.option(
    "--agreement",
    default=0.75,
    show_default=True,
    type=click.FloatRange(0.0, 1.0, min_open=True),
    help="Share of the samples that must make the same calls. More: fewer rows, with fewer mistakes.",
)
@json_option
@verbose_option
def label(prompts: Path, model: str, out: Path, limit: int | None, force: bool, as_json: bool, **settings: Any) -> None:
    """Label prompts with the calls that a model's own samples agree on.

    Use it to make training rows of requests that have no answer. A prompt is kept when enough of its samples parse,
    name only what is offered, and make the same calls. The same command goes on where it was stopped.

    \b
    Example:
      star-edge data label prompts.jsonl --model runs/big/merge/model --out labelled.jsonl --samples 8
    """
    _refuse_own_input(out, prompts)
    prepare_process()
    from star_edge.answering.labels import LabelConfig
    from star_edge.answering.labels import label as label_prompts
    from star_edge.data.normalise import read_unlabelled, refuse_bad
    from star_edge.progress import Progress

    good, bad = read_unlabelled(prompts)
    refuse_bad(prompts, good, bad, remedy="mend them or take them out")
    config = LabelConfig(**settings)
    done = label_prompts(good, model, config, out, limit=limit, force=force, progress=Progress())
    if as_json:
        echo_json(done)
        return
    too_long = f", {done.without_room} too long" if done.without_room else ""
    click.echo(f"{out}  {done.rows} rows; {done.disagreed} without agreement{too_long}")
    click.echo("next: name the file under data.train of a recipe", err=True)


@data.command()
@click.argument("tools", type=FILE)
@click.option("--like", "examples", type=FILE, required=True, multiple=True, help="Rows to show. Repeatable.")
@_sampling_options(what="function", temperature=0.8, max_new_tokens=256)
@click.option(
    "--parallel-share",
    default=0.3,
    show_default=True,
    type=click.FloatRange(0.0, 1.0),
    help="Share of the functions asked for in two to four calls at once, and of those whose requests are joined.",
)
@click.option(
    "--heldout-share",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0.0, 1.0, max_open=True),
    help="Share of the functions whose rows go to OUT's name with .dev before its suffix, to measure on.",
)
@click.option(
    "--prompts-too",
    is_flag=True,
    help="Write requests whose arguments were not kept to OUT's name with .prompts before its suffix.",
)
@json_option
@verbose_option
def write(
    tools: Path,
    examples: tuple[Path, ...],
    model: str,
    out: Path,
    parallel_share: float,
    heldout_share: float,
    prompts_too: bool,
    limit: int | None,
    force: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Let a model write rows for functions that have none.

    Use it to widen the functions that are trained on: TOOLS has one a line. The model is shown some rows, chooses
    arguments for a function and writes what a person would have said; then it reads the arguments off those words. A
    pair is kept when they come back the same, fit the schema, and have their numbers and most words in the request. The
    same command goes on where it was stopped.

    \b
    Example:
      star-edge data write tools.jsonl.gz --like rows.jsonl.gz --model models/big.gguf --out written.jsonl
    """
    prepare_process()
    from star_edge.answering.samples import SamplingConfig
    from star_edge.answering.writing import files_beside, write_rows
    from star_edge.data.tool_pool import read_tool_pool
    from star_edge.progress import Progress

    for path in (out, *files_beside(out)):
        _refuse_own_input(path, tools, *examples)
    done = write_rows(
        read_tool_pool(tools).tools,
        _read_all(examples),
        model,
        SamplingConfig(**settings, seeded_requests=False),
        out,
        parallel_share=parallel_share,
        heldout_share=heldout_share,
        prompts_too=prompts_too,
        limit=limit,
        force=force,
        progress=Progress(),
    )
    if as_json:
        echo_json(done)
        return
    too_long = f", {done.without_room} functions too long" if done.without_room else ""
    heldout = f" and {done.heldout_rows} held-out rows" if heldout_share else ""
    alone = f"; {done.prompts} requests without an answer" if prompts_too else ""
    click.echo(
        f"{out}  {done.rows} rows{heldout} of {done.functions} functions; "
        f"{done.kept} of {done.samples} samples kept{too_long}{alone}"
    )
    dev, prompts = files_beside(out)
    beside = [f"{dev} under data.heldout"] if heldout_share else []
    beside += [f"{prompts} under data.unlabelled"] if prompts_too else []
    also = "".join(f", {each}" for each in beside)
    click.echo(f"next: name the file under data.train of a recipe{also}", err=True)


@data.command()
@click.argument("train", type=FILE)
@click.argument("evaluation", type=FILE)
@click.option("--skip-bad", is_flag=True, help="Leave unreadable rows out and say how many on stderr.")
@json_option
@verbose_option
def overlap(train: Path, evaluation: Path, skip_bad: bool, as_json: bool) -> None:
    """Count training rows whose request is also in an evaluation file (exact, and by shared 13-word runs).

    Exact are last requests of four words and more: shorter replies are alike in any two dialogues.

    \b
    Example:
      star-edge data overlap runs/quickstart/data/train.jsonl runs/quickstart/data/heldout.jsonl
    """
    from star_edge.data.normalise import read_evaluation, refuse_bad
    from star_edge.data.overlap import SHORTEST_REQUEST
    from star_edge.data.overlap import overlap as compare

    rows = []
    for file in (train, evaluation):
        good, bad = read_evaluation(file)
        if not skip_bad:
            refuse_bad(file, good, bad, remedy="mend them, or leave them out with --skip-bad")
        elif bad:
            click.echo(f"{file}: {len(bad)} bad rows skipped", err=True)
        rows.append(good)
    found = compare(*rows, shortest=SHORTEST_REQUEST)
    if as_json:
        echo_json(found)
        return
    click.echo(
        f"exact {found.exact}, 13-word {found.ngram}, of {len(rows[0])} training and {len(rows[1])} evaluation rows"
    )
