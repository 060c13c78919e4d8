"""Added tokens that a model is to read and write as ordinary text.

A model that never learnt its `<tool_call>` token still writes the tag well when it is cut into ordinary pieces.
Renamed in the tokenizer of the base model, the token is out of reach for training and for every exported file alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from star_edge.errors import ModelError
from star_edge.manifest import write_atomic
from star_edge.models.folder import ADDED_TOKENS, SPECIAL_TOKENS, TOKENIZER, TOKENIZER_CONFIG, dump, read_model_json

# Where else transformers looks for added tokens, and would put them back.
OTHER_FILES = (TOKENIZER_CONFIG, SPECIAL_TOKENS, ADDED_TOKENS)


def read_as_text(folder: Path, tokens: Sequence[str]) -> None:
    """Rename added tokens in a model folder's tokenizer, so that their old text is cut like any other.

    They are renamed, not removed: a gap among the ids of added tokens would shift those behind it.

    Raises: ModelError: the tokenizer has no such added token.
    """
    tokenizer = read_model_json(folder, TOKENIZER)
    ids = {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
    if missing := set(tokens) - ids.keys():
        raise ModelError(
            f"{folder / TOKENIZER}: {', '.join(sorted(missing))} is not an added token; check plain_text_tokens"
        )
    names = {token: f"<|unused_{ids[token]}|>" for token in tokens}
    write_atomic(folder / TOKENIZER, dump(_renamed(tokenizer, names)))
    for name in OTHER_FILES:
        if (folder / name).is_file():
            write_atomic(folder / name, dump(_renamed(read_model_json(folder, name), names)))


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """JSON in which every string and every key that is one of the tokens has its new name."""
    if isinstance(value, dict):
        return {names.get(key, key): _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value
