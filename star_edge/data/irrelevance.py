"""Rows that no offered tool can serve, derived from rows whose answer is a call."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from star_edge.contracts import Example, Tool
from star_edge.data.distractors import last_request, scattered
from star_edge.data.draws import draws
from star_edge.data.tool_pool import (
    ToolPool,
    ToolWords,
    are_related,
    is_near_duplicate,
    words,
    words_of,
)

# Any reply without a call is right there; a few wordings keep one of them from being learnt by heart.
REFUSALS = (
    "None of the tools I have can do that.",
    "I can't do this with the tools at hand.",
    "That is outside what my tools can do, so I can't help with it here.",
    "I'm sorry, but no available function covers this request.",
    "There is no tool here for what you are asking.",
    "I don't have a function that can handle this.",
    "Sorry, this needs a tool that I have not been given.",
    "My current functions don't cover that request.",
)
MOST_ADDED = 5


def is_derivable(example: Example) -> bool:
    """True for a single request that is answered with calls."""
    return bool(example.target_calls) and _is_single_request(example)


def is_for_its_tool(example: Example) -> bool:
    """True for a single request without an answer that offers one tool, which is then the one that it is for."""
    return not example.has_answer and len(example.tools) == 1 and _is_single_request(example)


def _is_single_request(example: Example) -> bool:
    return [message["role"] for message in example.prompt if message["role"] != "system"] == ["user"]


def unrelated(example: Example, pool: ToolPool, *, max_tools: int, seed: int) -> Example | None:
    """The request with one to five tools of the pool instead of its own, none of which has to do with it.

    Such a tool shares no word of its name with the called ones or the request, and at most one of its description with
    the called ones.

    Returns: None when the pool holds no such tool.
    """
    rng = draws(seed, "unrelated", example.id)
    needed = [words_of(tool) for tool in _called(example)]
    request = words(last_request(example))
    names = request.union(*(tool.name for tool in needed))
    said = frozenset().union(*(tool.description for tool in needed))

    def fits(tool: ToolWords) -> bool:
        return not tool.name & names and len(tool.description & said) <= 1

    tools = pool.draw(rng.randint(1, min(MOST_ADDED, max_tools)), example.tools, fits, rng)
    return _refused(example, tools, "unrelated", seed) if tools else None


def near_miss(example: Example, pool: ToolPool | None = None, *, max_tools: int = 8, seed: int) -> Example | None:
    """The request with its own other tools, the called ones taken away.

    What stays must not serve the request: tools that may do the same as a called one go too, and so do those that have
    as many words in common with the request as a called one. One of the rest must be related to a called tool; where
    none is, one to five tools of the pool join them: the nearest to the request and the called tools' names (see
    `ToolPool.nearest`) that is related, and others that share a word of such a name.

    Returns: None when no related tool is left.
    """
    called = _called(example)
    names = {tool["name"] for tool in called}
    needed = [words_of(tool) for tool in called]
    request = words(last_request(example))
    heard = min(len(tool.all & request) for tool in needed)

    def stays(tool: ToolWords) -> bool:
        return len(tool.all & request) < heard and not any(is_near_duplicate(tool, other) for other in needed)

    tools = [tool for tool in example.tools if tool["name"] not in names and stays(words_of(tool))]
    if not any(are_related(words_of(tool), other) for tool in tools for other in needed):
        rng = draws(seed, "near miss", example.id)
        room = min(MOST_ADDED, max_tools - len(tools))
        if pool is None or room < 1:
            return None
        called_names = frozenset().union(*(tool.name for tool in needed))

        def fits(tool: ToolWords) -> bool:
            return stays(tool) and any(are_related(tool, other) for other in needed)

        count = rng.randint(1, room)
        added = pool.nearest(request | called_names, example.tools, fits, rng)
        added += pool.naming(called_names).draw(count - len(added), [*example.tools, *added], stays, rng)
        if not added:
            return None
        tools = scattered(tools, added, rng)
    return _refused(example, tools, "near miss", seed)


def confusable(example: Example, pool: ToolPool, *, seed: int) -> Example | None:
    """The request with one tool of the pool instead of its own, the nearest to it by `ToolPool.nearest`: values of the
    request seem to fit it.

    By its words it does not do the same as a called one, but it may serve all the same (4 of 40 that were read): a
    teacher's answer has to confirm the refusal.

    Returns: None when no tool that was drawn shares a word.
    """
    rng = draws(seed, "confusable", example.id)
    needed = [words_of(tool) for tool in _called(example)]

    def fits(tool: ToolWords) -> bool:
        return not any(is_near_duplicate(tool, other) for other in needed)

    near = words(last_request(example)).union(*(tool.name for tool in needed))
    tools = pool.nearest(near, example.tools, fits, rng)
    return _refused(example, tools, "confusable", seed) if tools else None


def _called(example: Example) -> list[Tool]:
    """The tools that the answer calls; a prompt without an answer is taken to call all that it offers."""
    if not example.has_answer:
        return list(example.tools)
    names = {call.name for call in example.target_calls}
    return [tool for tool in example.tools if tool["name"] in names]


def _refused(example: Example, tools: Sequence[Tool], how: str, seed: int) -> Example:
    refusal = draws(seed, "refusal", example.id).choice(REFUSALS)
    return dataclasses.replace(
        example,
        id=f"{example.id} ({how})",
        messages=(*example.prompt, {"role": "assistant", "content": refusal}),
        tools=tuple(tools),
        kind="irrelevance",
    )
