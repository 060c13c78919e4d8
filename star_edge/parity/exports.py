"""A checkpoint to bundles, each of which answers a few prompts as torch does before it gets its name."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from star_edge.alone import alone
from star_edge.contracts import Bundle, Checkpoint, Example, ExportConfig, Generation, ModelConfig, ValidateConfig
from star_edge.errors import ArtifactError, ExportError
from star_edge.manifest import LOCK, MANIFEST, hash_json, holds_anything, read_json, replacing, write_atomic
from star_edge.models.adapter import AdapterBase, checkpoint_fingerprints, find_base, open_base
from star_edge.models.load import LoadedModel, load, prepare
from star_edge.models.merge import merge
from star_edge.models.sources import ADAPTER
from star_edge.parity.answers import torch_answers
from star_edge.parity.check import check_file
from star_edge.parity.probes import probe_examples
from star_edge.progress import Progress, or_quiet
from star_edge_export.bundle import Format, bundle_name, model_file, read_bundle, write_bundle

SCRATCH = "scratch"
ANSWERS = "answers"
EXPORT = "export.json"


@dataclass(frozen=True, slots=True)
class _Job:
    """Everything that is the same for every file of an export."""

    checkpoint: Path
    loaded: LoadedModel
    examples: Sequence[Example]
    reference: Sequence[Generation]
    out: Path
    answers: Path
    limits: ValidateConfig
    progress: Progress


def export_all(
    config: ExportConfig,
    limits: ValidateConfig,
    checkpoint: Checkpoint,
    examples: Sequence[Example],
    out: Path,
    *,
    answers: Path,
    device: str,
    progress: Progress | None = None,
) -> list[Bundle]:
    """Write, check and name every file that the recipe asks for; finished bundles in `out` are kept.

    Args:
        limits: threads and longest answer of the check, so that a validation finds its answers again.
        examples: held-out rows; the first `config.parity_cases` are asked.
        out: gets one folder a bundle.
        answers: folder of what this checkpoint and its files said; a validation over it asks nothing twice.
    Raises: ExportError: a file cannot be written or disagrees with torch; it then has no bundle.
    """
    loaded = load(checkpoint, device=device)
    asked = list(examples[: config.parity_cases])
    reference = torch_answers(
        loaded,
        asked,
        torch_store(answers, limits),
        max_new_tokens=limits.max_new_tokens,
        rows_per_forward=limits.rows_per_forward,
        progress=progress,
    )
    job = _Job(checkpoint.folder, loaded, asked, reference, out, answers, limits, or_quiet(progress))
    bundles = [_bundle(job, "gguf", quantization, _write_gguf) for quantization in config.gguf]
    bundles += [_bundle(job, "onnx", quantization, _write_onnx) for quantization in config.onnx]
    return bundles


def torch_store(answers: Path, limits: ValidateConfig, label: str = "") -> Path:
    """Where torch's answers are kept: of the exported checkpoint, or of another one by its label."""
    slug = "".join(c if c.isalnum() else "-" for c in label.lower())
    return answers / f"torch{slug and '-' + slug}-{limits.max_new_tokens}.json"


Writer = Callable[[_Job, str, Path], None]


def _bundle(job: _Job, format: Format, quantization: str, write: Writer) -> Bundle:
    folder = job.out / bundle_name(format, quantization)
    if (folder / MANIFEST).exists():
        return read_bundle(folder)
    started = time.monotonic()
    with replacing(folder) as partial:
        partial.mkdir()
        write(job, quantization, model_file(partial, format))
        bundle = write_bundle(
            partial, job.checkpoint, format=format, quantization=quantization, seconds=time.monotonic() - started
        )
        report = check_file(
            bundle,
            job.loaded,
            job.examples,
            job.reference,
            job.answers / folder.name,
            threads=job.limits.threads,
            max_new_tokens=job.limits.max_new_tokens,
        )
    same = f"{round(report.agreement * report.n)} of {report.n} answers are torch's token for token"
    if report.differences:
        same += f"; the others part where torch's two tokens are at most {report.largest_margin:.2f} nats apart"
    job.progress.line(f"  {bundle.label}: {bundle.size_bytes / 2**20:.1f} MiB, {same}")
    return read_bundle(folder, check_hashes=False)


