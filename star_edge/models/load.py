"""Any source of a model -> one kind of folder (`prepare`), and such a folder -> a model in memory (`load`)."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from star_edge.calls.template import HERMES, mentions_tools
from star_edge.contracts import Checkpoint, ModelConfig
from star_edge.errors import ModelError
from star_edge.manifest import write_atomic
from star_edge.models.folder import (
    CHAT_TEMPLATE,
    CONFIG,
    GENERATION_CONFIG,
    TOKENIZER,
    TOKENIZER_CONFIG,
    copy_tokenizer,
    end_turns_with,
    read_model_json,
    read_template,
    special_token,
    stop_token_ids,
    tokenizer_fingerprint,
)
from star_edge.models.plain_text import read_as_text
from star_edge.models.prune import keep_layers
from star_edge.models.sources import ResolvedSource, resolve_source

__all__ = [
    "LoadedModel",
    "ResolvedSource",
    "load",
    "load_tokenizer",
    "prepare",
    "read_template",
    "resolve_source",
    "tokenizer_fingerprint",
]

ADAPTER_WEIGHTS = "adapter_model.safetensors"
HERMES_TURN_END = "<|im_end|>"
WEIGHT_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory with its tokenizer and the chat template every prompt is rendered with."""

    model: Any  # a transformers causal LM, or a PeftModel around one
    tokenizer: Any
    template: str
    stop_token_ids: tuple[int, ...]

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device


# ------------------------------------------------------------------------------------------------ source -> folder


def prepare(config: ModelConfig, out: Path) -> Checkpoint:
    """Make `out` the model folder that every later stage starts from.

    A GGUF file is converted to float32; weights of a folder or hub id are linked, not copied. Tokenizer files are
    copied byte for byte where there are any. `chat_template.jinja` is always written: the model's own template, or
    our Hermes one when the recipe says so or the model's own leaves out the tools.

    Raises: ModelError: the source cannot be found, read or pruned.
    """
    source = resolve_source(config)
    out.mkdir(parents=True, exist_ok=True)
    if source.kind == "gguf":
        # Only this branch needs the optional gguf package.
        from star_edge.models.gguf_convert import convert

        convert(source.path, out)
    else:
        link_folder(source.path, out)
    if config.keep_layers is not None:
        _prune_folder(out, config.keep_layers)
    if config.plain_text_tokens:
        read_as_text(out, config.plain_text_tokens)
    choose_template(config, out)
    return Checkpoint(out, "base")


def link_folder(source: Path, out: Path) -> None:
    """Make `out` the same model: small files copied byte for byte, weights as symbolic links.

    Links inside a run are relative, so that it can be moved; a link to a user's own model is absolute.

    Raises: ModelError: `source` is not a model folder with safetensors.
    """
    read_model_json(source, CONFIG)
    read_model_json(source, TOKENIZER)
    weights = sorted(source.glob("*.safetensors"))
    if not weights:
        raise ModelError(f"{source}: no .safetensors file; pickled weights are not read: save the model as safetensors")
    for name in (CONFIG, GENERATION_CONFIG, WEIGHT_INDEX):
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    copy_tokenizer(source, out)
    for file in weights:
        link = out / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(_target(file, out))


def _target(file: Path, out: Path) -> Path:
    """Where a link in `out`, which is `<run>/<stage>/<name>`, leads to; a neighbour may itself be a link elsewhere."""
    folder, here = file.parent.resolve(), out.resolve()
    if len(here.parents) > 1 and folder.is_relative_to(here.parents[1]):
        return Path(os.path.relpath(folder, here)) / file.name
    return file.resolve()


def _prune_folder(folder: Path, layers: int) -> None:
    """Replace the folder's weights by those of its depth-pruned model."""
    model = keep_layers(_load_base(folder, torch.float32), layers)
    for old in [*folder.glob("*.safetensors"), folder / WEIGHT_INDEX]:
        old.unlink(missing_ok=True)
    save_model(model, folder)


def save_model(model: Any, folder: Path) -> None:
    """Write weights and config of a model as safetensors.

    Raises: ModelError: the disk is full or the folder cannot be written.
    """
    try:
        model.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{folder}: cannot be written ({_first_line(error)}); free some space or choose another --out"
        ) from error


