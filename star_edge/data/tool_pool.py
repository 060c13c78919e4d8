"""Tools to draw others from, and how alike two tools or a tool and a request are, by their words."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path

from star_edge.calls.schema import normalise_tool
from star_edge.contracts import Tool
from star_edge.data.sources import BadRow, read_rows
from star_edge.errors import DataError

# What half of all tools have in their names, and words that say nothing about what a tool is for.
_EMPTY_WORDS = """
a an and any api are as at be by can data details do fetch find for from function get give given has have id if in info
information into is it its list me my of on one or our out provide provided retrieve return returns set show some
specific specified that the their them these this to tool up use used user using via want what when which will with you
your
"""
_EMPTY = frozenset(_EMPTY_WORDS.split())
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")
TRIES_PER_TOOL = 40
NEAREST_OF_SHARE = 1 / 3
"""Share of a pool that is looked through: what is nearest is seldom what is needed then, and is not always the same."""
NEAREST_OF_LEAST = 100


def words(text: str) -> frozenset[str]:
    """Words that carry meaning, from prose, snake_case and camelCase alike; lower case, without a plural's end."""
    found = (word.lower() for word in _WORD.findall(text))
    return frozenset(_singular(word) for word in found if len(word) > 1) - _EMPTY


def _singular(word: str) -> str:
    """One spelling for both numbers, which need not be a word: `currency` for `currencies`, `movy` for `movie`."""
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    return word[:-2] + "y" if len(word) > 4 and word.endswith("ie") else word


@dataclass(frozen=True, slots=True)
class ToolWords:
    """The words of a tool's name, and those of its description."""

    name: frozenset[str]
    description: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        return self.name | self.description


@lru_cache(maxsize=1 << 16)
def _words_of(name: str, description: str) -> ToolWords:
    return ToolWords(words(name), words(description))


def words_of(tool: Tool) -> ToolWords:
    """The words of one tool."""
    return _words_of(tool["name"], tool["description"])


def is_near_duplicate(one: ToolWords, other: ToolWords) -> bool:
    """True when two tools may do the same: a name says no more than the other, or half of a description is shared."""
    if one.name and other.name and (one.name <= other.name or other.name <= one.name):
        return True
    fewer = min(len(one.description), len(other.description))
    return fewer > 0 and 2 * len(one.description & other.description) >= fewer


def are_related(one: ToolWords, other: ToolWords) -> bool:
    """True when two tools share a word of their names or descriptions."""
    return bool(one.all & other.all)


class ToolPool:
    """Tools to draw from.

    Args:
        tools: canonical ones; a name may occur more than once.
    """

    def __init__(self, tools: Iterable[Tool]) -> None:
        self.tools = tuple(tools)

    def without(self, names: Iterable[str]) -> ToolPool:
        """The pool without tools of these names."""
        left_out = frozenset(names)
        return ToolPool(tool for tool in self.tools if tool["name"] not in left_out)

    def naming(self, words: Iterable[str]) -> ToolPool:
        """The tools with one of these words in their names, in order."""
        return ToolPool(
            self.tools[index] for index in sorted({at for word in words for at in self._named.get(word, ())})
        )

    @cached_property
    def _named(self) -> Mapping[str, list[int]]:
        """Word -> places of the tools that have it in their names."""
        found: defaultdict[str, list[int]] = defaultdict(list)
        for index, tool in enumerate(self.tools):
            for word in words_of(tool).name:
                found[word].append(index)
        return found

    @cached_property
    def _words(self) -> Sequence[frozenset[str]]:
        """The words of each tool's name, description and parameters' names."""
        parameters = (tool["parameters"].get("properties", {}) for tool in self.tools)
        return [words_of(tool).all | words(" ".join(names)) for tool, names in zip(self.tools, parameters, strict=True)]

    @cached_property
    def _worded(self) -> Mapping[str, list[int]]:
        """Word -> places of the tools that have it among their words."""
        found: defaultdict[str, list[int]] = defaultdict(list)
        for index, of_tool in enumerate(self._words):
            for word in of_tool:
                found[word].append(index)
        return found

    @cached_property
    def _circle(self) -> Sequence[int]:
        """The place of each tool when they stand in a circle at random."""
        return random.Random(0).sample(range(len(self.tools)), len(self.tools))

    def nearest(
        self, to: Iterable[str], offered: Sequence[Tool], fits: Callable[[ToolWords], bool], rng: random.Random
    ) -> list[Tool]:
        """Of some that are drawn the tool that fits, is not offered and has most of these words in its name, its
        description and its parameters' names, over the fourth root of how many words it has. By count alone the wordy
        are taken (11.6 words in the mean of a pool whose tools have 8.1), by the square root the short (6.2; so 7.8).

        Drawn are neighbours in a circle, from a random place on: thousands of single draws took longer than the rest.

        Returns: one tool, or none where none of those has any of the words.
        """
        size, names = len(self.tools), {tool["name"] for tool in offered}
        start, most = rng.randrange(size or 1), max(NEAREST_OF_LEAST, int(NEAREST_OF_SHARE * size))
        shared = Counter(index for word in to for index in self._worded.get(word, ()))
        behind = {index: (self._circle[index] - start) % size for index in shared}
        drawn = [index for index, steps in behind.items() if steps < most]
        drawn.sort(key=lambda index: (-shared[index] / len(self._words[index]) ** 0.25, behind[index]))
        found = (self.tools[index] for index in drawn)
        return list(islice((tool for tool in found if tool["name"] not in names and fits(words_of(tool))), 1))

    def draw(
        self, count: int, offered: Sequence[Tool], fits: Callable[[ToolWords], bool], rng: random.Random
    ) -> list[Tool]:
        """Up to `count` tools that fit, of names that differ from each other and from the offered ones.

        Fewer come back when few fit: each of them gets a set number of tries.
        """
        names = {tool["name"] for tool in offered}
        drawn: list[Tool] = []
        tries = min(TRIES_PER_TOOL * count, len(self.tools))
        for index in rng.sample(range(len(self.tools)), tries):
            tool = self.tools[index]
            if len(drawn) == count:
                break
            if tool["name"] not in names and fits(words_of(tool)):
                names.add(tool["name"])
                drawn.append(tool)
        return drawn


def read_tool_pool(path: Path) -> ToolPool:
    """A pool from JSONL, plain or gzip, one tool a line, flat or wrapped; other keys are dropped.

    Raises: DataError: no such file, a line that is no tool, or none at all.
    """
    tools = []
    for line, row in read_rows(path):
        if isinstance(row, BadRow):
            raise DataError(f"tool pool {row}; mend the line or take it out")
        try:
            tools.append(normalise_tool(row))
        except DataError as error:
            raise DataError(f"tool pool {path}:{line}: {error}; mend the line or take it out") from error
    if not tools:
        raise DataError(f"tool pool {path}: holds no tools; give a JSONL file with one tool a line")
    return ToolPool(tools)
