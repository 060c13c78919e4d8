"""A label from a model's own completions: what enough of them call alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from star_edge.calls.match import same_calls
from star_edge.calls.offered import all_offered
from star_edge.calls.parse import parse_completion
from star_edge.contracts import Example, ToolCall
from star_edge.data.quota import kind_of


def agreed(prompt: Example, completions: Sequence[str], *, needed: int) -> Example | None:
    """The prompt with the calls that at least `needed` completions make, or None when so many do not agree.

    A completion counts when it parses and names only offered functions and parameters; the order of calls does not
    matter. Completions without a call are no label, for replies cannot be compared word by word. Of several groups the
    largest wins, of equal ones the first.

    Args:
        prompt: its last turn, the assistant's, is replaced.
    """
    groups: list[tuple[tuple[ToolCall, ...], int]] = []
    for text in completions:
        calls = parse_completion(text).calls
        if not calls or not all_offered(calls, prompt.tools):
            continue
        place = next((place for place, (known, _) in enumerate(groups) if same_calls(known, calls)), None)
        if place is None:
            groups.append((calls, 1))
        else:
            groups[place] = (groups[place][0], groups[place][1] + 1)
    calls, count = max(groups, key=lambda group: group[1], default=((), 0))
    return _labelled(prompt, calls) if calls and count >= needed else None


def _labelled(prompt: Example, calls: Sequence[ToolCall]) -> Example:
    called = [{"name": call.name, "arguments": dict(call.arguments)} for call in calls]
    answer = {"role": "assistant", "content": "", "tool_calls": called}
    example = dataclasses.replace(prompt, messages=(*prompt.prompt, answer), kind="")
    return dataclasses.replace(example, kind=kind_of(example))
