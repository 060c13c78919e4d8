from dataclasses import replace

import pytest
import torch

from star_edge.contracts import Checkpoint
from star_edge.models.load import load
from star_edge.models.sampling import sample, vocabulary_size

PROMPTS = [[40, 41, 42, 43, 44, 45], [50, 51]]


@pytest.fixture(scope="module")
def loaded(tiny_student):
    return load(Checkpoint(tiny_student, "base"), device="cpu")


def draw(loaded, prompts=PROMPTS, *, seed=0, **changes):
    settings = {"copies": 3, "temperature": 1.0, "max_new_tokens": 6, "top_k": 4} | changes
    return sample(loaded, prompts, generator=torch.Generator().manual_seed(seed), **settings)


def test_every_prompt_gets_its_copies(loaded):
    samples = draw(loaded)
    assert [len(group) for group in samples] == [3, 3]
    assert len({one.ids for group in samples for one in group}) > 1
    assert all(len(one.ids) == 6 or one.stopped for group in samples for one in group)


def test_the_seed_decides_the_draws(loaded):
    first, again, other = draw(loaded), draw(loaded), draw(loaded, seed=1)
    ids = [[[one.ids for one in group] for group in run] for run in (first, again, other)]
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]


def test_kept_log_probabilities_are_the_models_at_temperature_one(loaded):
    for prompt, group in zip(PROMPTS, draw(loaded, temperature=0.5), strict=True):
        for one in group:
            logits = loaded.model(input_ids=torch.tensor([prompt + list(one.ids)])).logits[0, len(prompt) - 1 : -1]
            top = logits.log_softmax(-1).topk(4)
            assert torch.equal(one.topk_ids.long(), top.indices)
            torch.testing.assert_close(one.topk_logprobs.float(), top.values, rtol=2e-3, atol=2e-3)


def test_a_row_ends_with_its_stop_token_while_others_go_on(loaded):
    stops = {one.ids[1] for one in draw(loaded)[0]}
    eager = replace(loaded, stop_token_ids=tuple(stops))
    for one in (one for group in draw(eager) for one in group):
        assert one.stopped == (one.ids[-1] in stops)
        assert not stops.intersection(one.ids[:-1])
        assert len(one.topk_ids) == len(one.ids)
    assert any(one.stopped for one in draw(eager)[0])


@pytest.mark.parametrize("temperature", [1e-4, 0.0])
def test_a_low_temperature_is_greedy(loaded, temperature):
    for prompt, group in zip(PROMPTS, draw(loaded, temperature=temperature), strict=True):
        ids = list(prompt)
        for token in group[0].ids:
            assert token == loaded.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()
            ids.append(token)
        assert len({one.ids for one in group}) == 1


def test_padding_of_the_head_is_neither_sampled_nor_kept(tiny_qwen2):
    loaded = load(Checkpoint(tiny_qwen2, "base"), device="cpu")
    vocabulary = vocabulary_size(loaded.tokenizer)
    weight = loaded.model.get_output_embeddings().weight
    assert vocabulary < len(weight)
    with torch.no_grad():
        weight[vocabulary:] = 5 * weight[:1]  # likely, if it were allowed
    for one in (one for group in draw(loaded, top_k=10_000, max_new_tokens=20) for one in group):
        assert max(one.ids) < vocabulary
        assert one.topk_ids.shape == (len(one.ids), vocabulary)
        assert int(one.topk_ids.max()) < vocabulary
