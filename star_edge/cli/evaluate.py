"""`star-edge evaluate`: a checkpoint's answers to a suite, and their scores."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from star_edge.cli.common import base_option, json_option, out_option, prepare_process, verbose_option
from star_edge.cli.score import FILE, print_scores, reference_scores, suite_options


@click.command()
@click.argument("checkpoint")
@suite_options
@click.option(
    "--backend",
    type=click.Choice(["auto", "vllm", "transformers", "file"]),
    default="auto",
    show_default=True,
    help="What answers; auto is vllm on a GPU that has it, else transformers, and file for a bundle.",
)
@base_option
@click.option("--revision", metavar="COMMIT", help="Commit or tag of a hub id, which needs one.")
@click.option(
    "--chat-template",
    type=click.Choice(["auto", "model", "hermes"]),
    default="auto",
    show_default=True,
    help="The model's own, ours, or (auto) the model's own where it shows the tools.",
)
@click.option(
    "--plain-text-token",
    "plain_text_tokens",
    multiple=True,
    metavar="TOKEN",
    help="Added token that the model is to read as ordinary text, such as <tool_call>. Repeatable.",
)
@click.option("--max-new-tokens", default=512, show_default=True, type=click.IntRange(min=1), help="Longest answer.")
@click.option(
    "--rows-per-forward",
    default=16,
    show_default=True,
    type=click.IntRange(min=1),
    help="Batch size of transformers.",
)
@click.option(
    "--vllm-memory-share",
    default=0.9,
    show_default=True,
    type=click.FloatRange(min=0, max=1, min_open=True),
    help="Share of the GPU's memory for vLLM. Less than the default says that something else runs there.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where transformers runs.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads on a CPU.  [default: 1 for a file, else torch's choice]"
)
@out_option("Folder of answers and scores.  [default: evaluations/<checkpoint>-<suite>]")
@click.option("--compare", type=FILE, help="Outputs of another model: print the paired differences from them.")
@click.option("--force", is_flag=True, help="Throw away answers in --out that were made otherwise.")
@json_option
@verbose_option
def evaluate(
    checkpoint: str,
    suite_name: str,
    categories: tuple[str, ...],
    limit: int | None,
    out: Path | None,
    compare: Path | None,
    force: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Answer a suite with a checkpoint, greedily, and score the answers with intervals.

    CHECKPOINT is a model folder, a LoRA adapter folder (a published one too), a hub id, a .gguf file, an exported
    bundle, or the folder of a run's stage that left a checkpoint. Answers are kept one by one in --out: the same
    command goes on where it was stopped.

    \b
    Example:
      star-edge evaluate runs/quickstart/merge/model --suite bfcl --limit 20
    """
    prepare_process()
    import msgspec

    from star_edge.answering.backend import AnswerConfig
    from star_edge.answering.evaluation import default_out
    from star_edge.answering.evaluation import evaluate as run
    from star_edge.evaluate.suites import open_suite
    from star_edge.progress import Progress

    suite = open_suite(suite_name, categories=categories, limit=limit)
    reference = reference_scores(suite, compare)  # what is wrong with it shows before hours of answers
    folder = out or default_out(checkpoint, suite_name)
    config = msgspec.convert(settings, AnswerConfig)
    found = run(checkpoint, suite, config, folder, force=force, progress=Progress())
    print_scores(found.scores, reference, as_json=as_json)
    if found.cut:
        click.echo(f"{found.cut} answers ended at a length limit, not by themselves", err=True)
    narrowed = [word for category in categories for word in ("--category", category)]
    narrowed += ["--limit", str(limit)] if limit else []
    words = ["star-edge", "score", "--suite", suite_name, "--outputs", str(found.outputs), "--compare", "OTHER.jsonl"]
    click.echo(f"next: {shlex.join([*words, *narrowed])}", err=True)
