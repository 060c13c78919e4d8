"""The teacher cache: completions and top-k log-probabilities on disk, with a fingerprint of where they came from.

cache.json        written last: fingerprint, counts, and every shard's size and hash
settings.json     written first: the hash of all that decides the shards, so that a resumed build is the same build
shard-00000.safetensors ...
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_edge.contracts import Checkpoint, Example, TeacherCache, TeacherCacheConfig
from star_edge.data.chat import ChatCodec
from star_edge.errors import ArtifactError, TeacherCacheError, TrainingError
from star_edge.manifest import hash_json, plain, read_json, sha256_file, write_atomic
from star_edge.models.load import LoadedModel
from star_edge.models.sampling import vocabulary_size
from star_edge.progress import Progress, or_quiet
from star_edge.teacher.engine_rollout import Engine, sample_by_engine
from star_edge.teacher.labels import read_labels
from star_edge.teacher.rollout import LEFT_OUT, sample
from star_edge.teacher.scoring import Scorer
from star_edge.teacher.shards import CacheRow, read_shard, shard_entry, write_shard

CACHE = "cache.json"
SETTINGS = "settings.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class CacheFingerprint:
    """Where a cache came from. Hashes are hex SHA-256; `adapter` is null for a teacher without one."""

    teacher: str
    revision: str | None
    weights: str
    adapter: str | None
    tokenizer: str
    template: str
    top_k: int
    temperature: float

    @classmethod
    def of(
        cls,
        teacher: Checkpoint,
        *,
        label: str,
        revision: str | None,
        tokenizer: str,
        template: str,
        config: TeacherCacheConfig,
    ) -> CacheFingerprint:
        """Fingerprint a checkpoint (its weights are read once for it); `template` is the template's text."""
        return cls(
            teacher=label,
            revision=revision,
            weights=_weights_hash(teacher.base or teacher.folder),
            adapter=_weights_hash(teacher.folder) if teacher.is_adapter else None,
            tokenizer=tokenizer,
            template=text_hash(template),
            top_k=config.top_k,
            temperature=config.temperature,
        )


def text_hash(text: str) -> str:
    """Hex SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _weights_hash(folder: Path) -> str:
    return hash_json({path.name: sha256_file(path) for path in sorted(folder.glob("*.safetensors"))})


def build(
    load: Callable[[], LoadedModel],
    codec: ChatCodec,
    examples: Sequence[Example],
    config: TeacherCacheConfig,
    out: Path,
    *,
    fingerprint: CacheFingerprint,
    seed: int,
    progress: Progress | None = None,
    engine: Engine | None = None,
    labelled: Sequence[Example] = (),
) -> TeacherCache:
    """Sample the teacher on every example and write what it said, and how sure it was, to `out`.

    Killed and called again with the same arguments it goes on behind the last whole shard. The result is then the one
    of a build that was not killed, unless an engine without seeded requests draws: its remaining shards are other draws
    from the same distribution.

    Args:
        load: gives the teacher; called once, and not at all where an engine draws and there is no labelled row.
        engine: holds the teacher's weights, draws its completions and says how likely its ids were; without one the
            loaded teacher does.
        labelled: further rows, whose own answers are its completions.
    Raises:
        DataError: the template refuses a labelled row.
        TeacherCacheError: `out` holds shards of another build, or cannot be written; or as `named_top_k` does.
    """
    progress = or_quiet(progress)
    named = [[(e.id, hash_json([e.messages, e.tools])) for e in rows] for rows in (examples, labelled)]
    _claim(out, hash_json([SCHEMA, fingerprint, config.deciding(), seed, *named]))
    parts = _parts(examples, labelled, config)
    teacher = functools.cache(load)
    scorer = functools.cache(lambda: Scorer(teacher(), top_k=config.top_k))
    vocabulary = vocabulary_size(codec.tokenizer)
    top_k = min(config.top_k, vocabulary)
    for number, (is_labelled, part) in enumerate(parts):
        path, left_out = _shard(out, number), Counter[str]()
        if not path.exists():
            what = f"teacher cache, part {number + 1} of {len(parts)}"
            if is_labelled:
                progress.line(f"  {what}: labels")
                rollouts = read_labels(scorer(), codec, part)
            elif engine is not None:
                progress.line(f"  {what}")
                rollouts = sample_by_engine(engine, codec, part, config, seed=seed + number, left_out=left_out)
            else:
                rollouts = sample(
                    teacher(), codec, part, config, seed=seed, left_out=left_out, progress=progress, what=what
                )
            write_shard(path, list(rollouts), top_k, left_out)
    told = {"fingerprint": fingerprint, "vocabulary": vocabulary, "prompts": len(examples), "labels": len(labelled)}
    manifest = _finish(out, len(parts), {**told, "top_k": top_k})
    for line in _told(manifest, config.rollouts):
        progress.line(f"  {line}")
    return TeacherCache(out, manifest["rows"], manifest["positions"], top_k)


def _told(manifest: Mapping[str, Any], rollouts: int) -> Iterator[str]:
    labels, left_out = manifest["labels"], manifest["left_out"]
    kept = f"kept {manifest['rows'] - labels} of {manifest['prompts'] * rollouts} completions"
    yield f"{kept}{f' and {labels} labels' if labels else ''}, {manifest['positions']} positions"
    if left_out:
        yield f"left out: {', '.join(f'{left_out[key]} {said}' for key, said in LEFT_OUT.items() if key in left_out)}"


def _shard(out: Path, number: int) -> Path:
    return out / f"shard-{number:05d}.safetensors"


def _finish(out: Path, shards: int, told: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest, which makes the shards a cache: `told` as it is given, and what the shards hold and lack."""
    entries = [shard_entry(_shard(out, number)) for number in range(shards)]
    manifest = {
        "schema": SCHEMA,
        **told,
        "rows": sum(entry.rows for entry in entries),
        "positions": sum(entry.positions for entry in entries),
        "left_out": sum((Counter(entry.left_out) for entry in entries), Counter[str]()),
        "shards": entries,
    }
    write_atomic(out / CACHE, json.dumps(plain(manifest), indent=1) + "\n")
    return manifest


