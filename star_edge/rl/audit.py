"""Rewards against BFCL's checker: does a reward put right answers above wrong ones?

Answers are perturbed from the canonical one (`evaluate.perturb`), judged by the checker, and scored by each reward with
the canonical answer as the target. Agreement is measured in two ways:

- Kendall's tau-b between reward and verdict over all answers, a rank correlation made for ties: the verdict has only
  two values, and rewards tie too. It counts the same pairs as below, and cannot reach 1 for a reward that tells wrong
  answers apart.
- Pairs of a right and a wrong answer to the same case, which is what a group of rollouts is: in order, tied, inverted.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from star_edge.calls.parse import format_calls
from star_edge.contracts import AuditReport, KindAgreement, Misorder, RewardAgreement, RewardKind, ToolCall
from star_edge.errors import EvaluationError
from star_edge.evaluate.bfcl.cases import BfclCase
from star_edge.evaluate.bfcl.checker import check
from star_edge.evaluate.perturb import canonical, perturbed
from star_edge.rl.reward import score

ANSWERS_PER_CASE = 10
WORST = 5

# Where no call is due the data has no words to compare with: a reward that compares words gets two refusals.
_TARGET_REPLY = "None of these functions can do that."
_REPLY = "I am sorry, that is not something I can help with."


@dataclass(frozen=True, slots=True)
class _Answer:
    case: BfclCase
    kind: str
    text: str
    is_right: bool
    rewards: Mapping[RewardKind, float]


def audit(kinds: Sequence[RewardKind], cases: Sequence[BfclCase], *, answers: int = 2000, seed: int = 0) -> AuditReport:
    """Score perturbed answers by each reward and hold the order against the checker's verdicts.

    Args:
        kinds: the rewards, keys of `REWARDS`.
        cases: spread evenly over their categories. Left out are cases whose canonical answer the checker refuses, and
            those where any call at all is right, which have no target.
        answers: how many, about `ANSWERS_PER_CASE` a case.
    Raises: EvaluationError: the cases do not yield that many answers. TrainingError: an unknown reward.
    """
    found: list[_Answer] = []
    for case in _in_turn(cases, random.Random(seed)):
        if len(found) >= answers:
            break
        found += _answers(case, kinds, seed)
    if len(found) < answers:
        raise EvaluationError(f"these cases yield {len(found)} perturbed answers, not {answers}; ask for fewer")
    return _report(found[:answers], kinds, seed)


def _in_turn(cases: Sequence[BfclCase], rng: random.Random) -> Iterator[BfclCase]:
    """The usable cases, one of each category after the other, in random order within each."""
    by_category: dict[str, list[BfclCase]] = defaultdict(list)
    for case in cases:
        if (case.answers or not case.expects_call) and check(case, canonical(case)) is None:
            by_category[case.category].append(case)
    shuffled = [rng.sample(group, len(group)) for group in by_category.values()]
    return (case for case in chain(*zip_longest(*shuffled)) if case is not None)


def _answers(case: BfclCase, kinds: Sequence[RewardKind], seed: int) -> list[_Answer]:
    target, tools = _target(canonical(case)), case.example.tools
    answers = []
    for answer in perturbed(case, seed=seed, count=ANSWERS_PER_CASE):
        text = format_calls(answer.calls) or _REPLY
        # Rounded, so that sums in another order tie.
        rewards = {kind: round(score(text, target, tools, kind=kind), 9) for kind in kinds}
        answers.append(_Answer(case, answer.kind, text, check(case, answer.calls) is None, rewards))
    return answers


def _target(calls: Sequence[ToolCall]) -> dict[str, Any]:
    if not calls:
        return {"role": "assistant", "content": _TARGET_REPLY}
    return {"role": "assistant", "tool_calls": [{"name": call.name, "arguments": call.arguments} for call in calls]}


# ------------------------------------------------------------------------------------------------------- agreement


def _report(answers: Sequence[_Answer], kinds: Sequence[RewardKind], seed: int) -> AuditReport:
    pairs = list(_pairs(answers))
    perturbations = dict.fromkeys(answer.kind for answer in answers)
    return AuditReport(
        answers=len(answers),
        cases=len({answer.case.id for answer in answers}),
        right=sum(answer.is_right for answer in answers),
        pairs=len(pairs),
        seed=seed,
        rewards=tuple(_agreement(kind, answers, pairs) for kind in kinds),
        perturbations=tuple(_of_perturbation(name, answers, pairs, kinds) for name in perturbations),
        worst=tuple(chain.from_iterable(_worst(kind, pairs) for kind in kinds)),
    )


def _pairs(answers: Sequence[_Answer]) -> Iterator[tuple[_Answer, _Answer]]:
    """A right and a wrong answer to the same case, every such pair."""
    by_case: dict[str, list[_Answer]] = defaultdict(list)
    for answer in answers:
        by_case[answer.case.id].append(answer)
    for group in by_case.values():
        right = [answer for answer in group if answer.is_right]
        yield from ((one, other) for one in right for other in group if not other.is_right)


def _shares(kind: RewardKind, pairs: Sequence[tuple[_Answer, _Answer]]) -> tuple[float, float]:
    """The shares of pairs that are tied, and that are inverted."""
    tied = sum(right.rewards[kind] == wrong.rewards[kind] for right, wrong in pairs)
    inverted = sum(right.rewards[kind] < wrong.rewards[kind] for right, wrong in pairs)
    return tied / max(len(pairs), 1), inverted / max(len(pairs), 1)


def _agreement(
    kind: RewardKind, answers: Sequence[_Answer], pairs: Sequence[tuple[_Answer, _Answer]]
) -> RewardAgreement:
    from scipy.stats import kendalltau

    tau = float(kendalltau([one.rewards[kind] for one in answers], [one.is_right for one in answers]).statistic)
    tied, inverted = _shares(kind, pairs)
    return RewardAgreement(kind, 0.0 if math.isnan(tau) else tau, 1.0 - tied - inverted, tied, inverted)


def _of_perturbation(
    name: str, answers: Sequence[_Answer], pairs: Sequence[tuple[_Answer, _Answer]], kinds: Sequence[RewardKind]
) -> KindAgreement:
    of_kind = [answer for answer in answers if answer.kind == name]
    concerned = [pair for pair in pairs if name in (pair[0].kind, pair[1].kind)]
    shares = {kind: _shares(kind, concerned) for kind in kinds}
    return KindAgreement(
        kind=name,
        answers=len(of_kind),
        right=sum(answer.is_right for answer in of_kind),
        mean_reward={kind: sum(answer.rewards[kind] for answer in of_kind) / len(of_kind) for kind in kinds},
        tied={kind: shares[kind][0] for kind in kinds},
        inverted={kind: shares[kind][1] for kind in kinds},
    )


def _worst(kind: RewardKind, pairs: Sequence[tuple[_Answer, _Answer]]) -> list[Misorder]:
    """The inverted pairs with the largest gap, one a case."""

    def gap(pair: tuple[_Answer, _Answer]) -> float:
        return pair[1].rewards[kind] - pair[0].rewards[kind]

    largest: dict[str, tuple[_Answer, _Answer]] = {}
    for pair in sorted(pairs, key=gap, reverse=True):
        if gap(pair) > 0 and len(largest) < WORST:
            largest.setdefault(pair[0].case.id, pair)
    return [
        Misorder(
            reward=kind,
            case=right.case.id,
            wrong_kind=wrong.kind,
            wrong_reward=wrong.rewards[kind],
            wrong_text=wrong.text,
            right_kind=right.kind,
            right_reward=right.rewards[kind],
            right_text=right.text,
            target=format_calls(canonical(right.case)),
        )
        for right, wrong in largest.values()
    ]
