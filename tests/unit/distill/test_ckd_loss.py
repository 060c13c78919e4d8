import math

import pytest
import torch

from star_edge.distill.chunked import chunked_objective_sum
from star_edge.distill.ckd_loss import Ckd, chunked_ckd_loss, ckd_loss, most_likely


def slow_reference(logits, teacher_ids, teacher_logprobs, tail_weight, tail_top_m):
    """METHOD's formula, one token at a time, in float64 and plain Python."""
    total = 0.0
    for row, ids, teacher in zip(
        logits.double().tolist(), teacher_ids.tolist(), teacher_logprobs.double().tolist(), strict=True
    ):
        log_normaliser = max(row) + math.log(sum(math.exp(z - max(row)) for z in row))
        student = [z - log_normaliser for z in row]
        for token, log_p in zip(ids, teacher, strict=True):
            total += math.exp(log_p) * (log_p - student[token])
        likeliest = sorted(range(len(row)), key=lambda v: -row[v])[:tail_top_m]
        total += tail_weight * sum(math.exp(student[v]) for v in likeliest if v not in ids)
    return total / max(len(teacher_ids), 1)


def case(n=7, v=23, k=5, h=6, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, h, generator=generator, dtype=torch.float64)
    head = torch.randn(v, h, generator=generator, dtype=torch.float64)
    teacher = torch.randn(n, v, generator=generator, dtype=torch.float64).mul(2).log_softmax(-1)
    logprobs, ids = teacher.topk(k, dim=-1)
    return hidden.to(dtype), head.to(dtype), ids, logprobs.to(dtype)


@pytest.mark.parametrize(
    ("n", "v", "k", "m", "weight"),
    [(7, 23, 5, 4, 10.0), (3, 50, 1, 50, 0.5), (5, 11, 11, 3, 10.0), (2, 9, 3, 400, 10.0), (4, 30, 6, 0, 10.0)],
)
def test_agrees_with_the_slow_reference(n, v, k, m, weight):
    hidden, head, ids, logprobs = case(n, v, k)
    logits = hidden @ head.T
    expected = slow_reference(logits, ids, logprobs, weight, m)
    settings = {"tail_weight": weight, "tail_top_m": m}
    assert ckd_loss(logits, ids, logprobs, **settings).item() == pytest.approx(expected, abs=1e-5)
    for chunk in (1, 2, n, 100):
        loss = chunked_ckd_loss(hidden, head, ids, logprobs, **settings, chunk=chunk)
        assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_value_computed_by_hand():
    # p_S = (1/2, 1/4, 1/8, 1/8); the teacher gives token 1 probability 1/2. KL term: 1/2 ln((1/2)/(1/4)).
    # The student's two likeliest are 0 and 1; only 0 is outside, with mass 1/2.
    logits = torch.tensor([[4.0, 2.0, 1.0, 1.0]]).log()
    loss = ckd_loss(logits, torch.tensor([[1]]), torch.tensor([[0.5]]).log(), tail_weight=10.0, tail_top_m=2)
    assert loss.item() == pytest.approx(0.5 * math.log(2) + 10 * 0.5, abs=1e-6)


def test_a_student_equal_to_the_teacher_pays_only_for_its_tail():
    _, _, ids, logprobs = case(k=23)
    full = torch.empty(7, 23).scatter_(1, ids, logprobs)
    assert ckd_loss(full, ids, logprobs, tail_top_m=23).item() == pytest.approx(0.0, abs=1e-6)
    tail = ckd_loss(full, ids[:, :4], logprobs[:, :4], tail_weight=10.0, tail_top_m=23)
    assert tail.item() == pytest.approx(10 * (1 - logprobs[:, :4].exp().sum(1)).mean().item(), abs=1e-5)


@pytest.mark.parametrize(("hidden_learns", "head_learns"), [(True, True), (True, False), (False, True)])
def test_gradients_pass_finite_differences(hidden_learns, head_learns):
    hidden, head, ids, logprobs = case(n=4, v=9, k=3, dtype=torch.float64)
    hidden.requires_grad_(hidden_learns)
    head.requires_grad_(head_learns)
    chunked = lambda h, w: chunked_ckd_loss(h, w, ids, logprobs, tail_top_m=4, chunk=3)  # noqa: E731
    full = lambda h, w: ckd_loss(h @ w.T, ids, logprobs, tail_top_m=4)  # noqa: E731
    assert torch.autograd.gradcheck(chunked, (hidden, head))
    assert torch.autograd.gradcheck(full, (hidden, head))


