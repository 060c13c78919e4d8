"""A checkpoint's answers to a suite, each kept as soon as it is there, and their scores.

OUT/outputs.jsonl       one answer a line
OUT/outputs.key.json    what made them; other answers are refused
OUT/scores.json         written last
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from star_edge import __version__
from star_edge.alone import alone
from star_edge.answering.backend import AnswerConfig, Backend, BackendKind
from star_edge.answering.checkpoint import FoundCheckpoint, choose_backend, find_checkpoint, plain_folder
from star_edge.calls.template import HERMES, render
from star_edge.environment import versions
from star_edge.evaluate.outputs import OutputFile, answer_of
from star_edge.evaluate.suites import Suite, SuiteScores
from star_edge.manifest import LOCK, hash_json, plain, write_atomic
from star_edge.progress import Progress, or_quiet
from star_edge_device.machine import cpu_name

OUTPUTS, SCORES = "outputs.jsonl", "scores.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation left behind; `cut` counts answers that ended at a length limit, not by themselves."""

    outputs: Path
    scores: SuiteScores
    cut: int


def evaluate(
    checkpoint: str,
    suite: Suite,
    config: AnswerConfig,
    out: Path,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Answer what `out` does not hold yet, then score the suite.

    Args:
        checkpoint: folder, adapter folder, hub id, `.gguf` file or bundle.
        force: throw away answers in `out` that another checkpoint, template, limit or backend gave.
    Raises:
        ArtifactError: `out` holds other answers, or another process works there.
        StarEdgeError: the checkpoint cannot be found, loaded or run; answers so far stay.
    """
    return evaluate_suites(checkpoint, {out: suite}, config, force=force, progress=progress)[out]


def evaluate_suites(
    checkpoint: str,
    suites: Mapping[Path, Suite],
    config: AnswerConfig,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[Path, Evaluation]:
    """As `evaluate`, for several suites by their folders; the checkpoint is loaded once, when an answer is missing."""
    found = find_checkpoint(checkpoint, config.revision, config.base)
    kind, device = choose_backend(found, config)
    make = _Maker(found, kind, device, config)
    progress = or_quiet(progress)
    with ExitStack() as open_until_the_end:
        opened = cache(lambda: make.open(open_until_the_end, progress))
        return {out: _evaluate_suite(make, opened, suite, out, force, progress) for out, suite in suites.items()}


def _evaluate_suite(
    make: _Maker, opened: Callable[[], Backend], suite: Suite, out: Path, force: bool, progress: Progress
) -> Evaluation:
    with alone(out, out / LOCK):
        file = OutputFile(out / OUTPUTS, make.key(suite), prompts=_prompt_hashes(suite), force=force)
        with closing(file):
            seconds = _answer_missing(opened, suite, file, make.config.max_new_tokens, progress)
        return _score(make, suite, file, out, seconds, progress)


def default_out(checkpoint: str, suite: str) -> Path:
    """Where answers go when nothing is said: `evaluations/<checkpoint>-<suite>`."""
    names = [part for part in Path(checkpoint).parts if part not in ("/", "..", "runs")]
    asked = Path(suite).name.removesuffix(".gz").removesuffix(".jsonl")
    return Path("evaluations") / "-".join([*names[-3:], asked])


@dataclass(frozen=True, slots=True)
class _Seconds:
    """Where the time went: loading the model and starting its engine, then the answers that were still to be given."""

    start_up: float = 0.0
    generation: float = 0.0
    answered: int = 0


@dataclass(frozen=True, slots=True)
class _Maker:
    """A checkpoint that is found and a backend that is chosen, nothing loaded yet."""

    found: FoundCheckpoint
    kind: BackendKind
    device: str
    config: AnswerConfig

    def key(self, suite: Suite) -> dict[str, str]:
        """All that decides an answer but its prompt; how many of a suite's cases are asked is not in it."""
        return {
            "checkpoint": self.found.fingerprint,
            "data": suite.version,
            "chat_template": self.config.chat_template,
            "plain_text_tokens": " ".join(sorted(self.config.plain_text_tokens)),
            "max_new_tokens": str(self.config.max_new_tokens),
            "backend": self.kind,
            "device": self.device,
        }

    @property
    def machine(self) -> str:
        """What computes, by its name."""
        if self.device == "cpu":
            return cpu_name()
        import torch

        return torch.cuda.get_device_name()

    def open(self, stack: ExitStack, progress: Progress) -> Backend:
        """The backend, ready to render; it and the converted or merged model it reads are there until `stack` ends."""
        progress.line(f"loading {self.found.label}")
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="star-edge-"))
        return stack.enter_context(closing(self._open(Path(scratch))))

    def _open(self, scratch: Path) -> Backend:
        config = self.config
        if self.kind == "file":
            from star_edge.answering.file_backend import bundle_backend, gguf_backend

            make = bundle_backend if self.found.kind == "bundle" else gguf_backend
            return make(self.found.path, config.chat_template, threads=config.threads or 1)
        folder = plain_folder(self.found, config.chat_template, scratch, plain_text_tokens=config.plain_text_tokens)
        if self.kind == "vllm":
            from star_edge.answering.vllm_backend import VllmBackend

            return VllmBackend(folder, memory_share=config.vllm_memory_share)
        from star_edge.answering.torch_backend import TransformersBackend

        return TransformersBackend(
            folder, device=self.device, rows_per_forward=config.rows_per_forward, threads=config.threads
        )


