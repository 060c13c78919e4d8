"""Two-layer models with real tokenizers, built in a second: what the tests run on instead of downloads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOOL_TAGS = ("<tool_call>", "</tool_call>")
VOCABULARY = 800
QWEN2_PADDED_VOCABULARY = 832  # as Qwen does it: more rows in the embedding than the tokenizer has tokens
HIDDEN_SIZE = 256  # the least a K-quant can pack
# The split that Qwen2 tokenizers state in their tokenizer.json (published with the models, Apache-2.0).
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


WORD_LIST = """
alarm album answer appliance arguments artist assistant battery bedroom boolean brightness browser calendar call camera
cancel celsius channel city contact convert country currency current date default delete description device direction
duration email enabled event fahrenheit false fan favourite file filter flashlight forecast function garage heating
home humidity image integer kitchen language level library list location lock message minute mode month morning music
name navigate notification number object offset option order parameters percentage phone photo play playlist price
priority properties query reminder repeat required resume return room route schedule schema search send sensor set
shopping shuffle song speaker start status stop string system temperature text thermostat time timer title tomorrow
tool translate true turn type unit update user value volume weather week window yesterday zone
"""
WORDS = WORD_LIST.split()


def corpus() -> Iterator[str]:
    """A few hundred lines in which the words of tool calls are frequent enough to become tokens."""
    rooms = ("kitchen", "bedroom", "living room", "hall", "garage")
    actions = ("turn on", "turn off", "dim", "brighten", "set")
    for number in range(40):
        for room in rooms:
            action = actions[number % len(actions)]
            yield f"Please {action} the lights in the {room} at {number % 24}:{number:02d}."
            call = {"name": "set_light", "arguments": {"room": room, "level": number, "state": action}}
            yield f"<tool_call>\n{json.dumps(call)}\n</tool_call>"
        for first, second in zip(WORDS, WORDS[number + 1 :], strict=False):
            yield f'Which {first} has a {second}? {{"{second}": "{first}"}}'
        yield f"system\nYou are given tools with names and parameters.\nuser\nWhat is the weather?\nassistant\n{number}"


def smollm_tokenizer() -> Tokenizer:
    """Byte-level BPE that splits digits one by one, as SmolLM2's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )
    return _train(tokenizer, VOCABULARY - len(SPECIAL_TOKENS), first=SPECIAL_TOKENS)


def qwen2_tokenizer() -> Tokenizer:
    """Byte-level BPE with Qwen2's split and normaliser, special tokens and tool tags behind the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated", invert=False)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer = _train(tokenizer, VOCABULARY)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.add_tokens(list(TOOL_TAGS))
    return tokenizer


def _train(tokenizer: Tokenizer, size: int, first: tuple[str, ...] = ()) -> Tokenizer:
    trainer = trainers.BpeTrainer(
        vocab_size=size + len(first),
        special_tokens=list(first),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _write_tokenizer(tokenizer: Tokenizer, folder: Path, template: str) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 512,
        "clean_up_tokenization_spaces": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def _sizes(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        # Wide enough that greedy choices are no near-ties, small enough that training starts near ln(vocabulary).
        "initializer_range": 0.08,
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "pad_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "bos_token_id": None,
    }


def write_tiny_llama(folder: Path, template: str, *, seed: int = 0) -> Path:
    """A llama model folder: 2 layers, hidden size 256, 800 tokens, weights drawn from `seed`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = smollm_tokenizer()
    config = LlamaConfig(vocab_size=tokenizer.get_vocab_size(), rope_theta=10000.0, **_sizes(tokenizer))
    return _save(LlamaForCausalLM, config, folder, tokenizer, template, seed)


def write_tiny_qwen2(folder: Path, template: str, *, seed: int = 0) -> Path:
    """A qwen2 model folder: as the llama one, with q/k/v biases and an embedding padded beyond the vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = qwen2_tokenizer()
    config = Qwen2Config(vocab_size=QWEN2_PADDED_VOCABULARY, rope_theta=1000000.0, **_sizes(tokenizer))
    return _save(Qwen2ForCausalLM, config, folder, tokenizer, template, seed)


def write_tiny_qwen3(folder: Path, template: str, *, seed: int = 0, tied: bool = True) -> Path:
    """A qwen3 model folder: norms over queries and keys, and heads that are wider together than the hidden state.

    The small ones tie head and embedding, the large ones do not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = qwen2_tokenizer()
    sizes = {**_sizes(tokenizer), "head_dim": 2 * HIDDEN_SIZE // 4, "tie_word_embeddings": tied}
    config = Qwen3Config(vocab_size=QWEN2_PADDED_VOCABULARY, rope_theta=1000000.0, **sizes)
    return _save(Qwen3ForCausalLM, config, folder, tokenizer, template, seed)


def _save(kind: Any, config: Any, folder: Path, tokenizer: Tokenizer, template: str, seed: int) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(config)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.5)  # zero, the default, would hide a bias that got lost
            if name.endswith(("q_norm.weight", "k_norm.weight")):
                torch.nn.init.uniform_(parameter, 0.2, 0.6)  # ones, the default, would hide a norm that got lost
    model.save_pretrained(folder)
    _write_tokenizer(tokenizer, folder, template)
    return folder
