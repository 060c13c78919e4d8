"""Which weights learn: LoRA on the last layers, or the weights themselves."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model

from star_edge.contracts import TuningConfig
from star_edge.errors import RecipeError


def attach(model: Any, tuning: TuningConfig, tokenizer: Any) -> Any:
    """Make the weights of `tuning` trainable and freeze the rest.

    With LoRA on the last layers and no `train_tokens`, the backward pass ends at the lowest of those layers, as nothing
    below it wants a gradient. `train_tokens` are trained in the embedding, so it then runs through the whole model.

    Args:
        model: a causal LM; one that carries an adapter already is returned as it is and goes on with that adapter.
        tokenizer: looks up the ids of `train_tokens`.
    Returns: the model, wrapped by peft for LoRA.
    Raises: RecipeError: more layers than there are, a module the model lacks, or a token that is not one token.
    """
    if isinstance(model, PeftModel):
        return model
    layers = list(range(*_layer_range(model, tuning)))
    if tuning.method == "full":
        return _unfreeze(model, layers, everything=tuning.last_layers is None)
    _check_modules(model, tuning.modules)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=tuning.rank,
        lora_alpha=tuning.alpha,
        lora_dropout=0.0,
        target_modules=list(tuning.modules),
        layers_to_transform=layers,
        layers_pattern="layers",
        trainable_token_indices=_token_indices(model, tuning, tokenizer),
    )
    return get_peft_model(model, config)


def _layer_range(model: Any, tuning: TuningConfig) -> tuple[int, int]:
    total = model.config.num_hidden_layers
    count = total if tuning.last_layers is None else tuning.last_layers
    if not 1 <= count <= total:
        raise RecipeError(f"tuning.last_layers is {count}, but the model has {total} layers; choose 1 to {total}")
    return total - count, total


def _unfreeze(model: Any, layers: list[int], *, everything: bool) -> Any:
    """All weights, or those of the last layers and the norm behind them; the (tied) embedding then stays frozen."""
    model.requires_grad_(everything)
    if not everything:
        decoder = model.get_decoder()
        for index in layers:
            decoder.layers[index].requires_grad_(True)
        decoder.norm.requires_grad_(True)
    return model


def _check_modules(model: Any, modules: tuple[str, ...]) -> None:
    names = {name.rsplit(".", 1)[-1] for name, _ in model.get_decoder().layers.named_modules()}
    for module in modules:
        if module not in names:
            raise RecipeError(f"tuning.modules: the model has no module '{module}'; choose among its linear layers")


def _token_indices(model: Any, tuning: TuningConfig, tokenizer: Any) -> dict[str, list[int]] | None:
    """The rows of `train_tokens` in the embedding and, where it is a matrix of its own, in the head."""
    if not tuning.train_tokens:
        return None
    vocabulary = tokenizer.get_vocab()
    for token in tuning.train_tokens:
        if token not in vocabulary:
            raise RecipeError(f"tuning.train_tokens: '{token}' is not one token of this tokenizer; leave it out")
    ids = sorted({vocabulary[token] for token in tuning.train_tokens})
    rows = {"embed_tokens": ids}
    if not model.config.tie_word_embeddings:
        rows["lm_head"] = ids
    return rows