def test_accumulating_two_losses_adds_their_gradients():
    hidden, head, ids, logprobs = case(dtype=torch.float64)
    hidden.requires_grad_()
    head.requires_grad_()
    settings = {"tail_weight": 3.0, "tail_top_m": 6}
    (2 * ckd_loss(hidden @ head.T, ids, logprobs, **settings)).backward()
    expected = hidden.grad.clone(), head.grad.clone()
    hidden.grad = head.grad = None
    for _ in range(2):
        chunked_ckd_loss(hidden, head, ids, logprobs, **settings, chunk=2).backward()
    torch.testing.assert_close((hidden.grad, head.grad), expected)


def test_backward_twice_through_one_graph_gives_the_same_gradient():
    hidden, head, ids, logprobs = case()
    hidden.requires_grad_()
    loss = chunked_ckd_loss(hidden, head, ids, logprobs, tail_weight=1.0, tail_top_m=3, chunk=4)
    (first,) = torch.autograd.grad(loss, hidden, retain_graph=True)
    (second,) = torch.autograd.grad(loss, hidden)
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_counted_position_gives_zero_with_a_gradient(dtype):
    hidden, head, ids, logprobs = case(n=0, dtype=dtype)
    for loss_of in (
        lambda h: ckd_loss(h @ head.T, ids, logprobs),
        lambda h: chunked_ckd_loss(h, head, ids, logprobs, tail_weight=10.0, tail_top_m=100, chunk=8),
    ):
        states = hidden.clone().requires_grad_()
        loss = loss_of(states)
        loss.backward()
        assert loss.shape == ()
        assert loss.dtype == dtype
        assert loss.item() == 0.0
        assert states.grad.shape == (0, 6)


@pytest.mark.parametrize(
    ("given", "computed"),
    [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)],
)
def test_result_dtype_follows_the_input(given, computed):
    hidden, head, ids, logprobs = case()
    logits = (hidden @ head.T).to(given)
    assert ckd_loss(logits, ids, logprobs).dtype == computed
    loss = chunked_ckd_loss(hidden.to(given), head.to(given), ids, logprobs, tail_weight=10.0, tail_top_m=5, chunk=3)
    assert loss.dtype == computed


def test_bfloat16_logits_are_computed_in_float32():
    hidden, head, ids, logprobs = case()
    logits = (hidden @ head.T).to(torch.bfloat16)
    expected = slow_reference(logits, ids, logprobs, 10.0, 23)
    assert ckd_loss(logits, ids, logprobs, tail_top_m=23).item() == pytest.approx(expected, abs=1e-5)


def test_under_autocast_bfloat16_gradients_stay_close_and_keep_the_weights_dtype():
    hidden, head, ids, logprobs = case()
    hidden.requires_grad_()
    head.requires_grad_()
    exact = torch.autograd.grad(ckd_loss(hidden @ head.T, ids, logprobs, tail_top_m=5), (hidden, head))
    with torch.autocast("cpu", torch.bfloat16):
        loss = chunked_ckd_loss(hidden, head, ids, logprobs, tail_weight=10.0, tail_top_m=5, chunk=3)
    rounded = torch.autograd.grad(loss, (hidden, head))
    assert [g.dtype for g in rounded] == [torch.float32, torch.float32]
    for rough, fine in zip(rounded, exact, strict=True):
        assert torch.nn.functional.cosine_similarity(rough.flatten(), fine.flatten(), dim=0) > 0.999


def test_a_teacher_token_of_probability_zero_changes_nothing():
    hidden, head, ids, logprobs = case(k=4)
    logits = hidden @ head.T
    padded = torch.cat((logprobs[:, :3], torch.full((7, 1), -torch.inf)), dim=1)
    with_padding = ckd_loss(logits, ids, padded, tail_top_m=0)
    assert with_padding.item() == pytest.approx(ckd_loss(logits, ids[:, :3], logprobs[:, :3], tail_top_m=0).item())


def test_order_of_the_teachers_tokens_does_not_matter():
    hidden, head, ids, logprobs = case()
    order = torch.randperm(5)
    one = ckd_loss(hidden @ head.T, ids, logprobs)
    other = ckd_loss(hidden @ head.T, ids[:, order], logprobs[:, order])
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, w, i, p: (h, w, i[:, :2], p), "must have one shape"),
        (lambda h, w, i, p: (h[:3], w, i, p), "7 positions, the student 3"),
        (lambda h, w, i, p: (h, w[:4], i, p), "exceed a vocabulary of 4"),
        (lambda h, w, i, p: (h, w, i[0], p[0]), "must have one shape"),
    ],
)
def test_shapes_that_disagree_are_refused(change, message):
    hidden, head, ids, logprobs = change(*case())
    with pytest.raises(ValueError, match=message):
        ckd_loss(hidden @ head.T, ids, logprobs)
    with pytest.raises(ValueError, match=message):
        chunked_ckd_loss(hidden, head, ids, logprobs, tail_weight=10.0, tail_top_m=5, chunk=3)


