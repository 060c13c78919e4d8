"""What GRPO asks a policy for: log-probabilities of its own tokens, and the policy as it was in the beginning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from star_edge.distill.chunked import computing_dtype, matmul_dtype


def token_logprobs(
    hidden: Tensor,
    head: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    chunk: int = 1024,
    with_entropy: bool = True,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each label and the entropy beside it, holding the logits of one chunk at a time.

    Args:
        hidden: (N, H) states that predict the labels. head: (V, H). labels: (N,) token ids.
        temperature: logits are divided by it, as they were when the labels were sampled.
        with_entropy: without, the entropies are zeros.
    Returns: (N,) float32 log-probabilities, differentiable, and (N,) entropies in nats, which carry no gradient.
    """
    return _TokenLogprobs.apply(hidden, head, labels, temperature, chunk, with_entropy)  # type: ignore[no-any-return, no-untyped-call]


class _TokenLogprobs(torch.autograd.Function):
    """The gradient with respect to the logits is known in closed form, so the backward pass only makes them again."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor, temperature: float, chunk: int, with_entropy: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.multiply, ctx.temperature, ctx.chunk = matmul_dtype(hidden, head), temperature, chunk
        normalisers, logprobs = (hidden.new_empty(len(hidden), dtype=computing_dtype(ctx.multiply)) for _ in range(2))
        entropies = torch.zeros_like(logprobs)
        for rows, logits in _logits(ctx, hidden, head.to(ctx.multiply)):
            normalisers[rows] = logits.logsumexp(dim=1)
            logits -= normalisers[rows, None]
            logprobs[rows] = logits.gather(1, labels[rows, None])[:, 0]
            if with_entropy:
                entropies[rows] = -logits.exp().mul_(logits).sum(dim=1)
        ctx.save_for_backward(hidden, head, labels, normalisers)
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden, head, labels, normalisers = ctx.saved_tensors
        hidden_wants, head_wants = ctx.needs_input_grad[:2]
        hidden_grad = torch.empty_like(hidden) if hidden_wants else None
        head_grad = torch.zeros_like(head, dtype=normalisers.dtype) if head_wants else None
        weight = head.to(ctx.multiply)
        scale = (grad / ctx.temperature)[:, None]
        for rows, logits in _logits(ctx, hidden, weight):
            logits.sub_(normalisers[rows, None]).exp_().mul_(-scale[rows])
            logits.scatter_add_(1, labels[rows, None], scale[rows])
            towards = logits.to(ctx.multiply)
            with torch.autocast(hidden.device.type, enabled=False):
                if hidden_grad is not None:
                    hidden_grad[rows] = towards @ weight
                if head_grad is not None:
                    head_grad += towards.T @ hidden[rows].to(ctx.multiply)
        return hidden_grad, None if head_grad is None else head_grad.to(head.dtype), None, None, None, None


def _logits(ctx: Any, hidden: Tensor, weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """A chunk of rows after another, with their logits divided by the temperature, (n, V) in the computing dtype."""
    for start in range(0, len(hidden), ctx.chunk):
        rows = slice(start, start + ctx.chunk)
        with torch.autocast(hidden.device.type, enabled=False):
            logits = hidden[rows].to(ctx.multiply) @ weight.T
        yield rows, logits.to(computing_dtype(ctx.multiply)).div_(ctx.temperature)


class PolicyAsItCame:
    """The reference policy: the model with its trainable weights put back to what they were, for one forward.

    Only the trainable weights are kept twice, which for LoRA is next to nothing, and a trained adapter is its own
    reference. (TRL keeps such a reference as a second adapter, which leaves out trained token embeddings, and whose
    presence in a checkpoint makes the Trainer resume without the first.)
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._initial = [(weight, weight.detach().clone()) for weight in model.parameters() if weight.requires_grad]

    @torch.no_grad()
    def __call__(self, **inputs: Any) -> Any:
        """The model's answer to `inputs` with the initial weights."""
        current = [weight.data for weight, _ in self._initial]
        try:
            for weight, initial in self._initial:
                weight.data = initial
            return self._model(**inputs)
        finally:
            for (weight, _), data in zip(self._initial, current, strict=True):
                weight.data = data
