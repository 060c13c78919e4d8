from collections import Counter

import pytest
import torch

from star_edge.contracts import Checkpoint, DistillConfig, TeacherCacheConfig
from star_edge.distill.chunked import chunked_objective_sum
from star_edge.distill.objectives import BASELINES, objective_of
from star_edge.models.load import load
from star_edge.models.packing import add_counted_forward, pack
from star_edge.models.sampling import vocabulary_size
from star_edge.teacher.rollout import sample
from star_edge.teacher.signal import CachedSignal, LabelSignal, LiveSignal


@pytest.fixture(scope="module")
def rows(chatty, codec, examples):
    config = TeacherCacheConfig(rollouts=3, max_new_tokens=6, top_k=5, rows_per_forward=6)
    return list(sample(chatty, codec, examples, config, seed=5, left_out=Counter()))


@pytest.fixture(scope="module")
def teacher(tiny_student):
    model = load(Checkpoint(tiny_student, "base"), device="cpu").model
    add_counted_forward(model)
    return model


def batch_of(rows, numbers):
    batch = pack([(rows[number].prompt_ids, rows[number].completion_ids) for number in numbers])
    return batch | {"rows": numbers}


def test_a_cache_and_a_live_teacher_give_the_same_loss(rows, teacher, codec):
    batch = batch_of(rows, [4, 0, 1, 2])
    signals = (CachedSignal(rows), LiveSignal(teacher, top_k=5, vocabulary=vocabulary_size(codec.tokenizer), chunk=4))
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(len(batch["sources"]), 16, generator=generator)
    head = torch.randn(800, 16, generator=generator)
    objective = objective_of(DistillConfig(tail_top_m=10))
    losses = [chunked_objective_sum(objective, hidden, head, *signal.for_batch(batch), chunk=64) for signal in signals]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-3)
    assert losses[0].item() > 1


def test_a_live_teacher_never_names_padding_of_its_head(rows, teacher):
    batch = batch_of(rows, [0, 1])
    for vocabulary in (100, 4):
        ids, logprobs = LiveSignal(teacher, top_k=5, vocabulary=vocabulary).for_batch(batch)
        assert int(ids.max()) < vocabulary
        assert ids.shape == logprobs.shape == (len(batch["sources"]), min(5, vocabulary))
        assert logprobs.exp().sum(1).max() < 1  # the padding's mass stays in the normaliser


def test_labels_are_a_certain_teacher(rows):
    batch = batch_of(rows, [2, 0, 3])
    ids, logprobs = LabelSignal().for_batch(batch)
    said = [token for number in (2, 0, 3) for token in rows[number].completion_ids]
    assert ids[:, 0].tolist() == said
    head = torch.eye(800)
    loss = chunked_objective_sum(BASELINES["ce"], torch.zeros(len(said), 800), head, ids, logprobs, chunk=8)
    assert loss.item() == pytest.approx(len(said) * torch.tensor(800.0).log().item())
