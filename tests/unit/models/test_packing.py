import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen2Config, Qwen2ForCausalLM

from star_edge.contracts import Checkpoint
from star_edge.errors import ModelError
from star_edge.models import packed_attention
from star_edge.models.load import load
from star_edge.models.packed_attention import packed_attention_forward
from star_edge.models.packing import add_counted_forward, pack

LONG, SHORT = (5, 6, 7, 8), (9, 10)
ROWS = [(LONG, (1, 2, 3)), (LONG, (4,)), (SHORT, (1, 2))]
SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 1, "num_key_value_heads": 1}


def test_rows_of_one_prompt_share_it():
    batch = pack(ROWS)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 1, 2, 3, 4, 9, 10, 1, 2]]
    assert batch["positions"].tolist() == [[0, 1, 2, 3, 4, 5, 6, 4, 0, 1, 2, 3]]
    assert batch["visible"].tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0, 8, 8, 8, 8],
        [4, 4, 4, 4, 4, 4, 4, 4, 10, 10, 10, 10],
        [0, 0, 0, 0, 4, 4, 4, 7, 8, 8, 10, 10],
    ]
    assert batch["labels"].tolist() == [1, 2, 3, 4, 1, 2]
    assert batch["sources"].tolist() == [3, 4, 5, 3, 9, 10]


def test_labels_follow_the_order_of_the_rows():
    rows = [(SHORT, (1, 2)), (LONG, (3,)), (LONG, (4, 5)), (SHORT, (6,))]
    batch = pack(rows)
    assert batch["labels"].tolist() == [1, 2, 3, 4, 5, 6]
    assert batch["input_ids"].shape == (1, 2 + 2 + 4 + 1 + 2 + 2 + 1)


def test_packed_states_equal_those_of_rows_computed_alone(tiny_student):
    model = load(Checkpoint(tiny_student, "base"), device="cpu").model
    rows = [*ROWS, (LONG, (1, 2, 3))]
    alone = [
        model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
        for prompt, completion in rows
    ]
    add_counted_forward(model)
    logits = model(**pack(rows), then=lambda hidden, head: hidden @ head.T)
    torch.testing.assert_close(logits, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_without_then_the_forward_is_the_one_it_was(tiny_student):
    model = load(Checkpoint(tiny_student, "base"), device="cpu").model
    ids = torch.tensor([list(LONG)])
    before = model(input_ids=ids).logits
    add_counted_forward(model)
    model(**pack(ROWS), then=lambda hidden, head: hidden)
    torch.testing.assert_close(model(input_ids=ids).logits, before)
    assert model.config._attn_implementation == "sdpa"


def test_a_head_that_is_more_than_a_product_is_refused():
    plain = {"layer_types": ["full_attention"], "attn_logit_softcapping": None}
    config = Gemma2Config(vocab_size=8, num_hidden_layers=1, head_dim=16, final_logit_softcapping=0.1, **plain, **SIZES)
    with pytest.raises(ModelError, match="gemma2: its logits are not hidden states times the head"):
        add_counted_forward(Gemma2ForCausalLM(config))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_bias_of_the_head_is_refused_in_any_precision(tiny_student, dtype):
    model = load(Checkpoint(tiny_student, "base"), device="cpu", dtype=dtype).model
    bias = torch.randn(model.lm_head.weight.shape[0], generator=torch.Generator().manual_seed(0)) * 0.05
    model.lm_head.bias = torch.nn.Parameter(bias.to(model.dtype))
    with pytest.raises(ModelError, match="logits are not hidden states times the head"):
        add_counted_forward(model)


@pytest.mark.parametrize(("off", "refused"), [(0.02, False), (2.0, True)])
def test_packed_attention_may_round_differently_and_no_more(tiny_student, monkeypatch, off, refused):
    def rounded(*args, **kwargs):
        output, weights = packed_attention_forward(*args, **kwargs)
        return output * (1 + off), weights

    monkeypatch.setattr(packed_attention, "packed_attention_forward", rounded)
    model = load(Checkpoint(tiny_student, "base"), device="cpu", dtype="bfloat16").model
    if not refused:
        add_counted_forward(model)
        return
    with pytest.raises(ModelError, match="packed rows give it other states than rows alone"):
        add_counted_forward(model)


def test_attention_that_is_not_the_plain_one_is_refused():
    window = {"use_sliding_window": True, "sliding_window": 2, "max_window_layers": 1}
    sliding = Qwen2ForCausalLM(Qwen2Config(vocab_size=8, num_hidden_layers=2, **window, **SIZES))
    capped = Gemma2ForCausalLM(
        Gemma2Config(vocab_size=8, num_hidden_layers=1, head_dim=16, layer_types=["full_attention"], **SIZES)
    )
    for model, name in ((sliding, "qwen2"), (capped, "gemma2")):
        with pytest.raises(ModelError, match=f"{name}: attends through a sliding window or soft-capping"):
            add_counted_forward(model)


def test_gradient_checkpointing_is_refused(tiny_student):
    model = load(Checkpoint(tiny_student, "base"), device="cpu", trainable=True).model
    add_counted_forward(model)
    model.gradient_checkpointing_enable()
    with pytest.raises(ModelError, match="gradient checkpointing"):
        model(**pack(ROWS), then=lambda hidden, head: hidden)