def _prompt_hashes(suite: Suite) -> dict[str, str]:
    """Case id -> hash of its prompt in our template: another template of ours, renderer or way to show tools shows.

    A model's own template is in the checkpoint's fingerprint, so that nothing is to be loaded for this.
    """
    return {
        example.id: hash_json(render(HERMES, example.prompt, example.tools, add_generation_prompt=True))
        for example in suite.examples
    }


def _answer_missing(
    opened: Callable[[], Backend], suite: Suite, file: OutputFile, max_new_tokens: int, progress: Progress
) -> _Seconds:
    missing = [example for example in suite.examples if example.id not in file.rows]
    kept = len(suite.ids) - len(missing)
    if kept:
        progress.line(f"{file.path}: {kept} of {len(suite.ids)} cases are answered already")
    if not missing:
        return _Seconds()
    began = time.monotonic()
    backend = opened()
    loaded = time.monotonic()
    prompts = [(example.id, backend.prompt_text(example)) for example in missing]
    with closing(progress.bar("answer", len(prompts))) as bar:
        for done, generation in enumerate(backend.answer(prompts, max_new_tokens=max_new_tokens), start=1):
            file.add(generation)
            bar.update(done)
    progress.line(f"answered by {backend.name}")
    start_up = loaded - began + backend.start_up_s
    return _Seconds(start_up, time.monotonic() - began - start_up, len(missing))


def _score(
    make: _Maker, suite: Suite, file: OutputFile, out: Path, seconds: _Seconds, progress: Progress
) -> Evaluation:
    answers = {id: answer_of(file.rows[id]) for id in suite.ids}
    began = time.monotonic()
    scores = suite.judge(answers)
    scoring = time.monotonic() - began
    progress.line(
        f"start-up {seconds.start_up:.1f} s, {seconds.answered} answers {seconds.generation:.1f} s, "
        f"scoring {scoring:.1f} s"
    )
    cut = sum(not file.rows[id]["stopped"] for id, answer in answers.items() if answer is not None)
    summary = {
        "schema": SCHEMA,
        "star_edge": __version__,
        "checkpoint": make.found.label,
        "key": file.key,
        "machine": make.machine,
        "versions": versions(),
        "cut": cut,
        "seconds": {**plain(seconds), "scoring": scoring},
        **scores.numbers(),
    }
    write_atomic(out / SCORES, json.dumps(plain(summary), indent=1, ensure_ascii=False) + "\n")
    return Evaluation(file.path, scores, cut)
