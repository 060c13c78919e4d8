"""An exported file on its own runtime, on the CPU: a bundle of ours, or a bare GGUF file of anybody's."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from star_edge.answering.backend import ChatTemplate, Prompts, without_room
from star_edge.calls.template import HERMES, mentions_tools
from star_edge.contracts import Bundle, Example, Generation
from star_edge.errors import ModelError
from star_edge.manifest import sha256_file
from star_edge_device.accuracy import LEAST_CONTEXT
from star_edge_device.bundle_files import ChatFiles, read_chat
from star_edge_device.runtimes import Runtime, open_runtime
from star_edge_device.runtimes.greedy import GreedyRuntime
from star_edge_export.bundle import read_bundle

HERMES_TURN_END = "<|im_end|>"


class FileBackend:
    """One case after another, each with an empty key-value cache."""

    def __init__(self, bundle: Bundle, chat: ChatFiles, *, threads: int) -> None:
        self._bundle, self._chat, self._threads = bundle, chat, threads
        self._runtime_name: str = bundle.format
        self.start_up_s = 0.0

    @property
    def name(self) -> str:
        return f"{self._runtime_name}, {self._bundle.file.name}"

    def prompt_text(self, example: Example) -> str:
        return self._chat.prompt(example)

    def answer(self, prompts: Prompts, *, max_new_tokens: int) -> Iterator[Generation]:
        """As the interface has it.

        Raises: RuntimeMissing, RuntimeFailure: the runtime is not installed, or cannot run the file.
        """
        began = time.monotonic()
        lengths = self._lengths(prompts)
        empty = without_room(prompts, lengths, self._bundle.context_length)
        yield from empty.values()
        asked = [index for index in range(len(prompts)) if index not in empty]
        longest = max((lengths[index] for index in asked), default=0) + max_new_tokens + 1
        with closing(self._open(longest)) as runtime:
            self._runtime_name = runtime.name
            self.start_up_s = time.monotonic() - began
            for index in asked:
                yield runtime.generate(*prompts[index], max_new_tokens=max_new_tokens)

    def _lengths(self, prompts: Prompts) -> list[int]:
        """Tokens of each prompt as the runtime reads it, which alone can say so for a file without a tokenizer."""
        with closing(self._open(LEAST_CONTEXT)) as runtime:
            return [len(runtime.tokenize(text)) for _, text in prompts]

    def _open(self, context_length: int) -> Runtime:
        room = min(max(context_length, LEAST_CONTEXT), self._bundle.context_length)
        runtime = open_runtime(self._bundle, threads=self._threads, context_length=room)
        if self._chat.template == HERMES and isinstance(runtime, GreedyRuntime):
            ids = runtime.tokenize(HERMES_TURN_END)
            if len(ids) != 1:
                runtime.close()
                raise ModelError(
                    f"{self._bundle.file}: the tokenizer lacks {HERMES_TURN_END}, which ends a turn of the Hermes "
                    "template; give --chat-template model"
                )
            runtime.stop_ids |= frozenset(ids)
        return runtime

    def close(self) -> None:
        """Nothing is held between two calls of `answer`."""


def bundle_backend(folder: Path, chat_template: ChatTemplate, *, threads: int) -> FileBackend:
    """A bundle with its own chat template, which is what its checkpoint was trained with, unless ours is asked for.

    Raises: ArtifactError, RuntimeFailure: the bundle is damaged.
    """
    chat = read_chat(folder)
    if chat_template == "hermes":
        chat = dataclasses.replace(chat, template=HERMES)
    return FileBackend(read_bundle(folder), chat, threads=threads)


def gguf_backend(path: Path, chat_template: ChatTemplate, *, threads: int) -> FileBackend:
    """A GGUF file by itself, with the template in it where that shows the tools, or as asked.

    Raises: RuntimeMissing: the gguf package is not installed. ModelError: a damaged file, or no template in it.
    """
    from star_edge.models.gguf_file import GgufFile  # needs the optional gguf package

    metadata = GgufFile(path).metadata
    own = metadata.get("tokenizer.chat_template")
    chat = ChatFiles(_template(own, chat_template, path), _token(metadata, "bos"), _token(metadata, "eos"))
    architecture = metadata.get("general.architecture")
    bundle = Bundle(
        folder=path.parent,
        file=path,
        format="gguf",
        quantization="",
        sha256=sha256_file(path),
        size_bytes=path.stat().st_size,
        context_length=int(metadata.get(f"{architecture}.context_length", LEAST_CONTEXT)),
    )
    return FileBackend(bundle, chat, threads=threads)


def _template(own: str | None, chat_template: ChatTemplate, path: Path) -> str:
    if chat_template == "model" and own is None:
        raise ModelError(f"{path}: no chat template in it; give --chat-template hermes")
    if own is not None and (chat_template == "model" or (chat_template == "auto" and mentions_tools(own))):
        return own
    return HERMES


def _token(metadata: dict[str, Any], name: str) -> str:
    """Text of a special token; "" where the file names none."""
    index, tokens = metadata.get(f"tokenizer.ggml.{name}_token_id"), metadata.get("tokenizer.ggml.tokens", [])
    return str(tokens[index]) if index is not None and index < len(tokens) else ""
