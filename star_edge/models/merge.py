"""An adapter checkpoint -> a plain model folder, which is what the exporters read."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from star_edge.contracts import Checkpoint
from star_edge.models.folder import GENERATION_CONFIG, copy_tokenizer
from star_edge.models.load import link_folder, load, save_model, tokenizer_folder

STAGE = "merge"


def merge(checkpoint: Checkpoint, out: Path, *, dtype: str = "float32") -> Checkpoint:
    """Fold an adapter into its base, in float32; a checkpoint without an adapter is linked as it is.

    Tokenizer and template files are copied byte for byte: a tokenizer saved anew changes its hash.

    Args:
        dtype: name of the torch dtype that merged weights are written in.
    Raises: ModelError: the checkpoint does not load, or the result cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    if not checkpoint.is_adapter:
        link_folder(checkpoint.folder, out)
        return Checkpoint(out, STAGE)
    loaded = load(checkpoint, device="cpu")
    # safe_merge refuses weights that became NaN or infinite instead of writing them.
    save_model(loaded.model.merge_and_unload(safe_merge=True).to(getattr(torch, dtype)), out)
    source = tokenizer_folder(checkpoint)
    copy_tokenizer(source, out)
    if checkpoint.base is not None and (checkpoint.base / GENERATION_CONFIG).is_file():
        shutil.copyfile(checkpoint.base / GENERATION_CONFIG, out / GENERATION_CONFIG)
    return Checkpoint(out, STAGE)
