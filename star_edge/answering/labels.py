"""Labels for prompts without an answer: a model is sampled, and where its completions agree they become a row.

For an output file rows.jsonl:

rows.jsonl              the rows, written last
rows.samples.jsonl      every completion; a killed run goes on behind the last whole batch
rows.samples.key.json   what made them; other completions are refused
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from filelock import FileLock, Timeout

from star_edge.answering.backend import AnswerConfig
from star_edge.answering.checkpoint import choose_backend, find_checkpoint, plain_folder
from star_edge.contracts import Checkpoint, Example, Generation
from star_edge.data.agreement import agreed
from star_edge.data.chat import ChatCodec
from star_edge.data.lengths import chunks
from star_edge.data.rows import write_examples
from star_edge.errors import ArtifactError, EvaluationError
from star_edge.evaluate.outputs import OutputFile
from star_edge.manifest import hash_json
from star_edge.models.folder import CONFIG, read_model_json
from star_edge.progress import Progress, or_quiet

VLLM_PROMPTS = 256
"""Prompts that vLLM gets at once: enough to fill a GPU, few enough that little is lost by a kill."""


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """How prompts are labelled.

    samples: completions a prompt. agreement: share of them that must call alike.
    rows_per_forward: completions that transformers draws together. revision: commit or tag of a hub id.
    """

    samples: int = 4
    agreement: float = 0.75
    temperature: float = 1.0
    max_new_tokens: int = 256
    rows_per_forward: int = 16
    backend: Literal["auto", "vllm", "transformers"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 17
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """What became of the prompts; `without_room` are too long for the model's context."""

    rows: int
    disagreed: int
    without_room: int


