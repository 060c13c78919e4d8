"""The files of a teacher cache: safetensors shards that appear whole or not at all.

Tensors of a shard with R rows, P completion positions and L tokens in all:
    token_ids       (L,)    int32    prompt and completion of each row, one row after another
    token_offsets   (R+1,)  int64    where each row begins in `token_ids`
    prompt_lengths  (R,)    int32
    topk_ids        (P, K)  int32    the teacher's K most likely tokens
    topk_logprobs   (P, K)  float16  their log-probabilities, temperature 1, full vocabulary
    position_offsets (R+1,) int64    where each row begins in the two above
Its metadata has one entry, for the order of several is not the same each time: `told`, JSON of the example ids and of
how many completions were left out, by reason.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from star_edge.errors import TeacherCacheError
from star_edge.manifest import replacing, sha256_file
from star_edge.teacher.rollout import Rollout


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """What the cache's manifest says about one shard. `left_out`: reason -> completions that were not kept."""

    file: str
    sha256: str
    bytes: int
    rows: int
    positions: int
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CacheRow:
    """One prompt with one completion of T tokens, the teacher's or a label, and the teacher's top-k at each of them.

    topk_ids, topk_logprobs: (T, K) int32 and float16.
    """

    example_id: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    topk_ids: Tensor
    topk_logprobs: Tensor


def write_shard(path: Path, rollouts: Sequence[Rollout], top_k: int, left_out: Mapping[str, int]) -> None:
    """Write a shard under a passing name and move it into place, so that `path` is whole whenever it exists.

    Raises: TeacherCacheError: the disk is full or the folder cannot be written.
    """
    sequences = [rollout.prompt_ids + rollout.completion_ids for rollout in rollouts]
    tensors = {
        "token_ids": torch.tensor([token for ids in sequences for token in ids], dtype=torch.int32),
        "token_offsets": _offsets(map(len, sequences)),
        "prompt_lengths": torch.tensor([len(rollout.prompt_ids) for rollout in rollouts], dtype=torch.int32),
        "position_offsets": _offsets(len(rollout.completion_ids) for rollout in rollouts),
        "topk_ids": torch.cat([torch.empty(0, top_k, dtype=torch.int32), *(r.topk_ids for r in rollouts)]),
        "topk_logprobs": torch.cat([torch.empty(0, top_k, dtype=torch.float16), *(r.topk_logprobs for r in rollouts)]),
    }
    told = json.dumps({"example_ids": [rollout.example_id for rollout in rollouts], "left_out": left_out})
    try:
        with replacing(path) as passing:
            save_file(tensors, passing, metadata={"told": told})
            with passing.open("rb") as file:
                os.fsync(file.fileno())
    except (OSError, SafetensorError) as error:
        raise TeacherCacheError(f"{path}: cannot write ({error}); free some space or choose another --out") from error


def _offsets(lengths: object) -> Tensor:
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int64)  # type: ignore[call-overload]


def shard_entry(path: Path) -> ShardEntry:
    """Size, hash and counts of a shard on disk.

    Raises: TeacherCacheError: the file is no whole safetensors file.
    """
    rows, left_out = _read(path)
    positions = sum(len(row.completion_ids) for row in rows)
    return ShardEntry(path.name, sha256_file(path), path.stat().st_size, len(rows), positions, left_out)


def read_shard(path: Path) -> list[CacheRow]:
    """All rows of a shard; their top-k tensors are views of it.

    Raises: TeacherCacheError: missing, or no whole safetensors file.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[list[CacheRow], dict[str, int]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        if "told" in metadata:
            told = json.loads(metadata["told"])
        else:  # older ones count nothing
            told = {"example_ids": json.loads(metadata["example_ids"]), "left_out": {}}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TeacherCacheError(f"{path}: not a whole shard ({error}); remove it and build the cache again") from error
    tokens = tensors["token_ids"].tolist()
    starts, places = tensors["token_offsets"].tolist(), tensors["position_offsets"].tolist()
    rows = []
    for number, (example_id, length) in enumerate(
        zip(told["example_ids"], tensors["prompt_lengths"].tolist(), strict=True)
    ):
        ids = tuple(tokens[starts[number] : starts[number + 1]])
        span = slice(places[number], places[number + 1])
        rows.append(
            CacheRow(example_id, ids[:length], ids[length:], tensors["topk_ids"][span], tensors["topk_logprobs"][span])
        )
    return rows, told["left_out"]
