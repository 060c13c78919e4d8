"""`binary`: paid for right answers alone, the other end of the ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from star_edge.calls.match import same_calls
from star_edge.calls.parse import parse_completion
from star_edge.calls.schema import normalise_call


def binary(completion: str, target: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> float:
    """1 for a right answer, 0 for a wrong one, -1 for a malformed one.

    Right is an exact call (`calls.match.same_calls`) where calls are due, and any words but no call where a reply is.
    Wrong is 0 and not -1, so that a group's mean reward is its rate of right answers, which is what the limits of
    dynamic filtering speak of; within a group the advantages are the same.

    Raises: DataError: the target's calls cannot be read.
    """
    parsed = parse_completion(completion)
    if parsed.is_malformed:
        return -1.0
    wanted = [normalise_call(call) for call in target.get("tool_calls") or ()]
    if wanted:
        return float(same_calls(parsed.calls, wanted))
    return float(bool(parsed.reply) and not parsed.calls)
