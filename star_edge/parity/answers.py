"""Torch's greedy answers to a suite, kept on disk so that no case is generated twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from star_edge.contracts import Example, Generation
from star_edge.data.chat import ChatCodec
from star_edge.manifest import plain, read_json, write_atomic
from star_edge.models.generate import greedy
from star_edge.models.load import LoadedModel
from star_edge.progress import Progress


def torch_answers(
    loaded: LoadedModel,
    examples: Sequence[Example],
    store: Path,
    *,
    max_new_tokens: int,
    rows_per_forward: int,
    progress: Progress | None = None,
) -> list[Generation]:
    """One greedy generation an example, in their order; those in the store are taken from it.

    Args:
        store: JSON file, made or completed; it belongs to this checkpoint and these limits.
    Raises: ArtifactError: the store cannot be read or written.
    """
    known = read_generations(store) if store.exists() else {}
    codec = ChatCodec(loaded.tokenizer, loaded.template)
    missing = [(example.id, codec.prompt_text(example)) for example in examples if example.id not in known]
    if missing:
        fresh = greedy(
            loaded, missing, max_new_tokens=max_new_tokens, rows_per_forward=rows_per_forward, progress=progress
        )
        known |= {generation.id: generation for generation in fresh}
        write_atomic(store, json.dumps({"generations": plain(list(known.values()))}, ensure_ascii=False) + "\n")
    return [known[example.id] for example in examples]


def read_generations(store: Path) -> dict[str, Generation]:
    """The stored generations by case id.

    Raises: ArtifactError: not readable.
    """
    rows = read_json(store)["generations"]
    return {row["id"]: Generation(**{**row, "token_ids": tuple(row["token_ids"])}) for row in rows}