def choose_template(config: ModelConfig, folder: Path) -> None:
    """Write the folder's `chat_template.jinja` as `prepare` says; `student` is for `read_as_other` to fill in.

    Raises: ModelError: the model's own template is asked for and there is none, or the tokenizer lacks the turn end.
    """
    if config.chat_template == "student":
        return
    if config.chat_template == "hermes":
        template = HERMES
    elif config.chat_template == "model":
        template = read_template(folder)
    else:
        template = _own_template_or_hermes(folder)
    write_atomic(folder / CHAT_TEMPLATE, template)
    if template == HERMES:
        end_turns_with(folder, HERMES_TURN_END)


def read_as_other(folder: Path, other: Path) -> None:
    """Make a model folder read its prompts and end its turns as another of the same vocabulary does."""
    copy_tokenizer(other, folder)
    write_atomic(folder / CHAT_TEMPLATE, read_template(other))
    (folder / GENERATION_CONFIG).unlink(missing_ok=True)
    if (other / GENERATION_CONFIG).is_file():
        shutil.copyfile(other / GENERATION_CONFIG, folder / GENERATION_CONFIG)


def _own_template_or_hermes(folder: Path) -> str:
    try:
        template = read_template(folder)
    except ModelError:
        return HERMES
    return template if mentions_tools(template) else HERMES


# ------------------------------------------------------------------------------------------------ folder -> memory


def load(checkpoint: Checkpoint, *, device: str, dtype: str = "float32", trainable: bool = False) -> LoadedModel:
    """Load a checkpoint; an adapter is loaded on top of its base.

    Args:
        device: "cpu", "cuda" or "cuda:N".
        dtype: name of a torch dtype; "float32" on a CPU.
        trainable: gradients on and training mode: for an adapter its own weights, otherwise all of them.
    Raises: ModelError: a file is missing or damaged, or weights do not fit the config.
    """
    model = _load_base(checkpoint.base or checkpoint.folder, getattr(torch, dtype))
    if checkpoint.is_adapter:
        model = _with_adapter(model, checkpoint.folder, trainable=trainable)
    elif not trainable:
        model.requires_grad_(False)
    model.to(device)
    model.train(trainable)
    folder = tokenizer_folder(checkpoint)
    return LoadedModel(model, load_tokenizer(folder), read_template(folder), stop_token_ids(folder))


def tokenizer_folder(checkpoint: Checkpoint) -> Path:
    """Where a checkpoint's tokenizer and template are: with an adapter that brings none, its base."""
    if checkpoint.base is not None and not (checkpoint.folder / TOKENIZER).is_file():
        return checkpoint.base
    return checkpoint.folder


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer exactly as tokenizer.json describes it, whatever class the folder names; pads on the left.

    transformers' own classes rebuild parts of a tokenizer, and differently from one major version to the next.

    Raises: ModelError: a file is missing or damaged.
    """
    settings = read_model_json(folder, TOKENIZER_CONFIG)
    read_model_json(folder, TOKENIZER)
    try:
        backend = Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # the tokenizers package raises bare Exception
        raise ModelError(
            f"{folder / TOKENIZER}: not a tokenizer ({_first_line(error)}); make the folder again"
        ) from error
    backend.no_truncation()
    backend.no_padding()
    named = {name: special_token(settings, name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    named["pad_token"] = named["pad_token"] or named["eos_token"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=settings.get("model_max_length", 1_000_000),
        clean_up_tokenization_spaces=False,
        padding_side="left",
        chat_template=read_template(folder),
        **{name: text for name, text in named.items() if text is not None},
    )


def _load_base(folder: Path, dtype: torch.dtype) -> Any:
    read_model_json(folder, CONFIG)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder}: no .safetensors file; pickled weights are not read: save the model as safetensors")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot be loaded ({_first_line(error)}); fetch or make the model again") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} weights are missing, first {missing[0]}; fetch or make the model again"
        )
    return model


def _with_adapter(model: Any, folder: Path, *, trainable: bool) -> Any:
    # peft takes seconds to import and full checkpoints do not need it.
    from peft import PeftModel

    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(f"{folder}: no {ADAPTER_WEIGHTS}; is this the folder of a finished LoRA stage?")
    try:
        return PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: the adapter does not load ({_first_line(error)}); run its stage again") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
