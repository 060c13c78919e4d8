import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from star_edge.contracts import Checkpoint
from star_edge.errors import ModelError
from star_edge.models.load import load
from star_edge.models.packing import UNCOUNTED, add_counted_forward, pack, packed_mask

LONG, SHORT = (5, 6, 7, 8), (9, 10)


def test_rows_of_one_prompt_share_its_sequence():
    batch = pack([(LONG, (1, 2, 3)), (LONG, (4,)), (SHORT, (1, 2))], pad_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 1, 2, 3, 4], [9, 10, 1, 2, 0, 0, 0, 0]]
    assert batch["segments"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 2], [0, 0, 1, 1, -1, -1, -1, -1]]
    assert batch["positions"].tolist() == [[0, 1, 2, 3, 4, 5, 6, 4], [0, 1, 2, 3, 0, 0, 0, 0]]
    assert batch["labels"][batch["labels"] != UNCOUNTED].tolist() == [1, 2, 3, 4, 1, 2]
    assert batch["sources"].tolist() == [3, 4, 5, 3, 9, 10]


def test_single_completions_need_no_mask():
    batch = pack([(LONG, (1, 2)), (SHORT, (3,))], pad_id=0)
    assert set(batch) == {"input_ids", "labels", "sources"}


def test_a_completion_sees_its_prompt_and_itself_but_no_other():
    sees = packed_mask(torch.tensor([[0, 0, 1, 1, 2, -1]]))[0, 0]
    assert sees.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


def test_packed_states_equal_those_of_rows_computed_alone(tiny_student):
    model = load(Checkpoint(tiny_student, "base"), device="cpu").model
    rows = [(LONG, (1, 2, 3)), (LONG, (4,)), (SHORT, (1, 2)), (LONG, (1, 2, 3))]
    alone = [
        model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
        for prompt, completion in rows
    ]
    add_counted_forward(model)
    logits = model(**pack(rows, pad_id=0), then=lambda hidden, head: hidden @ head.T)
    torch.testing.assert_close(logits, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_without_then_the_forward_is_the_one_it_was(tiny_student):
    model = load(Checkpoint(tiny_student, "base"), device="cpu").model
    ids = torch.tensor([list(LONG)])
    before = model(input_ids=ids).logits
    add_counted_forward(model)
    torch.testing.assert_close(model(input_ids=ids).logits, before)


def test_a_head_that_is_more_than_a_product_is_refused():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = Gemma2Config(vocab_size=8, num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.1, **sizes)
    with pytest.raises(ModelError, match="gemma2: its logits are not hidden states times the head"):
        add_counted_forward(Gemma2ForCausalLM(config))
