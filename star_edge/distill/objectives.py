"""The objectives a recipe can name: CKD and the baselines of its ablation.

All of them read the student only at chosen tokens, so all of them share the chunked engine. `ce` is the forward KL
to a teacher that is certain of the label: give it the label as the one teacher id and log-probability 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from star_edge.contracts import DistillConfig
from star_edge.distill.chunked import Objective
from star_edge.distill.ckd_loss import Ckd, forward_kl

AKL_HEAD_MASS = 0.5
"""Teacher mass that makes up the head; arXiv 2404.02657 uses 0.5."""


def reverse_kl(student_logprobs: Tensor, teacher_logprobs: Tensor) -> Tensor:
    """(n, K) log p_S and log p_T at the teacher's tokens -> (n,), weighted by the student."""
    return (student_logprobs.exp() * (student_logprobs - teacher_logprobs)).sum(dim=1)


class _TeacherTokens:
    """Objectives that look at the teacher's tokens and no others."""

    def tokens(self, student_logits: Tensor, teacher_ids: Tensor) -> Tensor:
        """(n, K) teacher ids, as they are."""
        return teacher_ids


@dataclass(frozen=True, slots=True)
class ForwardKl(_TeacherTokens):
    """Top-k forward KL, not renormalised: CKD without its tail term. With a one-hot teacher: cross-entropy."""

    def loss(self, student_logprobs: Tensor, tokens: Tensor, teacher_logprobs: Tensor) -> Tensor:
        """(n, K) -> (n,) nats."""
        return forward_kl(student_logprobs, teacher_logprobs)


@dataclass(frozen=True, slots=True)
class ReverseKl(_TeacherTokens):
    """Top-k reverse KL, not renormalised; reported to collapse, kept as a baseline."""

    def loss(self, student_logprobs: Tensor, tokens: Tensor, teacher_logprobs: Tensor) -> Tensor:
        """(n, K) -> (n,) nats; may be negative, for the student's mass on K tokens is not 1."""
        return reverse_kl(student_logprobs, teacher_logprobs)


@dataclass(frozen=True, slots=True)
class AdaptiveKl(_TeacherTokens):
    """Forward and reverse KL mixed by where student and teacher differ (arXiv 2404.02657), on the teacher's top-k.

    The head is the fewest tokens that hold `head_mass` of the teacher's probability. The share of the total absolute
    difference that lies in the head weighs the forward KL, the rest the reverse KL; weights carry no gradient.
    """

    head_mass: float = AKL_HEAD_MASS

    def loss(self, student_logprobs: Tensor, tokens: Tensor, teacher_logprobs: Tensor) -> Tensor:
        """(n, K) -> (n,) nats."""
        teacher, order = teacher_logprobs.exp().sort(dim=1, descending=True)
        gap = (teacher - student_logprobs.detach().exp().gather(1, order)).abs()
        in_head = teacher.cumsum(dim=1) - teacher < self.head_mass
        tiny = 1e-12
        share = (gap * in_head).sum(dim=1) / gap.sum(dim=1).clamp(min=tiny)
        forward = forward_kl(student_logprobs, teacher_logprobs)
        return share * forward + (1 - share) * reverse_kl(student_logprobs, teacher_logprobs)


BASELINES: Mapping[str, Objective] = MappingProxyType(
    {"ce": ForwardKl(), "fkl": ForwardKl(), "rkl": ReverseKl(), "akl": AdaptiveKl()}
)


def objective_of(config: DistillConfig) -> Objective:
    """The objective a recipe names, with its settings."""
    if config.objective == "ckd":
        return Ckd(config.tail_weight, config.tail_top_m)
    return BASELINES[config.objective]
