"""A tokenizer.json from a GGUF file's own vocabulary fields, cutting text as llama.cpp cuts it.

A GGUF file names its pre-tokenizer (`tokenizer.ggml.pre`) and leaves the rules to the reader. Those of llama.cpp
(src/llama-vocab.cpp) are spelt out here for the byte-level BPE families we convert. llama.cpp never normalises text,
so no normaliser is written either, although Qwen's original tokenizer.json has NFC: what a device feeds the model is
then what it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from star_edge.errors import ModelError
from star_edge.manifest import write_atomic
from star_edge.models.folder import CHAT_TEMPLATE, TOKENIZER, TOKENIZER_CONFIG, dump

# tokenizer.ggml.token_type, as in llama.h
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5
CHAT_TURN_END = "<|im_end|>"
# Ends of a turn or a text in the families we know.
END_TOKENS = (CHAT_TURN_END, "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>")

GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CONTRACTIONS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
QWEN2_SPLIT = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3_SPLIT = QWEN2_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
PUNCTUATION = r"[\p{P}\$\+<=>\^~\|]+"

# Name in `tokenizer.ggml.pre` -> the splits, one after another, that come before the byte-level step.
SPLITS: Mapping[str, tuple[str, ...]] = {
    "gpt-2": (GPT2_SPLIT,),
    "smollm": (r"\p{N}", GPT2_SPLIT),
    "qwen2": (QWEN2_SPLIT,),
    "llama-bpe": (LLAMA3_SPLIT,),
    "default": (PUNCTUATION, GPT2_SPLIT, r"\p{N}+", "[0-9][0-9][0-9]"),
}
ALIASES: Mapping[str, str] = {
    "phi-2": "gpt-2",
    "starcoder": "smollm",
    "deepseek-r1-qwen": "qwen2",
    "llama3": "llama-bpe",
    "llama-v3": "llama-bpe",
}
# llama-bpe takes a piece that is a token as it is, without going through the merges, and begins texts with BOS.
WHOLE_PIECES_FIRST = ("llama-bpe",)


def write_tokenizer(metadata: Mapping[str, Any], out: Path, *, where: str, context_length: int) -> tuple[int, ...]:
    """Write tokenizer.json, tokenizer_config.json and, where the file has one, chat_template.jinja.

    Args:
        metadata: the GGUF file's entries.
        where: what to call the file in an error.
    Returns: ids that end a generation, the tokenizer's EOS first.
    Raises: ModelError: not byte-level BPE, an unknown pre-tokenizer, or fields that do not fit together.
    """
    tokens, types = _vocabulary(metadata, where)
    build_tokenizer(metadata, tokens, types, where=where).save(str(out / TOKENIZER))
    template = metadata.get("tokenizer.chat_template")
    if template is not None:
        write_atomic(out / CHAT_TEMPLATE, template)
    stops = _stop_ids(metadata, tokens, types)
    names = {
        "bos_token": _token(metadata, "bos", tokens),
        "eos_token": tokens[stops[0]] if stops else None,
        "unk_token": _token(metadata, "unknown", tokens),
        "pad_token": _token(metadata, "padding", tokens),
    }
    settings = {
        # The class that takes tokenizer.json as it is; families' own classes rebuild parts of it.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
        **{name: text for name, text in names.items() if text is not None},
    }
    write_atomic(out / TOKENIZER_CONFIG, dump(settings))
    return stops


def build_tokenizer(metadata: Mapping[str, Any], tokens: list[str], types: list[int], *, where: str) -> Tokenizer:
    """The tokenizer in memory; see `write_tokenizer`."""
    stated = metadata.get("tokenizer.ggml.pre", "default")
    pre = ALIASES.get(stated, stated)
    if pre not in SPLITS:
        raise ModelError(f"{where}: pre-tokenizer '{pre}' is not known (known: {', '.join(sorted(SPLITS))})")
    merges = [tuple(merge.split(" ", 1)) for merge in metadata.get("tokenizer.ggml.merges", [])]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    try:
        model = models.BPE(vocab=vocabulary, merges=merges, ignore_merges=pre in WHOLE_PIECES_FIRST)
    except Exception as error:  # the tokenizers package raises bare Exception
        raise ModelError(f"{where}: vocabulary and merges do not fit ({error}); convert the file again") from None
    tokenizer = Tokenizer(model)
    splits = [pre_tokenizers.Split(Regex(split), behavior="isolated") for split in SPLITS[pre]]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, types, strict=True):
        if kind in (CONTROL, UNKNOWN):
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    _add_bos(tokenizer, metadata, tokens, default=pre in WHOLE_PIECES_FIRST)
    return tokenizer


def _vocabulary(metadata: Mapping[str, Any], where: str) -> tuple[list[str], list[int]]:
    """Tokens and types by id, without the unused ones at the end that only pad the embedding."""
    kind = metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise ModelError(f"{where}: its tokenizer is '{kind}', and only byte-level BPE ('gpt2') can be converted")
    tokens: list[str] = metadata.get("tokenizer.ggml.tokens", [])
    types: list[int] = metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    if not tokens or len(tokens) != len(types):
        raise ModelError(f"{where}: {len(tokens)} tokens but {len(types)} token types; convert the file again")
    used = len(tokens)
    while used and types[used - 1] == UNUSED:
        used -= 1
    return tokens[:used], types[:used]


def _stop_ids(metadata: Mapping[str, Any], tokens: list[str], types: list[int]) -> tuple[int, ...]:
    """The turn's end first when the chat template uses it, then the file's EOS, then another end; two at the most.

    Two, because that is what a GGUF file can state (eos and eot), and every runtime is to stop at the same tokens.
    """
    ends = {tokens[index]: index for index, kind in enumerate(types) if kind == CONTROL and tokens[index] in END_TOKENS}
    first = []
    if CHAT_TURN_END in ends and CHAT_TURN_END in metadata.get("tokenizer.chat_template", CHAT_TURN_END):
        first.append(ends[CHAT_TURN_END])
    for name in ("eos", "eot"):
        index = metadata.get(f"tokenizer.ggml.{name}_token_id")
        if index is not None and index < len(tokens):
            first.append(index)
    return tuple(dict.fromkeys([*first, *ends.values()]))[:2]


def _token(metadata: Mapping[str, Any], name: str, tokens: list[str]) -> str | None:
    index = metadata.get(f"tokenizer.ggml.{name}_token_id")
    return tokens[index] if index is not None and index < len(tokens) else None


def _add_bos(tokenizer: Tokenizer, metadata: Mapping[str, Any], tokens: list[str], *, default: bool) -> None:
    """Begin a text with BOS when special tokens are asked for, as the file says; chat prompts never ask."""
    bos = _token(metadata, "bos", tokens)
    if bos is None or not metadata.get("tokenizer.ggml.add_bos_token", default):
        return
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, metadata["tokenizer.ggml.bos_token_id"])]
    )
