"""`star-edge export`: a checkpoint to files a device can run."""

from __future__ import annotations

from pathlib import Path

import click

from star_edge.cli.common import base_option, echo_json, json_option, prepare_process, verbose_option


@click.command()
@click.argument("checkpoint", type=click.Path(file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the bundles.")
@base_option
@click.option("--gguf", multiple=True, metavar="QUANT", help="F16, Q8_0, Q6_K, Q5_K_M, Q4_K_M or Q4_0. Repeatable.")
@click.option("--onnx", multiple=True, metavar="QUANT", help="fp32 or int8. Repeatable.")
@json_option
@verbose_option
def export(
    checkpoint: Path, out: Path, base: str | None, gguf: tuple[str, ...], onnx: tuple[str, ...], as_json: bool
) -> None:
    """Write GGUF and ONNX bundles of a checkpoint folder: a full model, or a LoRA adapter (a published one too).

    Without --gguf and --onnx it writes F16, Q8_0, Q4_K_M, fp32 and int8.

    Use it for a model trained elsewhere; `star-edge distill` exports what it trains. Every file is opened on its own
    runtime and compared with the checkpoint before it counts as done.

    \b
    Example:
      star-edge export runs/quickstart/merge/model --gguf Q8_0 --onnx int8 --out bundles
    """
    prepare_process()
    import shlex
    from typing import get_args

    import msgspec

    from star_edge.contracts import ExportConfig, GgufQuantization, OnnxQuantization
    from star_edge.parity.exports import export_checkpoint
    from star_edge.progress import Progress

    chosen = {"gguf": gguf, "onnx": onnx} if gguf or onnx else {}
    try:
        config = msgspec.convert(chosen, ExportConfig)
    except msgspec.ValidationError as error:
        problem = str(error).split(" - at ")[0]
        choices = ", ".join((*get_args(GgufQuantization), *get_args(OnnxQuantization)))
        raise click.UsageError(f"{problem}; there are {choices}") from None
    bundles = export_checkpoint(config, checkpoint, out, base=base, progress=Progress())
    if as_json:
        echo_json(bundles)
        return
    for bundle in bundles:
        click.echo(f"{bundle.folder}  {bundle.size_bytes / 2**20:.1f} MiB")
    folder = shlex.quote(str(bundles[0].folder))
    click.echo(f"next: star-edge validate {folder} --cases held-out.jsonl --out answers", err=True)
