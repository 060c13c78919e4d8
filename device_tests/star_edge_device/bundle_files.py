"""The small files of a bundle that a runtime reads: chat template, special tokens, end tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from star_edge.calls.template import render
from star_edge.contracts import Example
from star_edge.errors import RuntimeFailure
from star_edge.manifest import MANIFEST


class Vocabulary(Protocol):
    """The one thing asked of a tokenizer here."""

    def token_to_id(self, token: str) -> int | None: ...


@dataclass(frozen=True, slots=True)
class ChatFiles:
    """How a bundle turns messages and tools into a prompt."""

    template: str
    bos_token: str = ""
    eos_token: str = ""

    def prompt(self, example: Example) -> str:
        """The text a runtime is given: all turns but the last, and the opening of the assistant's."""
        return render(
            self.template,
            example.prompt,
            example.tools,
            add_generation_prompt=True,
            bos_token=self.bos_token,
            eos_token=self.eos_token,
        )


def read_chat(folder: Path) -> ChatFiles:
    """The chat template of a bundle and the special tokens it may mention.

    Raises: RuntimeFailure: the template or the tokenizer settings are missing or not readable.
    """
    path = folder / "chat_template.jinja"
    try:
        template = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RuntimeFailure(f"{path}: cannot be read ({error}); export the bundle again") from error
    settings = _settings(folder / "tokenizer_config.json")
    return ChatFiles(template, _token(settings.get("bos_token")), _token(settings.get("eos_token")))


def read_tokenizer(folder: Path) -> Any:
    """The `tokenizers.Tokenizer` of a bundle.

    Raises: RuntimeFailure: `tokenizer.json` is missing or damaged.
    """
    from tokenizers import Tokenizer  # not at the top: a GGUF file is measured in a process without it

    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise RuntimeFailure(f"{path}: cannot be read ({reason}); export the bundle again") from error


def stop_tokens(folder: Path, vocabulary: Vocabulary) -> frozenset[int]:
    """Ids that end a completion: the manifest's, else generation_config.json's and the tokenizer's end token.

    Raises: RuntimeFailure: no file names one.
    """
    if ids := manifest_stop_tokens(folder):
        return ids
    listed = _settings(folder / "generation_config.json").get("eos_token_id")
    found = {int(token) for token in (listed if isinstance(listed, list) else [listed]) if token is not None}
    end = vocabulary.token_to_id(_token(_settings(folder / "tokenizer_config.json").get("eos_token")))
    if end is not None:
        found.add(end)
    if not found:
        raise RuntimeFailure(f"{folder}: no end token in manifest.json or the tokenizer's files; export it again")
    return frozenset(found)


def manifest_stop_tokens(folder: Path) -> frozenset[int]:
    """Ids that end a completion as the exporter noted them: those torch stops at. Empty when it noted none."""
    details = _settings(folder / MANIFEST).get("details", {})
    return frozenset(int(token) for token in details.get("stop_token_ids", ()))


def _settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RuntimeFailure(f"{path}: not readable as JSON ({error}); export the bundle again") from error
    return value if isinstance(value, dict) else {}


def _token(value: Any) -> str:
    """A special token is a string, null, or an object with its text under `content`."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""
