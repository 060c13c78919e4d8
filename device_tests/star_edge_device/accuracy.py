"""Run a suite of examples on an exported file, once, and remember every answer.

`run_cases` works in this process. `run_in_subprocess` does the same in a fresh one, so that the peak memory is
the runtime's alone and a file that crashes its engine does not take the caller with it. Scoring is left to
`star_edge.evaluate.scores`, which the measured process therefore never loads.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from star_edge import errors
from star_edge.contracts import Bundle, Example, Generation, Latency
from star_edge.errors import RuntimeFailure, StarEdgeError
from star_edge.manifest import plain, read_json
from star_edge_device.bundle_files import ChatFiles, read_chat, read_tokenizer
from star_edge_device.machine import peak_rss_mib
from star_edge_device.runtimes import Runtime
from star_edge_device.store import Measurement, Store, case_key

Advance = Callable[[int], None]
LEAST_CONTEXT = 2048  # tokens; a context of the model's full length would show in the peak memory of every file


def run_cases(
    runtime: Runtime,
    examples: Sequence[Example],
    chat: ChatFiles,
    *,
    max_new_tokens: int,
    store: Path,
    advance: Advance | None = None,
) -> list[Measurement]:
    """Generate for every example that the store does not hold yet.

    Args:
        chat: the bundle's template and special tokens (`bundle_files.read_chat`).
        store: JSONL file, made or continued; one line is on the disk before the next case starts.
        advance: told the number of cases done, after each.
    Returns: one measurement an example, in their order.
    Raises: RuntimeFailure: the runtime cannot run a case. ArtifactError: the store cannot be written.
    """
    book = Store(store)
    done: list[Measurement] = []
    is_cold = True
    try:
        for example in examples:
            prompt = chat.prompt(example)
            key = case_key(
                sha256=runtime.bundle.sha256, prompt=prompt, max_new_tokens=max_new_tokens, threads=runtime.threads
            )
            measurement = book.find(example.id, key)
            if measurement is None:
                generation = runtime.generate(example.id, prompt, max_new_tokens=max_new_tokens)
                measurement = Measurement(generation, is_cold, runtime.load_ms, peak_rss_mib())
                book.add(key, measurement)
                is_cold = False
            done.append(measurement)
            if advance is not None:
                advance(len(done))
    finally:
        book.close()
    return done


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """What a validation process brings back."""

    generations: tuple[Generation, ...]
    latency: Latency


def run_in_subprocess(
    bundle: Bundle,
    examples: Sequence[Example],
    out: Path,
    *,
    threads: int,
    max_new_tokens: int,
    context_length: int | None = None,
    advance: Advance | None = None,
) -> Run:
    """Open a bundle in a fresh process, run the examples, and read back what it wrote.

    Args:
        out: folder for `generations.jsonl` (the store, continued when it is there) and `latency.json`.
        context_length: most tokens of one case; null is what `room_for` says.
    Raises:
        RuntimeFailure, RuntimeMissing, ArtifactError, DataError: as the process reported it, in one line.
        RuntimeFailure: the process died without a word (a crash of the engine, or no memory).
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="star-edge-") as folder:
        request = Path(folder) / "request.json"
        answer = Path(folder) / "answer.json"
        content = {
            "bundle": plain(bundle),
            "examples": plain(list(examples)),
            "threads": threads,
            "max_new_tokens": max_new_tokens,
            "context_length": context_length or room_for(bundle, examples, max_new_tokens=max_new_tokens),
            "out": str(out.resolve()),
            "answer": str(answer),
        }
        request.write_text(json.dumps(content), encoding="utf-8")
        _run_worker(request, bundle, advance)
        return _read_answer(read_json(answer))


def room_for(bundle: Bundle, examples: Sequence[Example], *, max_new_tokens: int) -> int:
    """Context length, in tokens, in which every case has room for its longest answer; at most the model's own.

    Shorter suites get 2048 all the same, so that the peak memory of files compares from suite to suite.

    Raises: RuntimeFailure: the bundle's template or tokenizer cannot be read.
    """
    chat, tokenizer = read_chat(bundle.folder), read_tokenizer(bundle.folder)
    lengths = (len(tokenizer.encode(chat.prompt(example), add_special_tokens=False).ids) for example in examples)
    longest = max(lengths, default=0) + max_new_tokens + 1
    return min(max(longest, LEAST_CONTEXT), bundle.context_length)


def _run_worker(request: Path, bundle: Bundle, advance: Advance | None) -> None:
    """Start the worker and follow its lines; its stdin stays open for as long as this process lives."""
    command = [sys.executable, "-m", "star_edge_device.worker", str(request), "--with-parent"]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as noise,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise, text=True, encoding="utf-8"
        ) as process,
    ):
        assert process.stdout is not None
        failure: dict[str, str] | None = None
        for line in process.stdout:
            message = _message(line)
            if "done" in message and advance is not None:
                advance(message["done"])
            failure = message.get("failure", failure)
        code = process.wait()
        if failure is not None:
            raise _as_error(failure)
        if code != 0:
            noise.seek(0)
            raise RuntimeFailure(f"{bundle.file}: the process that ran it {_how_it_died(code, noise.read())}")


def _message(line: str) -> dict[str, Any]:
    """A line of the worker; anything else that an engine prints on stdout counts as nothing."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _as_error(failure: dict[str, str]) -> StarEdgeError:
    kind = getattr(errors, failure["kind"], RuntimeFailure)
    error: StarEdgeError = kind(failure["text"])
    return error


def _how_it_died(code: int, noise: str) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}; the engine crashed on the file, or memory ran out"
    last = (noise.strip().split("\n") or [""])[-1]
    return f"ended with code {code} ({last[:200]}); run `star-edge doctor` to see what is installed"


def _read_answer(answer: dict[str, Any]) -> Run:
    generations = tuple(Generation(**{**said, "token_ids": tuple(said["token_ids"])}) for said in answer["generations"])
    return Run(generations, Latency(**answer["latency"]))