def refuse_without_completions(cache: TeacherCache, *, labels: int, config: TeacherCacheConfig) -> None:
    """Raises: TrainingError: nothing that the teacher said was worth keeping, whatever labels there are beside it."""
    if cache.rows > labels:
        return
    limit = config.least_reward
    earns = "" if limit is None else f", and earns cache.least_reward ({limit:g}) where there is a label"
    said = ", and passes no value that nobody said (cache.drop_unsaid)" if config.drop_unsaid else ""
    raise TrainingError(
        f"{cache.folder}: none of the teacher's completions is valid, ends within cache.max_new_tokens "
        f"({config.max_new_tokens}){earns}{said}; change that, or warm the teacher up longer (adapt.warmup_rows)"
    )


def _parts(
    examples: Sequence[Example], labelled: Sequence[Example], config: TeacherCacheConfig
) -> list[tuple[bool, Sequence[Example]]]:
    """The rows of each shard, and whether their own answers are read."""
    asked = _cut(examples, config.rows_per_shard // config.rollouts)
    return [*((False, part) for part in asked), *((True, part) for part in _cut(labelled, config.rows_per_shard))]


def _cut(examples: Sequence[Example], size: int) -> list[Sequence[Example]]:
    size = max(1, size)
    return [examples[start : start + size] for start in range(0, len(examples), size)]


def _claim(out: Path, settings: str) -> None:
    """Make `out` ours, or refuse it when its shards were made from something else."""
    path = out / SETTINGS
    if path.exists() and read_json(path).get("settings") != settings:
        raise TeacherCacheError(
            f"{out}: its shards were made from another teacher, data or setting; remove the folder or choose another"
        )
    write_atomic(path, json.dumps({"settings": settings}))


@dataclass(frozen=True, slots=True)
class CacheReader:
    """A whole, undamaged cache. `rows` are in the order of the examples; top-k tensors stay as stored."""

    manifest: Mapping[str, Any]
    rows: tuple[CacheRow, ...]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The cache's own manifest.

    Raises: TeacherCacheError: there is none (the build was cut short), or it cannot be read.
    """
    try:
        return read_json(folder / CACHE)
    except ArtifactError as error:
        raise TeacherCacheError(f"{folder}: no whole teacher cache ({error})") from error


def open_cache(folder: Path) -> CacheReader:
    """Read a cache after checking every shard's size and hash.

    Raises: TeacherCacheError: unfinished, or a shard is missing or damaged.
    """
    manifest = read_manifest(folder)
    rows: list[CacheRow] = []
    for entry in manifest["shards"]:
        path = folder / entry["file"]
        if not path.is_file() or path.stat().st_size != entry["bytes"] or sha256_file(path) != entry["sha256"]:
            raise TeacherCacheError(f"{path}: missing or damaged; remove the folder {folder} and build the cache again")
        rows += read_shard(path)
    return CacheReader(manifest, tuple(rows))


def check_compatible(
    cache_manifest: Mapping[str, Any], student_tokenizer_fingerprint: str, template: str, vocab: int
) -> None:
    """Refuse a cache whose token ids or prompts would mean something else to this student.

    Args:
        template: the text of the student's chat template.
        vocab: rows of the student's head. It may differ from the teacher's by padding: the cache holds only ids
            of tokens that the tokenizer names.
    Raises: TeacherCacheError: another tokenizer, another template, or a head too small for the tokenizer.
    """
    fingerprint = cache_manifest["fingerprint"]
    teacher = fingerprint["teacher"]
    if fingerprint["tokenizer"] != student_tokenizer_fingerprint:
        raise TeacherCacheError(
            f"teacher cache: the tokenizer of {teacher} is not the student's, so its token ids mean other tokens; "
            "choose a student of the same family"
        )
    if fingerprint["template"] != text_hash(template):
        raise TeacherCacheError(
            f"teacher cache: {teacher} was asked through another chat template than the student's; "
            "build the cache again with the student's template"
        )
    if cache_manifest["vocabulary"] > vocab:
        raise TeacherCacheError(
            f"teacher cache: holds ids up to {cache_manifest['vocabulary']}, the student's head has {vocab} rows; "
            "choose a student of the same family"
        )