def _write_gguf(job: _Job, quantization: str, file: Path) -> None:
    from star_edge_export.gguf import export_gguf
    from star_edge_export.quantize import quantize_gguf

    if quantization == "F16":
        export_gguf(job.checkpoint, file)
        return
    source = _made(job, "gguf", "F16", lambda path: export_gguf(job.checkpoint, path))
    quantize_gguf(source, file, quantization, threads=job.limits.threads)


def _write_onnx(job: _Job, quantization: str, file: Path) -> None:
    from star_edge_export.onnx import export_onnx, quantize_int8

    if quantization == "fp32":
        export_onnx(job.checkpoint, file.parent)
        return
    source = _made(job, "onnx", "fp32", lambda path: export_onnx(job.checkpoint, path.parent))
    quantize_int8(source, file)


def _made(job: _Job, format: Format, quantization: str, write: Callable[[Path], object]) -> Path:
    """The unquantised file: the bundle's when it is wanted itself, else one in the scratch folder."""
    bundled = model_file(job.out / bundle_name(format, quantization), format)
    if bundled.exists():
        return bundled
    scratch = model_file(job.out / SCRATCH / format, format)
    if not scratch.exists():
        with replacing(scratch.parent) as partial:
            partial.mkdir()
            write(model_file(partial, format))
    return scratch


def export_checkpoint(
    config: ExportConfig,
    folder: Path,
    out: Path,
    *,
    base: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[Bundle]:
    """Export a model made elsewhere: a Hugging Face folder, or a LoRA adapter.

    Args:
        out: folder for the bundles, of this very model; `model/` in it holds the merged or completed checkpoint, and
            `export.json` says what it is an export of. Finished bundles in it are kept.
        base: the model that the adapter sits on; null for the one that it names.
    Raises:
        ModelError: the folder is no model, or an adapter's base is not there or another one.
        ArtifactError: `out` holds something else, or another process works there. ExportError: as export_all.
    """
    if not folder.is_dir():
        raise ExportError(f"{folder}: no such folder; give a checkpoint, for example runs/quickstart/merge/model")
    limits = ValidateConfig(threads=1, max_new_tokens=48)
    on = find_base(folder, base) if (folder / ADAPTER).is_file() else None
    if base is not None and on is None:
        raise ExportError(f"{folder}: no LoRA adapter (no {ADAPTER} in it), so it sits on no base; leave --base out")
    if holds_anything(out) and not (out / EXPORT).exists():  # before a lock of ours lies in it
        raise ArtifactError(f"{out}: exists and is not an export of star-edge; choose another --out")
    with alone(out, out / LOCK):
        _claim(out, folder, hash_json({"source": checkpoint_fingerprints(folder, on), "limits": limits}))
        checkpoint = _model_folder(folder, on, out)
        bundles = export_all(
            config, limits, checkpoint, probe_examples(), out, answers=out / ANSWERS, device=device, progress=progress
        )
        shutil.rmtree(out / SCRATCH, ignore_errors=True)
    return bundles


def _claim(out: Path, folder: Path, key: str) -> None:
    """Write what `out` is an export of, before anything else is in it; refuse the export of something else."""
    record = out / EXPORT
    if not record.exists():
        write_atomic(record, json.dumps({"key": key, "source": str(folder)}, ensure_ascii=False) + "\n")
        return
    known = read_json(record)
    if known.get("key") != key:
        raise ArtifactError(
            f"{out}: holds the export of another model ({known.get('source')}, or an earlier state of it); "
            "choose another --out"
        )


def _model_folder(folder: Path, base: AdapterBase | None, out: Path) -> Checkpoint:
    """A folder with all an export reads: the adapter merged, a template that shows the tools."""
    model = out / "model"
    if base is None:
        return prepare(ModelConfig(source=str(folder)), model)
    return merge(Checkpoint(folder, "adapter", open_base(base, out / SCRATCH / "base")), model)
