import math

import pytest
import torch

from star_edge.contracts import DistillConfig
from star_edge.distill.chunked import chunked_objective_sum, objective_sum
from star_edge.distill.ckd_loss import ckd_loss
from star_edge.distill.objectives import AKL_HEAD_MASS, BASELINES, objective_of

NAMES = ["ce", "fkl", "rkl", "akl", "ckd"]


def case(n=6, v=19, k=4, h=5):
    generator = torch.Generator().manual_seed(1)
    hidden, head = torch.randn(n, h, generator=generator).double(), torch.randn(v, h, generator=generator).double()
    logprobs, ids = torch.randn(n, v, generator=generator).double().mul(2).log_softmax(-1).topk(k)
    return hidden, head, ids, logprobs


def slow_kls(logits, ids, logprobs):
    """Per position: (forward KL, reverse KL, head gap, tail gap), plain Python."""
    for row, tokens, teacher in zip(logits.tolist(), ids.tolist(), logprobs.tolist(), strict=True):
        log_normaliser = math.log(sum(math.exp(z) for z in row))
        student = [row[token] - log_normaliser for token in tokens]
        pairs = list(zip(teacher, student, strict=True))
        forward = sum(math.exp(t) * (t - s) for t, s in pairs)
        reverse = sum(math.exp(s) * (s - t) for t, s in pairs)
        mass, gaps = 0.0, [0.0, 0.0]
        for t, s in sorted(pairs, reverse=True):
            gaps[mass >= AKL_HEAD_MASS] += abs(math.exp(t) - math.exp(s))
            mass += math.exp(t)
        yield forward, reverse, *gaps


@pytest.mark.parametrize(
    ("name", "per_position"),
    [
        ("fkl", lambda f, r, head, tail: f),
        ("rkl", lambda f, r, head, tail: r),
        ("akl", lambda f, r, head, tail: (head * f + tail * r) / (head + tail)),
    ],
)
def test_baselines_agree_with_a_slow_reference(name, per_position):
    hidden, head, ids, logprobs = case()
    expected = sum(per_position(*values) for values in slow_kls(hidden @ head.T, ids, logprobs))
    assert objective_sum(BASELINES[name], hidden @ head.T, ids, logprobs).item() == pytest.approx(expected, abs=1e-9)


def test_ce_is_cross_entropy_on_the_label():
    hidden, head, _, _ = case()
    labels = torch.tensor([0, 3, 18, 5, 5, 1])
    total = objective_sum(BASELINES["ce"], hidden @ head.T, labels[:, None], torch.zeros(6, 1))
    torch.testing.assert_close(total, torch.nn.functional.cross_entropy(hidden @ head.T, labels, reduction="sum"))


@pytest.mark.parametrize("name", NAMES)
def test_chunked_gradients_equal_those_of_full_logits(name):
    hidden, head, ids, logprobs = case()
    hidden.requires_grad_()
    head.requires_grad_()
    objective = objective_of(DistillConfig(objective=name, tail_top_m=5))
    full = objective_sum(objective, hidden @ head.T, ids, logprobs)
    chunked = chunked_objective_sum(objective, hidden, head, ids, logprobs, chunk=4)
    torch.testing.assert_close(chunked, full)
    torch.testing.assert_close(torch.autograd.grad(chunked, (hidden, head)), torch.autograd.grad(full, (hidden, head)))


def test_without_a_gradient_the_value_is_the_same():
    hidden, head, ids, logprobs = case()
    objective = objective_of(DistillConfig(tail_top_m=5))
    with torch.no_grad():
        value = chunked_objective_sum(objective, hidden, head, ids, logprobs, chunk=4)
    assert value.item() == pytest.approx(objective_sum(objective, hidden @ head.T, ids, logprobs).item())
    assert not value.requires_grad


def test_ckd_takes_its_settings_from_the_recipe():
    hidden, head, ids, logprobs = case()
    config = DistillConfig(tail_weight=3.0, tail_top_m=7)
    total = objective_sum(objective_of(config), hidden @ head.T, ids, logprobs)
    expected = ckd_loss(hidden @ head.T, ids, logprobs, tail_weight=3.0, tail_top_m=7)
    assert total.item() / 6 == pytest.approx(expected.item())


def test_ckd_without_its_tail_is_top_k_forward_kl():
    hidden, head, ids, logprobs = case()
    ckd = objective_of(DistillConfig(tail_weight=0.0))
    torch.testing.assert_close(
        objective_sum(ckd, hidden @ head.T, ids, logprobs),
        objective_sum(BASELINES["fkl"], hidden @ head.T, ids, logprobs),
    )
