"""An adapter small enough to be kept beside its recipe: bfloat16 weights, and a record of the base they belong to.

OUT/adapter_model.safetensors   bfloat16
OUT/adapter_config.json         peft's, the base named as the recipe names it
OUT/published.json              base, hashes, recipe, scores (`star_edge.models.adapter` reads it)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from star_edge import __version__
from star_edge.contracts import Checkpoint, ModelConfig
from star_edge.errors import ArtifactError, ModelError
from star_edge.manifest import hash_json, plain, read_json, replacing, write_atomic
from star_edge.models.adapter import RECORD, BaseRecord, weights_hash
from star_edge.models.folder import read_template, tokenizer_fingerprint
from star_edge.models.load import ADAPTER_WEIGHTS
from star_edge.models.sources import ADAPTER, find_source

SCHEMA = 1
LARGEST_BYTES = 10_000_000
LEAST_GAIN = 0.02
DEV = "heldout"


def publish_adapter(
    checkpoint: Checkpoint,
    student: ModelConfig,
    facts: Mapping[str, Any],
    scores: Mapping[str, Any],
    out: Path,
    *,
    force: bool = False,
) -> int:
    """Write a LoRA checkpoint as a published adapter, whole or not at all.

    Args:
        checkpoint: its base is the folder that was made of `student`.
        student: the recipe's settings of the base.
        facts: what else the record is to say (recipe, stage, seed).
        scores: suite -> `{"version", "cases", "right", ...}`; the rows of `DEV` decide about a replacement.
        out: new, or a published adapter that this one is better than.
        force: replace it whatever the scores are.
    Returns: size in bytes.
    Raises: ModelError: no adapter, its base is not there, or it is too large.
        ArtifactError: `out` holds something else, or an adapter that is not clearly worse.
    """
    if checkpoint.base is None:
        raise ModelError(
            f"{checkpoint.folder}: a whole model, and only adapters are published; set tuning.method: lora"
        )
    base = _base_record(student, checkpoint.base)
    _check_place(out, scores, force=force)
    with replacing(out) as partial:
        partial.mkdir()
        _write_weights(checkpoint.folder, partial)
        settings = read_json(checkpoint.folder / ADAPTER)
        settings |= {"base_model_name_or_path": base.model.source, "revision": base.model.revision}
        write_atomic(partial / ADAPTER, json.dumps(settings, indent=1, sort_keys=True) + "\n")
        record = {"schema": SCHEMA, "star_edge": __version__, **facts, "base": base, "scores": scores}
        write_atomic(partial / RECORD, json.dumps(plain(record), indent=1, ensure_ascii=False) + "\n")
        size = sum(file.stat().st_size for file in partial.iterdir())
        if size > LARGEST_BYTES:
            raise ModelError(
                f"{checkpoint.folder}: {size / 1e6:.1f} MB as bfloat16, more than the {LARGEST_BYTES / 1e6:g} MB of a "
                f"published adapter; train with a lower tuning.rank than {settings['r']}"
            )
    return size


def _base_record(student: ModelConfig, folder: Path) -> BaseRecord:
    """What tells the base from any other, wherever it lies."""
    source = find_source(student)
    name = Path(student.source).name if Path(student.source).expanduser().is_absolute() else student.source
    return BaseRecord(
        model=replace(student, source=name),
        weights=weights_hash(source.path),
        prepared_weights=weights_hash(folder),
        tokenizer=tokenizer_fingerprint(folder),
        template=hash_json(read_template(folder)),
    )


def _write_weights(source: Path, out: Path) -> None:
    weights = {name: weight.to(torch.bfloat16) for name, weight in load_file(source / ADAPTER_WEIGHTS).items()}
    save_file(weights, out / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def _check_place(out: Path, scores: Mapping[str, Any], *, force: bool) -> None:
    """Refuse to write over anything but a published adapter that is worse on the dev split."""
    if not out.exists():
        return
    if not (out / RECORD).is_file():
        raise ArtifactError(f"{out}: exists and is no published adapter; choose another --out")
    if force:
        return
    known = read_json(out / RECORD).get("scores", {})
    if DEV not in known or DEV not in scores:
        which = "this one has" if DEV in known else "the published one has"
        raise ArtifactError(
            f"{out}: holds an adapter already, and {which} no score on its dev split to compare; evaluate the "
            f"suite '{DEV}' in the recipe, or --force"
        )
    if known[DEV]["version"] != scores[DEV]["version"]:
        raise ArtifactError(f"{out}: holds an adapter that was scored on another dev split; choose by hand and --force")
    before, after = (found[DEV]["right"] / found[DEV]["cases"] for found in (known, scores))
    if after - before < LEAST_GAIN:
        raise ArtifactError(
            f"{out}: holds an adapter with {before:.1%} right on the dev split, this one has {after:.1%}; one is "
            f"replaced by one that is {LEAST_GAIN * 100:g} points better, or with --force"
        )
