import pytest
import torch

from star_edge.rl.policy import PolicyAsItCame, token_logprobs


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_log_probabilities_and_entropies_equal_those_of_full_logits(chunk):
    generator = torch.Generator().manual_seed(0)
    hidden, head = torch.randn(9, 5, generator=generator), torch.randn(13, 5, generator=generator)
    labels = torch.randint(13, (9,), generator=generator)
    hidden.requires_grad_()
    head.requires_grad_()
    logprobs, entropies = token_logprobs(hidden, head, labels, temperature=0.7, chunk=chunk)
    distribution = torch.distributions.Categorical(logits=hidden @ head.T / 0.7)
    torch.testing.assert_close(logprobs, distribution.log_prob(labels))
    torch.testing.assert_close(entropies, distribution.entropy().detach())
    weights = torch.randn(9, generator=generator)
    expected = torch.autograd.grad((distribution.log_prob(labels) * weights).sum(), (hidden, head))
    torch.testing.assert_close(torch.autograd.grad((logprobs * weights).sum(), (hidden, head)), expected)
    assert not entropies.requires_grad
    plain, zeros = token_logprobs(hidden, head, labels, temperature=0.7, chunk=chunk, with_entropy=False)
    torch.testing.assert_close(plain, logprobs)
    assert not zeros.any()


def test_a_frozen_head_and_bfloat16_autocast_keep_the_gradient():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(9, 64, generator=generator, requires_grad=True)
    head, labels = torch.randn(13, 64, generator=generator) / 8, torch.randint(13, (9,), generator=generator)
    (exact,) = torch.autograd.grad(token_logprobs(hidden, head, labels, temperature=1.0)[0].sum(), hidden)
    with torch.autocast("cpu", torch.bfloat16):
        logprobs, entropies = token_logprobs(hidden, head, labels, temperature=1.0, chunk=4)
    assert logprobs.dtype == entropies.dtype == torch.float32
    (rounded,) = torch.autograd.grad(logprobs.sum(), hidden)
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.01)


def test_no_position_gives_nothing():
    logprobs, entropies = token_logprobs(torch.ones(0, 4), torch.ones(5, 4), torch.ones(0).long(), temperature=1.0)
    assert logprobs.shape == entropies.shape == (0,)


def test_the_reference_keeps_answering_as_in_the_beginning():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    model[0].requires_grad_(False)
    inputs = torch.ones(1, 3)
    before = model(input=inputs)
    reference = PolicyAsItCame(model)
    with torch.no_grad():
        for weight in model[1].parameters():
            weight += 1
    after = model(input=inputs)
    torch.testing.assert_close(reference(input=inputs), before)
    assert not reference(input=inputs).requires_grad
    torch.testing.assert_close(model(input=inputs), after)
    assert not torch.equal(before, after)


def test_the_policy_survives_a_reference_that_fails():
    model = torch.nn.Linear(3, 2)
    reference = PolicyAsItCame(model)
    with torch.no_grad():
        model.weight += 1
    trained = model.weight.clone()
    with pytest.raises(RuntimeError):
        reference(input=torch.ones(1, 4))
    torch.testing.assert_close(model.weight, trained)
