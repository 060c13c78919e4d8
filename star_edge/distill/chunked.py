"""Losses over the vocabulary that never hold more than a chunk of logits.

Every objective here reads the student's log-probabilities at few tokens per position: the teacher's top-k and
perhaps the student's own. So the loss is a function of `(n, S)` log-probabilities, and its gradient with respect to
all V logits follows in closed form from the gradient at those S:

    d loss / d z_v  =  sum over s with token s = v of g_s   -   p_S(v) * sum over s of g_s

The gradients with respect to hidden states and head are therefore computed chunk by chunk in the forward pass, and
the logits of a chunk are overwritten by their own gradient. Nothing is computed twice.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Objective(Protocol):
    """A loss per position that reads student log-probabilities at chosen tokens."""

    def tokens(self, student_logits: Tensor, teacher_ids: Tensor) -> Tensor:
        """(n, V) logits and (n, K) ids -> (n, S) ids to read; the first K are the teacher's, in their order."""
        ...

    def loss(self, student_logprobs: Tensor, tokens: Tensor, teacher_logprobs: Tensor) -> Tensor:
        """(n, S) log p_S at (n, S) tokens, (n, K) log p_T -> (n,) nats."""
        ...


def computing_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 stays float64; everything narrower is computed in float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_shapes(positions: int, vocabulary: int, teacher_ids: Tensor, teacher_logprobs: Tensor) -> None:
    """Refuse a teacher signal that cannot belong to these positions.

    Raises: ValueError: shapes disagree, or K exceeds the vocabulary.
    """
    if teacher_ids.ndim != 2 or teacher_ids.shape != teacher_logprobs.shape:
        raise ValueError(
            f"teacher_ids {tuple(teacher_ids.shape)} and teacher_logprobs {tuple(teacher_logprobs.shape)} "
            "must have one shape (N, K)"
        )
    if len(teacher_ids) != positions:
        raise ValueError(f"the teacher gives {len(teacher_ids)} positions, the student {positions}")
    if teacher_ids.shape[1] > vocabulary:
        raise ValueError(f"the teacher's top {teacher_ids.shape[1]} exceed a vocabulary of {vocabulary}")


def objective_sum(
    objective: Objective, student_logits: Tensor, teacher_ids: Tensor, teacher_logprobs: Tensor
) -> Tensor:
    """Sum of the objective over positions, from full logits, differentiated by autograd.

    Args:
        student_logits: (N, V) before softmax.
        teacher_ids, teacher_logprobs: (N, K), natural log.
    Returns: scalar float32, or float64 for float64 logits.
    Raises: ValueError: shapes disagree, or K exceeds V.
    """
    if student_logits.ndim != 2:
        raise ValueError(f"student_logits must be (N, V), got {tuple(student_logits.shape)}")
    check_shapes(student_logits.shape[0], student_logits.shape[1], teacher_ids, teacher_logprobs)
    logits = student_logits.to(computing_dtype(student_logits.dtype))
    teacher_ids = teacher_ids.long()
    tokens = objective.tokens(logits.detach(), teacher_ids)
    logprobs = logits.gather(1, tokens) - logits.logsumexp(dim=1, keepdim=True)
    return objective.loss(logprobs, tokens, teacher_logprobs.to(logits.dtype)).sum()


def chunked_objective_sum(
    objective: Objective,
    hidden: Tensor,
    lm_head_weight: Tensor,
    teacher_ids: Tensor,
    teacher_logprobs: Tensor,
    *,
    chunk: int,
) -> Tensor:
    """Sum of the objective over positions, from hidden states, holding at most `chunk` rows of logits.

    Args:
        hidden: (N, H) final hidden states of the counted positions.
        lm_head_weight: (V, H); its gradient is computed only when it needs one.
        teacher_ids, teacher_logprobs: (N, K), natural log.
        chunk: positions whose logits exist at one time.
    Returns: scalar float32, or float64 for float64 hidden states.
    Raises: ValueError: shapes disagree, K exceeds V, or chunk is not positive.
    """
    if hidden.ndim != 2 or lm_head_weight.ndim != 2 or hidden.shape[1] != lm_head_weight.shape[1]:
        raise ValueError(
            f"hidden {tuple(hidden.shape)} and lm_head_weight {tuple(lm_head_weight.shape)} must be (N, H) and (V, H)"
        )
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    check_shapes(len(hidden), len(lm_head_weight), teacher_ids, teacher_logprobs)
    return _ChunkedSum.apply(hidden, lm_head_weight, teacher_ids, teacher_logprobs, objective, chunk)  # type: ignore[no-any-return, no-untyped-call]


def _matmul_dtype(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """What autocast would multiply in, or the head's own dtype."""
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def _loss_and_gradient(
    objective: Objective, logits: Tensor, teacher_ids: Tensor, teacher_logprobs: Tensor, *, with_gradient: bool
) -> Tensor:
    """Summed loss of one chunk; `logits` (n, V) are overwritten with their gradient when it is wanted."""
    tokens = objective.tokens(logits, teacher_ids)
    log_normaliser = logits.logsumexp(dim=1, keepdim=True)
    logprobs = logits.gather(1, tokens).sub_(log_normaliser)
    if not with_gradient:
        return objective.loss(logprobs, tokens, teacher_logprobs).sum()
    with torch.enable_grad():
        logprobs.requires_grad_()
        loss = objective.loss(logprobs, tokens, teacher_logprobs).sum()
        (at_tokens,) = torch.autograd.grad(loss, logprobs)
    logits.sub_(log_normaliser).exp_().mul_(-at_tokens.sum(dim=1, keepdim=True)).scatter_add_(1, tokens, at_tokens)
    return loss.detach()


class _ChunkedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        teacher_ids: Tensor,
        teacher_logprobs: Tensor,
        objective: Objective,
        chunk: int,
    ) -> Tensor:
        hidden_wants, weight_wants = ctx.needs_input_grad[:2]
        multiply = _matmul_dtype(hidden, weight)
        compute = computing_dtype(multiply)
        head = weight.to(multiply)
        total = torch.zeros((), dtype=compute, device=hidden.device)
        hidden_grad = torch.empty_like(hidden) if hidden_wants else None
        # Many small terms are added up here, so bfloat16 weights collect theirs in float32.
        weight_grad = torch.zeros_like(weight, dtype=compute) if weight_wants else None
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), chunk):
                rows = slice(start, start + chunk)
                states = hidden[rows].to(multiply)
                logits = (states @ head.T).to(compute)
                total += _loss_and_gradient(
                    objective,
                    logits,
                    teacher_ids[rows].long(),
                    teacher_logprobs[rows].to(compute),
                    with_gradient=hidden_wants or weight_wants,
                )
                gradient = logits.to(multiply)
                if hidden_grad is not None:
                    hidden_grad[rows] = gradient @ head
                if weight_grad is not None and multiply == compute:
                    weight_grad.addmm_(gradient.T, states)
                elif weight_grad is not None:
                    weight_grad += gradient.T @ states
                del logits, gradient
        ctx.save_for_backward(hidden_grad, None if weight_grad is None else weight_grad.to(weight.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden_grad, weight_grad = ctx.saved_tensors
        return (
            None if hidden_grad is None else hidden_grad * output_grad.to(hidden_grad.dtype),
            None if weight_grad is None else weight_grad * output_grad.to(weight_grad.dtype),
            None,
            None,
            None,
            None,
        )
