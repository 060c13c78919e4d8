"""The check that a file passes before it is called exported: a few prompts, on its own runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from star_edge.contracts import Bundle, Example, Generation
from star_edge.data.chat import ChatCodec
from star_edge.errors import ExportError, RuntimeFailure
from star_edge.models.load import LoadedModel
from star_edge.parity.compare import ParityReport, compare
from star_edge_device.accuracy import room_for, run_in_subprocess
from star_edge_device.bundle_files import read_chat
from star_edge_device.gates import LARGEST_OVERTURNED_MARGIN
from star_edge_device.runtimes import Runtime, open_runtime


def check_file(
    bundle: Bundle,
    loaded: LoadedModel,
    examples: Sequence[Example],
    torch_generations: Sequence[Generation],
    out: Path,
    *,
    threads: int,
    max_new_tokens: int,
    advance: Callable[[int], None] | None = None,
) -> ParityReport:
    """Answer the examples with the file and compare with torch; what comes back passed.

    The answers are generated in a process of their own (a bad file can crash its engine) and kept in `out`, where
    a validation with the same limits finds them again.

    Args:
        torch_generations: torch's greedy answers to (at least) these examples, under the same `max_new_tokens`.
        out: folder for the answers, see `star_edge_device.accuracy.run_in_subprocess`.
    Raises:
        ExportError: the runtime cannot run the file; the bundle makes other prompt tokens than torch is given; or
            a lossless file overturns a clear decision of torch's.
        RuntimeMissing: the runtime is not installed.
    """
    prompts = _same_prompts(bundle, loaded, examples)
    try:
        length = room_for(bundle, examples, max_new_tokens=max_new_tokens)
        run = run_in_subprocess(
            bundle,
            examples,
            out,
            threads=threads,
            max_new_tokens=max_new_tokens,
            context_length=length,
            advance=advance,
        )
        # Room for all of torch's tokens, which the model's own limit would cut from a long row.
        room = max(generation.prompt_tokens for generation in torch_generations) + max_new_tokens + 1
        runtime = open_runtime(bundle, threads=threads, context_length=max(length, room))
        try:
            for id, text in prompts.items():
                _same_tokens(bundle, loaded, runtime, id, text)
            report = compare(loaded, prompts, torch_generations, run.generations, label=bundle.label, runtime=runtime)
        finally:
            runtime.close()
    except RuntimeFailure as error:
        raise ExportError(str(error)) from error
    refuse_clear_differences(bundle, report)
    return report


def refuse_clear_differences(bundle: Bundle, report: ParityReport) -> None:
    """Raise when a lossless file chose another token than torch where torch was sure.

    Files of fewer bits are let through: what rounding costs them is the validation's to measure. A validation lists
    every difference and judges the same limit as a gate (`star_edge_device.gates.check_margins`).

    Raises: ExportError: names the case, the position and the margin.
    """
    limit = LARGEST_OVERTURNED_MARGIN.get(bundle.quantization)
    if limit is None:
        return
    for difference in report.differences:
        if difference.torch_margin > limit:
            raise ExportError(
                f"{bundle.file}: case {difference.id}, token {difference.position}: the file says "
                f"{difference.file_text!r} where torch says {difference.torch_text!r} by {difference.torch_margin:.2f} "
                f"nats ({bundle.quantization} may overturn {limit}); the exported weights are wrong"
            )


def _same_prompts(bundle: Bundle, loaded: LoadedModel, examples: Sequence[Example]) -> dict[str, str]:
    """Prompt text by case id, as torch is given it; the bundle must render the same."""
    codec, chat = ChatCodec(loaded.tokenizer, loaded.template), read_chat(bundle.folder)
    prompts = {example.id: codec.prompt_text(example) for example in examples}
    for example in examples:
        if chat.prompt(example) != prompts[example.id]:
            raise ExportError(
                f"{bundle.folder}: case {example.id}: the bundle's chat template writes another prompt than the "
                "checkpoint's; export it again"
            )
    return prompts


def _same_tokens(bundle: Bundle, loaded: LoadedModel, runtime: Runtime, id: str, text: str) -> None:
    ours = list(loaded.tokenizer(text, add_special_tokens=False)["input_ids"])
    theirs = runtime.tokenize(text)
    if ours != theirs:
        place = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), len(ours))
        raise ExportError(
            f"{bundle.file}: case {id}: {runtime.name} reads the prompt as {len(theirs)} tokens, torch as {len(ours)}, "
            f"different from token {place} on; the exported tokenizer is wrong"
        )
