from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from star_edge.contracts import Checkpoint, TuningConfig
from star_edge.errors import RecipeError
from star_edge.models.load import LoadedModel, load
from star_edge.models.tuning import attach


@pytest.fixture
def student(tiny_student: Path) -> LoadedModel:
    return load(Checkpoint(tiny_student, "base"), device="cpu", trainable=True)


def trainable(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_lora_trains_the_last_layers_only(student: LoadedModel) -> None:
    model = attach(student.model, TuningConfig(rank=2, last_layers=1, modules=("q_proj", "up_proj")), student.tokenizer)
    names = trainable(model)
    assert len(names) == 4
    assert all(".layers.1." in name and ".lora_" in name for name in names)


def test_no_gradient_is_computed_below_the_lowest_adapted_layer(student: LoadedModel) -> None:
    model = attach(student.model, TuningConfig(rank=2, last_layers=1), student.tokenizer)
    inputs: list[bool] = []
    layer = model.get_base_model().model.layers[1]
    layer.register_forward_pre_hook(lambda _module, args: inputs.append(args[0].requires_grad))
    model(input_ids=torch.tensor([[1, 2, 3]])).logits.sum().backward()
    assert inputs == [False]


def test_full_tuning_trains_everything(student: LoadedModel) -> None:
    model = attach(student.model, TuningConfig(method="full"), student.tokenizer)
    assert trainable(model) == {name for name, _ in model.named_parameters()}


def test_full_tuning_of_last_layers_leaves_the_embedding_alone(student: LoadedModel) -> None:
    model = attach(student.model, TuningConfig(method="full", last_layers=1), student.tokenizer)
    names = trainable(model)
    assert "model.norm.weight" in names
    assert all(name.startswith(("model.layers.1.", "model.norm.")) for name in names)


def test_named_tokens_learn_and_the_others_stay(student: LoadedModel) -> None:
    tuning = TuningConfig(rank=2, train_tokens=("<|im_start|>", "<|im_end|>"))
    model = attach(student.model, tuning, student.tokenizer)
    before = model.get_input_embeddings().weight.detach().clone()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    ids = torch.tensor([[1, 50, 2]])
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    moved = (model.merge_and_unload().get_input_embeddings().weight != before).any(dim=1).nonzero().flatten().tolist()
    assert moved == [1, 2]


def test_untied_head_learns_the_named_tokens_too(student: LoadedModel) -> None:
    config = LlamaConfig(
        vocab_size=800, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    model = attach(LlamaForCausalLM(config), TuningConfig(rank=2, train_tokens=("<|im_end|>",)), student.tokenizer)
    assert {name.split(".")[-4] for name in trainable(model) if "trainable_tokens" in name} == {
        "embed_tokens",
        "lm_head",
    }


def test_an_adapter_goes_on_as_it_is(student: LoadedModel) -> None:
    model = attach(student.model, TuningConfig(rank=2), student.tokenizer)
    assert attach(model, TuningConfig(rank=8), student.tokenizer) is model


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        (TuningConfig(last_layers=3), "tuning.last_layers is 3, but the model has 2 layers"),
        (TuningConfig(last_layers=0), "tuning.last_layers is 0"),
        (TuningConfig(modules=("q_proj", "w1")), "no module 'w1'"),
        (TuningConfig(train_tokens=("<tool_call>",)), "'<tool_call>' is not one token"),
    ],
)
def test_impossible_tuning_is_refused(student: LoadedModel, tuning: TuningConfig, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        attach(student.model, tuning, student.tokenizer)
