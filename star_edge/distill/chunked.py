"""Losses over the vocabulary that never hold more than a chunk of logits.

Every objective here reads the student's log-probabilities at few tokens per position: the teacher's top-k and
perhaps the student's own. So the loss is a function of `(n, S)` log-probabilities, and its gradient with respect to
all V logits follows in closed form from the gradient at those S:

    d loss / d z_v  =  sum over s with token s = v of g_s   -   p_S(v) * sum over s of g_s

The gradients with respect to hidden states and head are therefore computed chunk by chunk in the forward pass, and
the logits of a chunk are overwritten by their own gradient. Nothing is computed twice.

Beside the matrix products and an objective's search for tokens, two passes over a chunk's logits remain:
`log_normaliser` and `to_probabilities`. Compiled, each is one kernel that reads bfloat16 and holds its float32 in
registers; as they stand they need float32 copies.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Passes: TypeAlias = tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor, Tensor], None]]


class Objective(Protocol):
    """A loss per position that reads student log-probabilities at chosen tokens."""

    def tokens(self, student_logits: Tensor, teacher_ids: Tensor) -> Tensor:
        """(n, V) logits and (n, K) ids -> (n, S) ids to read: the teacher's in their order, then distinct others.

        One of the others may be the teacher's again if the loss does not depend on it there.
        """
        ...

    def loss(self, student_logprobs: Tensor, tokens: Tensor, teacher_logprobs: Tensor) -> Tensor:
        """(n, S) log p_S at (n, S) tokens, (n, K) log p_T -> (n,) nats."""
        ...


def log_normaliser(logits: Tensor) -> Tensor:
    """(n, V) -> (n, 1) in the computing dtype."""
    return logits.to(computing_dtype(logits.dtype)).logsumexp(dim=1, keepdim=True)


def to_probabilities(logits: Tensor, normaliser: Tensor, scale: Tensor) -> None:
    """Overwrite (n, V) logits with their probabilities times (n, 1) `scale`."""
    logits.copy_((logits - normaliser).exp_().mul_(scale))


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
    compiled: bool = False,
) -> Tensor:
    """Sum of the objective over positions, from hidden states, holding at most `chunk` rows of logits.

    Args:
        hidden: (N, H) final hidden states of the counted positions.
        lm_head_weight: (V, H); its gradient is computed only when it needs one.
        teacher_ids, teacher_logprobs: (N, K), natural log.
        chunk: positions whose logits exist at one time.
        compiled: let torch.compile make kernels of the passes over the logits.
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
    passes = _compiled_passes() if compiled else (log_normaliser, to_probabilities)
    return _ChunkedSum.apply(hidden, lm_head_weight, teacher_ids, teacher_logprobs, objective, chunk, passes)  # type: ignore[no-any-return, no-untyped-call]


@functools.cache
def _compiled_passes() -> Passes:
    return torch.compile(log_normaliser, fullgraph=True), torch.compile(to_probabilities, fullgraph=True)


def matmul_dtype(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """What autocast would multiply in, or the head's own dtype."""
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def _loss_and_gradient(
    objective: Objective,
    logits: Tensor,
    teacher_ids: Tensor,
    teacher_logprobs: Tensor,
    passes: Passes,
    *,
    with_gradient: bool,
) -> Tensor:
    """Summed loss of one chunk; `logits` (n, V) are overwritten with their gradient when it is wanted."""
    normalise, probabilities = passes
    tokens = objective.tokens(logits, teacher_ids)
    normaliser = normalise(logits)
    logprobs = logits.gather(1, tokens) - normaliser
    if not with_gradient:
        return objective.loss(logprobs, tokens, teacher_logprobs).sum()
    with torch.enable_grad():
        logprobs.requires_grad_()
        loss = objective.loss(logprobs, tokens, teacher_logprobs).sum()
        (at_tokens,) = torch.autograd.grad(loss, logprobs)
    scale = -at_tokens.sum(dim=1, keepdim=True)
    probabilities(logits, normaliser, scale)
    # At the tokens the two terms nearly cancel once student and teacher agree, so they are added before rounding.
    there = (logprobs.detach().exp() * scale + at_tokens).to(logits.dtype)
    teachers = teacher_ids.shape[1]
    logits.scatter_(1, tokens[:, teachers:], there[:, teachers:]).scatter_(1, teacher_ids, there[:, :teachers])
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
        passes: Passes,
    ) -> Tensor:
        hidden_wants, weight_wants = ctx.needs_input_grad[:2]
        multiply = matmul_dtype(hidden, weight)
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
                logits = states @ head.T
                total += _loss_and_gradient(
                    objective,
                    logits,
                    teacher_ids[rows].long(),
                    teacher_logprobs[rows].to(compute),
                    passes,
                    with_gradient=hidden_wants or weight_wants,
                )
                # From here on `logits` hold their own gradient.
                if hidden_grad is not None:
                    hidden_grad[rows] = logits @ head
                if weight_grad is not None and multiply == compute:
                    weight_grad.addmm_(logits.T, states)
                elif weight_grad is not None:
                    weight_grad += logits.T @ states
                del logits
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
            None,
        )
