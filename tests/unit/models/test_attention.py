import pytest
import torch
from transformers import DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from star_edge.contracts import Checkpoint
from star_edge.models.attention import NAME, decoding_attention, grouped_attention
from star_edge.models.load import load


class Layer:
    num_key_value_groups = 3
    is_causal = True
    training = False


@pytest.mark.parametrize(("length", "masked"), [(1, True), (1, False), (4, True), (40, True), (5, False)])
def test_grouped_heads_give_the_numbers_of_repeated_keys(length, masked):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 6, length, 8, generator=generator)
    keys = length if length > 1 and not masked else 50
    key, value = torch.randn(2, 2, 2, keys, 8, generator=generator)
    mask = torch.rand(2, 1, length, keys, generator=generator) > 0.3 if masked else None
    given = (Layer(), query, key, value)
    expected, _ = sdpa_attention_forward(*given, mask, scaling=0.3)
    torch.testing.assert_close(grouped_attention(*given, mask, scaling=0.3)[0], expected)


def test_decoding_is_the_same_inside_the_block_and_undone_behind_it(tiny_student):
    model = load(Checkpoint(tiny_student, "base"), device="cpu").model

    def decode():
        cache = DynamicCache()
        model(input_ids=torch.tensor([[0, 5, 6, 7], [8, 9, 10, 11]]), past_key_values=cache, use_cache=True)
        mask = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
        return model(input_ids=torch.tensor([[3], [4]]), attention_mask=mask, past_key_values=cache).logits

    expected = decode()
    with decoding_attention(model):
        assert model.config._attn_implementation == NAME
        torch.testing.assert_close(decode(), expected, rtol=1e-4, atol=1e-4)
    assert model.config._attn_implementation == "sdpa"
