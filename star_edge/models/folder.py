"""What can be read from a Hugging Face model folder without loading the model (no torch here)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from star_edge.errors import ArtifactError, ModelError
from star_edge.manifest import hash_json, read_json, write_atomic

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
ADDED_TOKENS = "added_tokens.json"
SPECIAL_TOKENS = "special_tokens_map.json"
CHAT_TEMPLATE = "chat_template.jinja"
# Everything that may belong to a tokenizer; only the first two are read by us, all are handed on as they are.
TOKENIZER_FILES = (
    TOKENIZER,
    TOKENIZER_CONFIG,
    SPECIAL_TOKENS,
    ADDED_TOKENS,
    "vocab.json",
    "merges.txt",
    CHAT_TEMPLATE,
)


def read_model_json(folder: Path, name: str) -> dict[str, Any]:
    """One JSON file of a model folder.

    Raises: ModelError: the file is missing or damaged.
    """
    if not (folder / name).is_file():
        raise ModelError(f"{folder}: no {name}; give a Hugging Face model folder with safetensors and tokenizer.json")
    try:
        return read_json(folder / name)
    except ArtifactError:
        raise ModelError(f"{folder / name}: not readable as JSON; fetch or make the model again") from None


def read_template(folder: Path) -> str:
    """The chat template: `chat_template.jinja`, else the one in tokenizer_config.json (`tool_use` before `default`).

    Raises: ModelError: the folder has none.
    """
    path = folder / CHAT_TEMPLATE
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = read_model_json(folder, TOKENIZER_CONFIG).get("chat_template")
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        template = named.get("tool_use") or named.get("default")
    if not isinstance(template, str):
        raise ModelError(f"{folder}: no chat template; set chat_template: hermes in the recipe")
    return template


def special_token(settings: dict[str, Any], name: str) -> str | None:
    """Text of `eos_token` and the like, which a tokenizer_config gives as a string or as an object."""
    value = settings.get(name)
    return value["content"] if isinstance(value, dict) else value


def token_ids(folder: Path) -> dict[str, int]:
    """Token text -> id, added tokens included."""
    tokenizer = read_model_json(folder, TOKENIZER)
    vocabulary = dict(tokenizer.get("model", {}).get("vocab", {}))
    vocabulary.update({token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])})
    return vocabulary


def tokenizer_fingerprint(folder: Path) -> str:
    """Hash of what decides a token's id: vocabulary, merges and added tokens, however the files lay them out.

    Two folders with the same fingerprint may exchange token ids. Embedding rows beyond the last token (padding) do not
    count either.

    Raises: ModelError: tokenizer.json is missing or damaged.
    """
    tokenizer = read_model_json(folder, TOKENIZER)
    merges = tokenizer.get("model", {}).get("merges", [])
    return hash_json(
        {
            "tokens": token_ids(folder),
            "merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
            "added": sorted(token["content"] for token in tokenizer.get("added_tokens", [])),
        }
    )


def stop_token_ids(folder: Path) -> tuple[int, ...]:
    """Ids that end a generation: the tokenizer's end token first, then those of generation_config.json.

    Raises: ModelError: the folder names no end token.
    """
    ids: list[int] = []
    end_token = special_token(read_model_json(folder, TOKENIZER_CONFIG), "eos_token")
    if end_token is not None and (found := token_ids(folder).get(end_token)) is not None:
        ids.append(found)
    if (folder / GENERATION_CONFIG).is_file():
        stated = read_model_json(folder, GENERATION_CONFIG).get("eos_token_id")
        ids.extend(stated if isinstance(stated, list) else [] if stated is None else [stated])
    if not ids:
        raise ModelError(f"{folder}: no eos_token in {TOKENIZER_CONFIG}; set it to the token that ends a turn")
    return tuple(dict.fromkeys(ids))


def end_turns_with(folder: Path, token: str) -> None:
    """Make `token` the folder's end token, where it is not already (a template of ours ends turns with it).

    Raises: ModelError: the tokenizer has no such token.
    """
    token_id = token_ids(folder).get(token)
    if token_id is None:
        raise ModelError(
            f"{folder}: the tokenizer lacks {token}, which ends a turn of the Hermes template; set chat_template: model"
        )
    settings = read_model_json(folder, TOKENIZER_CONFIG)
    if special_token(settings, "eos_token") != token:
        write_atomic(folder / TOKENIZER_CONFIG, dump({**settings, "eos_token": token}))
    stops = stop_token_ids(folder)
    path = folder / GENERATION_CONFIG
    generation = read_model_json(folder, GENERATION_CONFIG) if path.is_file() else {}
    if generation.get("eos_token_id") != list(stops):
        write_atomic(path, dump({**generation, "eos_token_id": list(stops)}))


def copy_tokenizer(source: Path, out: Path) -> None:
    """Copy the tokenizer's files and the chat template byte for byte: saved anew, their hash would change."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)


def dump(value: dict[str, Any]) -> str:
    """JSON as we write it into model folders."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
