"""A model's own completions of prompts, several each, kept as they are drawn.

For an output file rows.jsonl:

rows.samples.jsonl      every completion; a killed run goes on behind the last whole batch
rows.samples.key.json   what made them; other completions are refused

A second round of prompts, made of what the first gave, has a file of its own name in place of `samples`.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from star_edge.alone import alone
from star_edge.answering.backend import AnswerConfig
from star_edge.answering.checkpoint import FoundCheckpoint, choose_backend, find_checkpoint, plain_folder
from star_edge.contracts import Checkpoint, Example, Generation
from star_edge.data.chat import ChatCodec
from star_edge.data.lengths import chunks
from star_edge.errors import ArtifactError, EvaluationError
from star_edge.evaluate.outputs import OutputFile
from star_edge.manifest import hash_json
from star_edge.models.folder import CONFIG, read_model_json
from star_edge.progress import Progress, or_quiet

VLLM_PROMPTS = 256
"""Prompts that vLLM gets at once: enough to fill a GPU, few enough that little is lost by a kill."""
VLLM_UNSEEDED_PROMPTS = 1024
"""Without a stream for each they are drawn faster, and a call still waits for its longest."""

Sample = Mapping[str, Any]
"""`text`; `tokens`, how many; `stopped`, false where a length limit cut it. Without room both are 0 and false."""


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How completions are drawn.

    samples: completions a prompt. rows_per_forward: completions that transformers draws together.
    revision: commit or tag of a hub id.
    seeded_requests: of vLLM: every prompt draws from a stream of its own, so that a killed run goes on with the draws
        it would have made. Without, vLLM draws faster, and a killed run goes on with others of one distribution.
    """

    samples: int = 4
    temperature: float = 1.0
    max_new_tokens: int = 256
    rows_per_forward: int = 16
    backend: Literal["auto", "vllm", "transformers"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 17
    revision: str | None = None
    seeded_requests: bool = True


class Sampler(Protocol):
    """A model that draws `config.samples` completions a prompt; a batch and a seed decide them.

    context: most tokens of a prompt and a completion.
    """

    codec: ChatCodec
    context: int

    def batch_size(self, config: SamplingConfig) -> int:
        """Prompts that are drawn for together."""
        ...

    def sample(self, prompts: Sequence[Sequence[int]], config: SamplingConfig, *, seed: int) -> Sequence[Sequence[Any]]:
        """For each prompt its completions: token `ids`, with the end token when one `stopped` by itself."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


def samples_of(
    prompts: Sequence[Example],
    model: str,
    config: SamplingConfig,
    out: Path,
    *,
    limit: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, list[Sample]]:
    """The samples of each prompt by its id; drawn where `out` has none yet. As `drawing` and `Drawing.samples`."""
    with drawing(model, config, out, force=force, progress=progress) as open_drawing:
        return open_drawing.samples(prompts, limit=limit)


@contextmanager
def drawing(
    model: str, config: SamplingConfig, out: Path, *, force: bool = False, progress: Progress | None = None
) -> Iterator[Drawing]:
    """A model to draw from, loaded when the first completion is due and freed at the end.

    Args:
        model: folder, adapter folder, hub id or `.gguf` file.
        out: the file that will be made of the completions; they are kept beside it.
        force: throw away completions that were drawn otherwise, and write over `out`.
    Raises:
        ArtifactError: `out` is there already or named as compressed, or another process works there.
        StarEdgeError: the model cannot be found, loaded or run; completions so far stay.
    """
    if out.suffix == ".gz":
        raise ArtifactError(f"{out}: rows are written as they are; choose an --out that does not end with .gz")
    if out.exists() and not force:
        raise ArtifactError(f"{out}: is there already; choose another --out, or --force")
    found = find_checkpoint(model, config.revision)
    if found.kind == "bundle":
        raise EvaluationError(f"{found.path}: a bundle is not sampled from; give the checkpoint it was exported from")
    kind, device = choose_backend(found, AnswerConfig(backend=config.backend, device=config.device))
    with (
        alone(out, out.with_suffix(".samples.lock")),
        closing(Drawing(found, kind == "vllm", device, config, out, force, or_quiet(progress))) as opened,
    ):
        yield opened


@dataclass
class Drawing:
    """Completions of one model; `drawing` opens it."""

    found: FoundCheckpoint
    by_vllm: bool
    device: str
    config: SamplingConfig
    out: Path
    force: bool
    progress: Progress

    def __post_init__(self) -> None:
        self._sampler: Sampler | None = None
        self._scratch = tempfile.TemporaryDirectory(prefix="star-edge-")  # holds the model while it is drawn from

    def close(self) -> None:
        """Free the model."""
        with self._scratch:
            if self._sampler is not None:
                self._sampler.close()

    def samples(
        self,
        prompts: Sequence[Example],
        *,
        limit: int | None = None,
        config: SamplingConfig | None = None,
        name: str = "samples",
        made_of: str | None = None,
    ) -> dict[str, list[Sample]]:
        """The samples of each prompt by its id; drawn where the file of that name has none yet.

        Args:
            prompts: under ids of their own; all of a file, for its samples are those of the whole.
            limit: draw for the first so many. A later call with more of them asks only the new ones.
            config: how these are drawn, by default as the others.
            made_of: a hash of what the prompts come from, by default of the prompts. With one of its own, prompts may
                come and go between two calls; the same id must then mean the same prompt.
        Raises:
            ArtifactError: the file's completions were drawn otherwise.
            StarEdgeError: the model cannot be loaded or run; completions so far stay.
        """
        config = config or self.config
        key = {
            "checkpoint": self.found.fingerprint,
            "data": made_of or hash_json(prompts),
            "backend": "vllm" if self.by_vllm else "transformers",
            "device": self.device,
            **{each: str(getattr(config, each)) for each in ("samples", "temperature", "max_new_tokens", "seed")},
        }
        path = self.out.with_suffix(f".{name}.jsonl")
        with closing(OutputFile(path, key, force=self.force)) as file:
            wanted = prompts[:limit]
            open_prompts = [example for example in wanted if not _is_sampled(example, config, file)]
            if open_prompts:
                _sample(open_prompts, self._loaded(), config, file, self.progress)
            return {example.id: [file.rows[each] for each in _names(example, config)] for example in wanted}

    def _loaded(self) -> Sampler:
        if self._sampler is None:
            folder = plain_folder(self.found, "auto", Path(self._scratch.name))
            self._sampler = _VllmSampler(folder, self.config) if self.by_vllm else _TorchSampler(folder, self.device)
        return self._sampler


def _names(example: Example, config: SamplingConfig) -> list[str]:
    return [f"{example.id} #{number}" for number in range(1, config.samples + 1)]


def _is_sampled(example: Example, config: SamplingConfig, file: OutputFile) -> bool:
    return all(name in file.rows for name in _names(example, config))


def _sample(
    prompts: Sequence[Example],
    sampler: Sampler,
    config: SamplingConfig,
    file: OutputFile,
    progress: Progress,
) -> None:
    """Ask in batches of like length, the shortest first: a kill leaves the same batches, and so the same draws."""
    with closing(progress.bar("sample", len(prompts))) as bar:
        encoded = sampler.codec.prompts_ids(prompts)
        order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
        done = 0
        for batch in chunks(order, sampler.batch_size(config)):
            names = [name for index in batch for name in _names(prompts[index], config)]
            room = [index for index in batch if len(encoded[index]) + config.max_new_tokens <= sampler.context]
            drawn = sampler.sample([encoded[index] for index in room], config, seed=_seed(config.seed, names))
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
    config: SamplingConfig,
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


def _context(folder: Path) -> int:
    return int(read_model_json(folder, CONFIG)["max_position_embeddings"])


class _TorchSampler:
    """transformers; bfloat16 on a GPU that has it, else float32."""

    def __init__(self, folder: Path, device: str) -> None:
        import torch

        from star_edge.models.load import load

        dtype = "bfloat16" if device != "cpu" and torch.cuda.is_bf16_supported() else "float32"
        self._loaded = load(Checkpoint(folder, "sample"), device=device, dtype=dtype)
        self.codec = ChatCodec(self._loaded.tokenizer, self._loaded.template)
        self.context = _context(folder)

    def batch_size(self, config: SamplingConfig) -> int:
        return max(1, config.rows_per_forward // config.samples)

    def sample(self, prompts: Sequence[Sequence[int]], config: SamplingConfig, *, seed: int) -> Sequence[Sequence[Any]]:
        import torch

        from star_edge.models.sampling import sample

        if not prompts:
            return []
        return sample(
            self._loaded,
            prompts,
            copies=config.samples,
            temperature=config.temperature,
            max_new_tokens=config.max_new_tokens,
            generator=torch.Generator(self._loaded.device).manual_seed(seed),
        )

    def close(self) -> None:
        del self._loaded


class _VllmSampler:
    """vLLM, started with the model's whole context."""

    def __init__(self, folder: Path, config: SamplingConfig) -> None:
        from star_edge.models.folder import read_template
        from star_edge.models.load import load_tokenizer
        from star_edge.models.vllm_engine import VllmEngine

        self.codec = ChatCodec(load_tokenizer(folder), read_template(folder))
        self.context = _context(folder)
        self._engine = VllmEngine(folder, max_model_len=self.context, seeded_requests=config.seeded_requests)

    def batch_size(self, config: SamplingConfig) -> int:
        return VLLM_PROMPTS if config.seeded_requests else VLLM_UNSEEDED_PROMPTS

    def sample(self, prompts: Sequence[Sequence[int]], config: SamplingConfig, *, seed: int) -> Sequence[Sequence[Any]]:
        if not prompts:
            return []
        return self._engine.sample(
            prompts,
            copies=config.samples,
            temperature=config.temperature,
            max_new_tokens=config.max_new_tokens,
            seed=seed,
        )

    def close(self) -> None:
        self._engine.close()
