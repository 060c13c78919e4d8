"""Rewards for Sim-RL: how close a completion comes to the target, from -1 to 1.

`star` is the published similarity reward; `typed` closes its holes; `binary` pays for exact answers alone. Each is
defined in its own file under `rl/rewards/`; docs/rewards.md has the definitions side by side.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from star_edge.calls.parse import OPEN_TAG, format_calls
from star_edge.calls.schema import normalise_call
from star_edge.errors import DataError, TrainingError
from star_edge.rl.rewards.binary import binary
from star_edge.rl.rewards.typed import typed

# A block that opens and holds nothing, so that every reward finds the completion malformed.
_UNREADABLE = OPEN_TAG

Reward: TypeAlias = Callable[[str, Mapping[str, Any], Sequence[Mapping[str, Any]]], float]


def score(
    completion: str, target: Mapping[str, Any], tools: Sequence[Mapping[str, Any]], *, kind: str = "star"
) -> float:
    """The reward of one completion.

    Args:
        completion: what the model wrote; any string at all is scored, none raises.
        target: the assistant message to be learnt, its calls flat or wrapped.
        tools: the tools offered, flat or wrapped.
        kind: a key of `REWARDS`.
    Returns: a number in [-1, 1].
    Raises: TrainingError: unknown kind. DataError: the target's calls or a tool that they name cannot be read.
    """
    if kind not in REWARDS:
        raise TrainingError(f"unknown reward {kind!r}; known: {', '.join(REWARDS)}")
    return REWARDS[kind](completion, target, tools)


def _star(completion: str, target: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> float:
    # Imported here: nltk takes most of a second, which who trains on another reward need not wait for.
    from star_edge.rl.rewards.star import star

    return star(completion, target, tools)


REWARDS: Mapping[str, Reward] = {"star": _star, "typed": typed, "binary": binary}


def trl_reward(kind: str) -> Callable[..., list[float]]:
    """A reward function as TRL's trainers call it, over columns `target` and `tools`.

    Both columns may hold JSON text, which is how they should be stored: Arrow gives every row of a struct column
    the keys of all rows. Completions are strings or lists of messages, whose content may be a list of parts; messages
    that cannot be read, such as a call without a name, are malformed.

    Raises: TrainingError: unknown kind.
    """
    if kind not in REWARDS:
        raise TrainingError(f"unknown reward {kind!r}; known: {', '.join(REWARDS)}")

    def reward(
        prompts: Sequence[Any], completions: Sequence[Any], target: Sequence[Any], tools: Sequence[Any], **_: Any
    ) -> list[float]:
        return [
            score(_as_text(completion), _decoded(row_target), _decoded(row_tools) or (), kind=kind)
            for completion, row_target, row_tools in zip(completions, target, tools, strict=True)
        ]

    reward.__name__ = f"{kind}_reward"
    return reward


def _as_text(completion: Any) -> str:
    if isinstance(completion, str):
        return completion
    try:
        return "\n".join(filter(None, map(_message_text, completion)))
    except (DataError, TypeError, AttributeError):
        return _UNREADABLE


def _message_text(message: Mapping[str, Any]) -> str:
    calls = [normalise_call(call) for call in message.get("tool_calls") or ()]
    return "\n".join(filter(None, [_content(message.get("content")), format_calls(calls)]))


def _content(content: Any) -> str:
    """The text of a message, which may be given as a list of parts; parts other than text are no words."""
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(part if isinstance(part, str) else part.get("text") or "" for part in content)


def _decoded(column: Any) -> Any:
    return json.loads(column) if isinstance(column, str) else column
