"""tokenizer.json -> the vocabulary fields of a GGUF file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_edge.errors import ExportError
from star_edge.models.folder import (
    TOKENIZER,
    TOKENIZER_CONFIG,
    read_model_json,
    special_token,
    stop_token_ids,
    token_ids,
)
from star_edge.models.gguf_tokenizer import (
    CONTRACTIONS,
    CONTROL,
    GPT2_SPLIT,
    NORMAL,
    SPLITS,
    UNUSED,
    USER_DEFINED,
    WHOLE_PIECES_FIRST,
)

# How tokenizer.json files spell CONTRACTIONS; the pieces are the same.
CONTRACTIONS_IGNORING_CASE = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"


@dataclass(frozen=True, slots=True)
class GgufVocabulary:
    """What `tokenizer.ggml.*` says. Tokens and types have one entry for every row of the embedding."""

    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    special_ids: dict[str, int]
    add_bos: bool


def read_vocabulary(folder: Path, rows: int) -> GgufVocabulary:
    """Read a model folder's tokenizer.

    Args:
        rows: rows of the embedding; those beyond the last token become unused tokens.
    Raises: ExportError: not byte-level BPE, cut by rules llama.cpp has no name for, or more tokens than rows.
    """
    tokenizer = read_model_json(folder, TOKENIZER)
    if tokenizer.get("model", {}).get("type") != "BPE" or tokenizer["model"].get("byte_fallback"):
        raise ExportError(f"{folder / TOKENIZER}: only byte-level BPE can be written to GGUF; choose another model")
    texts = {index: token for token, index in token_ids(folder).items()}
    if max(texts) >= rows:
        raise ExportError(
            f"{folder}: token {max(texts)} has no row in the embedding ({rows} rows); the folder is mixed up"
        )
    types = dict.fromkeys(texts, NORMAL)
    types.update({t["id"]: CONTROL if t["special"] else USER_DEFINED for t in tokenizer.get("added_tokens", [])})
    merges = tokenizer["model"]["merges"]
    return GgufVocabulary(
        pre=detect_pre_tokenizer(tokenizer, str(folder / TOKENIZER)),
        tokens=[texts.get(index, f"[PAD{index}]") for index in range(rows)],
        types=[types.get(index, UNUSED) for index in range(rows)],
        merges=[merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
        special_ids=_special_ids(folder),
        add_bos=_adds_bos(tokenizer),
    )


def detect_pre_tokenizer(tokenizer: dict[str, Any], where: str) -> str:
    """The name llama.cpp has for the way a tokenizer.json cuts text before the merges.

    It is read from the rules themselves. (llama.cpp's converter hashes the ids of a sample text, which no tokenizer
    passes whose vocabulary is its own.) NFC is accepted: llama.cpp has no normaliser, so a prompt with decomposed
    characters is to be normalised before llama.cpp gets it.

    Raises: ExportError: no name fits.
    """
    normalizer = tokenizer.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise ExportError(f"{where}: its normaliser ({normalizer.get('type')}) does not exist in llama.cpp")
    rules = tuple(_rules(tokenizer.get("pre_tokenizer"), where))
    whole_first = bool(tokenizer["model"].get("ignore_merges"))
    for name, splits in SPLITS.items():
        if rules == splits and whole_first == (name in WHOLE_PIECES_FIRST):
            return name
    raise ExportError(
        f"{where}: llama.cpp has no name for its pre-tokenizer {list(rules)} (known: {', '.join(SPLITS)})"
    )


def _rules(step: dict[str, Any] | None, where: str) -> list[str]:
    """The splits of a pre-tokenizer, in order, spelt as in SPLITS."""
    kind = step.get("type") if step else None
    if step is None or kind not in ("Sequence", "ByteLevel", "Digits", "Split"):
        raise ExportError(f"{where}: its pre-tokenizer step {kind} does not exist in llama.cpp's byte-level BPE")
    if kind == "Sequence":
        return [rule for part in step["pretokenizers"] for rule in _rules(part, where)]
    if kind == "Digits":
        return [r"\p{N}" if step["individual_digits"] else r"\p{N}+"]
    if kind == "ByteLevel":
        if step["add_prefix_space"]:
            raise ExportError(f"{where}: it puts a space before a text, which llama.cpp's byte-level BPE does not")
        return [GPT2_SPLIT] if step.get("use_regex", True) else []
    pattern: str = step["pattern"].get("Regex", "")
    keeps_all = step["behavior"] == "Isolated" or (step["behavior"] == "Removed" and step["invert"])
    if not pattern or not keeps_all:
        raise ExportError(f"{where}: its split ({step['behavior']}) does not exist in llama.cpp's byte-level BPE")
    return [pattern.replace(CONTRACTIONS_IGNORING_CASE, CONTRACTIONS)]


def _special_ids(folder: Path) -> dict[str, int]:
    """Ids by the name GGUF gives them. `eot` carries a second end token, so that all runtimes stop at the same ones."""
    settings = read_model_json(folder, TOKENIZER_CONFIG)
    vocabulary = token_ids(folder)
    stops = stop_token_ids(folder)
    ids = {"eos": stops[0]}
    if len(stops) > 1:
        ids["eot"] = stops[1]
    for name, setting in (("bos", "bos_token"), ("unknown", "unk_token"), ("padding", "pad_token")):
        token = special_token(settings, setting)
        if token is not None and token in vocabulary:
            ids[name] = vocabulary[token]
    return ids


def _adds_bos(tokenizer: dict[str, Any]) -> bool:
    """Whether a text begins with a special token when special tokens are asked for."""
    processor = tokenizer.get("post_processor") or {}
    steps = processor.get("processors", [processor])
    return any("SpecialToken" in (step.get("single") or [{}])[0] for step in steps)
