"""Constrained knowledge distillation: the teacher's top-k, and a charge for confident student mass outside it.

Source: STAR (arXiv 2602.03022). Per counted position, with V_k the teacher's k most likely tokens and M_m the
student's m most likely, both softmaxes over the full vocabulary at temperature 1:

    L = sum over v in V_k of p_T(v) (log p_T(v) - log p_S(v))  +  tail_weight * sum over v in M_m \\ V_k of p_S(v)

Nothing is renormalised over V_k. The second term leaves the student's unlikely tokens free, which RL needs later.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from star_edge.distill.chunked import chunked_objective_sum, objective_sum

TAIL_WEIGHT = 10.0
TAIL_TOP_M = 100
COLUMN = 32
"""Tokens of a column in the search for the likeliest; near sqrt(V / m) both searches are short."""


def forward_kl(student_logprobs: Tensor, teacher_logprobs: Tensor) -> Tensor:
    """(n, K) log p_S and log p_T at the teacher's tokens -> (n,); a token of teacher probability 0 adds nothing."""
    probabilities = teacher_logprobs.exp()
    terms = probabilities * (teacher_logprobs - student_logprobs)
    return terms.masked_fill(probabilities == 0, 0.0).sum(dim=1)


def most_likely(logits: Tensor, count: int) -> Tensor:
    """(n, V) -> (n, count) ids of the largest logits, in no order.

    A vocabulary is too wide to select from directly: that reads all of it several times. So it is cut into columns of
    `COLUMN` tokens each, and the columns with the largest maxima are searched. The `count` largest logits lie in the
    `count` best columns: a column left out has that many maxima at or above its own.
    """
    vocabulary = logits.shape[1]
    columns = vocabulary // COLUMN
    if columns <= 2 * count:
        return logits.topk(count, dim=1, sorted=False).indices
    whole = columns * COLUMN
    maxima = torch.unflatten(logits[:, :whole], 1, (COLUMN, columns)).amax(dim=1)
    best = maxima.topk(count, dim=1, sorted=False).indices
    steps = torch.arange(COLUMN, device=logits.device) * columns
    rest = torch.arange(whole, vocabulary, device=logits.device).expand(len(logits), -1)
    candidates = torch.cat(((best[:, None] + steps[:, None]).flatten(1), rest), dim=1)
    chosen = logits.gather(1, candidates).topk(count, dim=1, sorted=False).indices
    return candidates.gather(1, chosen)


def tokens_outside(tokens: Tensor, teacher_ids: Tensor) -> Tensor:
    """(n, m) tokens against (n, K) teacher ids -> (n, m) bool, True where the token is not the teacher's."""
    ordered = teacher_ids.sort(dim=1).values
    nearest = torch.searchsorted(ordered, tokens.contiguous()).clamp_(max=ordered.shape[1] - 1)
    return ordered.gather(1, nearest) != tokens


@dataclass(frozen=True, slots=True)
class Ckd:
    """The objective of this module's docstring; `tail_top_m` is clamped to the vocabulary."""

    tail_weight: float = TAIL_WEIGHT
    tail_top_m: int = TAIL_TOP_M

    def tokens(self, student_logits: Tensor, teacher_ids: Tensor) -> Tensor:
        """The teacher's K tokens, then the student's m most likely: (n, K + m)."""
        likely = most_likely(student_logits, min(self.tail_top_m, student_logits.shape[1]))
        return torch.cat((teacher_ids, likely), dim=1)

    def loss(self, student_logprobs: Tensor, tokens: Tensor, teacher_logprobs: Tensor) -> Tensor:
        """(n, K + m) student, (n, K) teacher -> (n,) nats."""
        k = teacher_logprobs.shape[1]
        charged = student_logprobs[:, k:].exp()
        if k > 0:
            charged = charged * tokens_outside(tokens[:, k:], tokens[:, :k])
        return forward_kl(student_logprobs[:, :k], teacher_logprobs) + self.tail_weight * charged.sum(dim=1)


def _checked(tail_weight: float, tail_top_m: int) -> Ckd:
    if tail_weight < 0 or tail_top_m < 0:
        raise ValueError(f"tail_weight and tail_top_m must not be negative, got {tail_weight} and {tail_top_m}")
    return Ckd(tail_weight, tail_top_m)


def ckd_loss(
    student_logits: Tensor,
    teacher_ids: Tensor,
    teacher_logprobs: Tensor,
    *,
    tail_weight: float = TAIL_WEIGHT,
    tail_top_m: int = TAIL_TOP_M,
) -> Tensor:
    """CKD from full logits: forward KL on the teacher's top-k plus a charge for student mass outside it.

    Args:
        student_logits: (N, V) float32, bfloat16 or float64, before softmax; the N positions that count.
        teacher_ids: (N, K) integer token ids, distinct within a row.
        teacher_logprobs: (N, K), natural log, temperature 1, over the full vocabulary (not renormalised).
        tail_weight: λ, the price of a unit of student mass outside the teacher's tokens.
        tail_top_m: how many of the student's most likely tokens are looked at; clamped to V.
    Returns: scalar float32 (float64 for float64 logits), nats per counted position; 0 when N is 0.
    Raises: ValueError: shapes disagree, K exceeds V, or a setting is negative.
    Source: STAR (arXiv 2602.03022), CKD objective.
    """
    total = objective_sum(_checked(tail_weight, tail_top_m), student_logits, teacher_ids, teacher_logprobs)
    return total / max(len(teacher_ids), 1)


def chunked_ckd_loss(
    hidden: Tensor,
    lm_head_weight: Tensor,
    teacher_ids: Tensor,
    teacher_logprobs: Tensor,
    *,
    tail_weight: float = TAIL_WEIGHT,
    tail_top_m: int = TAIL_TOP_M,
    chunk: int = 1024,
) -> Tensor:
    """`ckd_loss` from hidden states, holding the logits of at most `chunk` positions.

    Args:
        hidden: (N, H) final hidden states (after the last norm) of the positions that count.
        lm_head_weight: (V, H); gets a gradient only when it requires one.
        teacher_ids, teacher_logprobs, tail_weight, tail_top_m: as in `ckd_loss`.
        chunk: positions whose logits exist at one time; memory is about 8 * chunk * V bytes.
    Returns: scalar float32 (float64 for float64 weights), nats per counted position; 0 when N is 0.
    Raises: ValueError: shapes disagree, K exceeds V, chunk < 1, or a setting is negative.
    """
    objective = _checked(tail_weight, tail_top_m)
    total = chunked_objective_sum(objective, hidden, lm_head_weight, teacher_ids, teacher_logprobs, chunk=chunk)
    return total / max(len(teacher_ids), 1)
