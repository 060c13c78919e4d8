"""What an audit of the rewards leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from star_edge.contracts.configs import RewardKind


@dataclass(frozen=True, slots=True)
class RewardAgreement:
    """How a reward orders answers, held against a checker.

    tau_b: Kendall's, between reward and verdict over all answers. in_order, tied, inverted: shares of the pairs of a
    right and a wrong answer to the same case; they sum to 1.
    """

    reward: RewardKind
    tau_b: float
    in_order: float
    tied: float
    inverted: float

    @property
    def auc(self) -> float:
        """The area under the ROC curve within cases: pairs in order, ties counted half."""
        return self.in_order + self.tied / 2


@dataclass(frozen=True, slots=True)
class KindAgreement:
    """One kind of perturbed answer: how many are right, and by reward the mean and the shares of the pairs it is in."""

    kind: str
    answers: int
    right: int
    mean_reward: Mapping[RewardKind, float]
    tied: Mapping[RewardKind, float]
    inverted: Mapping[RewardKind, float]


@dataclass(frozen=True, slots=True)
class Misorder:
    """A wrong answer that a reward puts above a right one to the same case."""

    reward: RewardKind
    case: str
    wrong_kind: str
    wrong_reward: float
    wrong_text: str
    right_kind: str
    right_reward: float
    right_text: str
    target: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Rewards against a checker's verdicts on the same answers; `worst` has the widest inversions of each reward."""

    answers: int
    cases: int
    right: int
    pairs: int
    seed: int
    rewards: tuple[RewardAgreement, ...]
    perturbations: tuple[KindAgreement, ...]
    worst: tuple[Misorder, ...]