def test_impossible_settings_are_refused():
    hidden, head, ids, logprobs = case()
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        chunked_ckd_loss(hidden, head, ids, logprobs, chunk=0)
    with pytest.raises(ValueError, match="must not be negative"):
        ckd_loss(hidden @ head.T, ids, logprobs, tail_weight=-1.0)
    with pytest.raises(ValueError, match=r"must be \(N, H\) and \(V, H\)"):
        chunked_ckd_loss(hidden, head[:, :3], ids, logprobs)
    with pytest.raises(ValueError, match=r"must be \(N, V\)"):
        ckd_loss((hidden @ head.T)[None], ids, logprobs)


@pytest.mark.parametrize(("v", "count"), [(640, 5), (655, 5), (6400, 100), (671, 0), (50, 50), (3200, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_likeliest_tokens_are_those_that_a_full_sort_finds(v, count, dtype):
    logits = torch.randn(6, v, generator=torch.Generator().manual_seed(v)).to(dtype)
    logits[0] = 1.0  # ties all over
    logits[1, -count:] = 9.0  # all of them in what is left over behind the columns, or as much of them as fits
    found = most_likely(logits, count)
    assert found.shape == (6, count)
    assert all(len(set(row)) == count for row in found.tolist())
    expected = logits.sort(dim=1, descending=True).values[:, :count]
    assert torch.equal(logits.gather(1, found).sort(dim=1, descending=True).values, expected)


def test_a_wide_vocabulary_agrees_with_the_slow_reference():
    hidden, head, ids, logprobs = case(n=3, v=2000, k=20, h=8)
    hidden = hidden * 3  # a student that is sure of something
    loss = chunked_ckd_loss(hidden, head, ids, logprobs, tail_weight=10.0, tail_top_m=10, chunk=2)
    assert loss.item() == pytest.approx(slow_reference(hidden @ head.T, ids, logprobs, 10.0, 10), abs=1e-5)
    assert loss.item() > 1


def test_a_wide_vocabulary_passes_finite_differences():
    hidden, head, ids, logprobs = case(n=2, v=330, k=6, h=3, dtype=torch.float64)
    hidden.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda h: chunked_ckd_loss(h, head, ids, logprobs, tail_top_m=5, chunk=1), (hidden,)
    )


def test_a_token_named_by_both_gets_its_gradient_once():
    # Student and teacher agree on the likeliest token, so the student's list names the teacher's token again.
    logits = torch.tensor([[3.0, 1.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    ids, logprobs = torch.tensor([[0, 1]]), torch.tensor([[0.6, 0.3]], dtype=torch.float64).log()
    (expected,) = torch.autograd.grad(ckd_loss(logits, ids, logprobs, tail_top_m=2), logits)
    (found,) = torch.autograd.grad(
        chunked_ckd_loss(logits, torch.eye(4, dtype=torch.float64), ids, logprobs, tail_top_m=2), logits
    )
    torch.testing.assert_close(found, expected)


def test_bfloat16_gradients_keep_small_differences_of_student_and_teacher():
    # Where both agree to a thousandth, the gradient is a difference of two numbers that bfloat16 cannot tell apart.
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(40, 64, generator=generator) * 2).bfloat16()
    teacher = (logits.double() + torch.randn(40, 64, generator=generator) * 1e-3).log_softmax(-1)
    exact = logits.double().requires_grad_()
    (expected,) = torch.autograd.grad(ckd_loss(exact, *reversed(teacher.topk(64))), exact)
    rough = logits.clone().requires_grad_()
    eye = torch.eye(64, dtype=torch.bfloat16)
    (found,) = torch.autograd.grad(chunked_ckd_loss(rough, eye, *reversed(teacher.topk(64))), rough)
    assert torch.nn.functional.cosine_similarity(found.double().flatten(), expected.flatten(), dim=0) > 0.999


@pytest.mark.slow
def test_compiled_passes_give_the_same_loss_and_gradients():
    hidden, head, ids, logprobs = case(n=11, dtype=torch.bfloat16)
    results = []
    for compiled in (False, True):
        states, weight = hidden.clone().requires_grad_(), head.clone().requires_grad_()
        loss = chunked_objective_sum(Ckd(10.0, 4), states, weight, ids, logprobs, chunk=4, compiled=compiled)
        loss.backward()
        results.append((loss, states.grad, weight.grad))
    torch.testing.assert_close(*results, rtol=1e-2, atol=1e-2)


def test_never_holds_more_logits_than_a_chunk(monkeypatch):
    hidden, head, ids, logprobs = case(n=10)
    rows = []
    topk = torch.Tensor.topk
    monkeypatch.setattr(torch.Tensor, "topk", lambda self, *a, **k: (rows.append(len(self)), topk(self, *a, **k))[1])
    chunked_ckd_loss(hidden, head, ids, logprobs, tail_weight=10.0, tail_top_m=5, chunk=4)
    assert rows == [4, 4, 2]