class Sampler(Protocol):
    """A model that draws `samples` completions a prompt; a batch and a seed decide them."""

    codec: ChatCodec
    batch_size: int

    def sample(self, prompts: Sequence[Sequence[int]], *, seed: int) -> Sequence[Sequence[Any]]:
        """For each prompt its completions: token `ids`, with the end token when one `stopped` by itself."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


def label(
    prompts: Sequence[Example],
    model: str,
    config: LabelConfig,
    out: Path,
    *,
    limit: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Labelled:
    """Sample what is not sampled yet, then write the rows that are agreed on.

    Args:
        prompts: under ids of their own; all of a file, for its samples are those of the whole.
        limit: label the first so many. A later call with more of them asks only the new ones.
        model: folder, adapter folder, hub id or `.gguf` file.
        force: throw away completions that were drawn otherwise.
    Raises:
        ArtifactError: `out` is there already, its completions were drawn otherwise, or another process works there.
        StarEdgeError: the model cannot be found, loaded or run; completions so far stay.
    """
    if out.exists() and not force:
        raise ArtifactError(f"{out}: is there already; choose another --out, or --force")
    found = find_checkpoint(model, config.revision)
    kind, device = choose_backend(found, AnswerConfig(backend=config.backend, device=config.device))
    if kind == "file":
        raise EvaluationError(f"{found.path}: a bundle is not sampled from; give the checkpoint it was exported from")
    settings = {"checkpoint": found.fingerprint, "data": hash_json(prompts), "backend": kind, "device": device}
    drawing = {name: str(getattr(config, name)) for name in ("samples", "temperature", "max_new_tokens", "seed")}
    samples = out.with_suffix(".samples.jsonl")
    samples.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            FileLock(samples.with_suffix(".lock"), timeout=0),
            closing(OutputFile(samples, {**settings, **drawing}, force=force)) as file,
        ):
            wanted = prompts[:limit]
            open_prompts = [example for example in wanted if not _is_sampled(example, config, file)]
            if open_prompts:
                with tempfile.TemporaryDirectory(prefix="star-edge-") as scratch:
                    folder = plain_folder(found, "auto", Path(scratch))
                    _sample(open_prompts, folder, kind == "vllm", device, config, file, or_quiet(progress))
            return _write_agreed(wanted, config, file, out)
    except Timeout:
        raise ArtifactError(f"{out}: another star-edge is working there; wait for it to end") from None


def _names(example: Example, config: LabelConfig) -> list[str]:
    return [f"{example.id} #{number}" for number in range(1, config.samples + 1)]


def _is_sampled(example: Example, config: LabelConfig, file: OutputFile) -> bool:
    return all(name in file.rows for name in _names(example, config))


def _sample(
    prompts: Sequence[Example],
    folder: Path,
    by_vllm: bool,
    device: str,
    config: LabelConfig,
    file: OutputFile,
    progress: Progress,
) -> None:
    """Ask in batches of like length, the shortest first: a kill leaves the same batches, and so the same draws."""
    context = int(read_model_json(folder, CONFIG)["max_position_embeddings"])
    sampler = _VllmSampler(folder, config, context) if by_vllm else _TorchSampler(folder, device, config)
    with closing(sampler), closing(progress.bar("label", len(prompts))) as bar:
        encoded = [sampler.codec.prompt_ids(example) for example in prompts]
        order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
        done = 0
        for batch in chunks(order, sampler.batch_size):
            names = [name for index in batch for name in _names(prompts[index], config)]
            room = [index for index in batch if len(encoded[index]) + config.max_new_tokens <= context]
            drawn = sampler.sample([encoded[index] for index in room], seed=_seed(config.seed, names))
            found = dict(zip(room, drawn, strict=True))
            for index in batch:
                _keep(prompts[index], len(encoded[index]), found.get(index), sampler.codec, config, file)
            done += len(batch)
            bar.update(done)


def _seed(seed: int, names: Sequence[str]) -> int:
    """31 bits, which every engine takes with something added."""
    return int.from_bytes(hashlib.sha256("\n".join([str(seed), *names]).encode()).digest()[:4], "big") >> 1


def _keep(
    example: Example,
    prompt_tokens: int,
    completions: Sequence[Any] | None,
    codec: ChatCodec,
    config: LabelConfig,
    file: OutputFile,
) -> None:
    """Store what is not stored yet; a prompt without room gets empty answers."""
    for number, name in enumerate(_names(example, config)):
        if name in file.rows:
            continue
        ids: tuple[int, ...] = ()
        stopped = False
        if completions is not None:
            stopped = completions[number].stopped
            ids = completions[number].ids[: -1 if stopped else None]
        text = codec.tokenizer.decode(list(ids), skip_special_tokens=False)
        file.add(Generation(name, text, ids, prompt_tokens, stopped))


def _write_agreed(prompts: Sequence[Example], config: LabelConfig, file: OutputFile, out: Path) -> Labelled:
    needed = max(1, math.ceil(config.agreement * config.samples - 1e-9))
    rows: list[Example] = []
    without_room = 0
    for example in prompts:
        samples = [file.rows[name] for name in _names(example, config)]
        without_room += not any(sample["tokens"] or sample["stopped"] for sample in samples)
        row = agreed(example, [sample["text"] for sample in samples if sample["stopped"]], needed=needed)
        rows += [row] if row is not None else []
    write_examples(out, rows)
    return Labelled(len(rows), len(prompts) - len(rows) - without_room, without_room)


class _TorchSampler:
    """transformers; bfloat16 on a GPU that has it, else float32."""

    def __init__(self, folder: Path, device: str, config: LabelConfig) -> None:
        import torch

        from star_edge.models.load import load

        dtype = "bfloat16" if device != "cpu" and torch.cuda.is_bf16_supported() else "float32"
        self._loaded = load(Checkpoint(folder, "label"), device=device, dtype=dtype)
        self._config = config
        self.codec = ChatCodec(self._loaded.tokenizer, self._loaded.template)
        self.batch_size = max(1, config.rows_per_forward // config.samples)

    def sample(self, prompts: Sequence[Sequence[int]], *, seed: int) -> Sequence[Sequence[Any]]:
        import torch

        from star_edge.models.sampling import sample

        if not prompts:
            return []
        return sample(
            self._loaded,
            prompts,
            copies=self._config.samples,
            temperature=self._config.temperature,
            max_new_tokens=self._config.max_new_tokens,
            generator=torch.Generator(self._loaded.device).manual_seed(seed),
        )

    def close(self) -> None:
        del self._loaded


class _VllmSampler:
    """vLLM, started with the model's whole context."""

    def __init__(self, folder: Path, config: LabelConfig, context: int) -> None:
        from star_edge.models.folder import read_template
        from star_edge.models.load import load_tokenizer
        from star_edge.models.vllm_engine import VllmEngine

        self.codec = ChatCodec(load_tokenizer(folder), read_template(folder))
        self.batch_size = VLLM_PROMPTS
        self._config = config
        self._engine = VllmEngine(folder, max_model_len=context, seeded_requests=True)

    def sample(self, prompts: Sequence[Sequence[int]], *, seed: int) -> Sequence[Sequence[Any]]:
        if not prompts:
            return []
        config = self._config
        return self._engine.sample(
            prompts,
            copies=config.samples,
            temperature=config.temperature,
            max_new_tokens=config.max_new_tokens,
            seed=seed,
        )

    def close(self) -> None:
        self._engine.close()
