from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from star_edge.errors import ModelError
from star_edge.models.prune import keep_layers, kept_indices


@pytest.mark.parametrize(
    ("total", "n", "expected"),
    [
        (4, 4, [0, 1, 2, 3]),
        (4, 2, [0, 3]),
        (5, 3, [0, 2, 4]),
        (30, 1, [0]),
        (30, 4, [0, 10, 19, 29]),
        (24, 12, [0, 2, 4, 6, 8, 10, 13, 15, 17, 19, 21, 23]),
    ],
)
def test_kept_layers_are_spread_from_first_to_last(total: int, n: int, expected: list[int]) -> None:
    assert kept_indices(total, n) == expected


@pytest.mark.parametrize("n", [0, -1, 5])
def test_impossible_depth_is_refused(n: int) -> None:
    with pytest.raises(ModelError, match=f"keep_layers is {n}, but the model has 4 layers"):
        kept_indices(4, n)


@pytest.mark.parametrize("total", range(1, 33))
def test_every_depth_keeps_distinct_layers(total: int) -> None:
    for n in range(1, total + 1):
        assert len(set(kept_indices(total, n))) == n


def five_layers() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=5, num_attention_heads=2
    )
    return LlamaForCausalLM(config).eval()


def test_pruned_model_keeps_the_chosen_weights_and_says_so() -> None:
    model = five_layers()
    kept = [model.model.layers[index].mlp.up_proj.weight.clone() for index in (0, 2, 4)]
    pruned = keep_layers(model, 3)
    assert pruned.config.num_hidden_layers == 3
    for layer, weight in zip(pruned.model.layers, kept, strict=True):
        torch.testing.assert_close(layer.mlp.up_proj.weight, weight)


def test_pruned_model_decodes_with_its_cache() -> None:
    """A layer that kept its old number would write into a cache slot that nobody reads."""
    pruned = keep_layers(five_layers(), 2)
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.inference_mode():
        whole = pruned(ids).logits[:, -1]
        first = pruned(ids[:, :3], use_cache=True)
        stepped = pruned(ids[:, 3:], past_key_values=first.past_key_values).logits[:, -1]
    torch.testing.assert_close(stepped, whole)
