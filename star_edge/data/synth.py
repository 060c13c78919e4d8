"""Rows from a synthetic request grammar (`star_edge.data.grammar` documents the file).

Kinds of rows, by the names the other data use: `multiple` (one call, several tools offered), `parallel` (two calls),
`irrelevance` (no offered tool can serve the request; a fixed refusal) and `ask_missing` (a required parameter was left
out; a question names it). Every prefix of a side is a balanced mixture of kinds, tools and phrasings, so a recipe may
take the first N rows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from star_edge.contracts import Example, Message
from star_edge.data.grammar import Grammar, MissingParameter, Phrase, Side, ToolGrammar, Value, fill
from star_edge.data.grammar_file import parse_grammar, read_grammar
from star_edge.data.overlap import normalise_text
from star_edge.errors import DataError

__all__ = ["Deck", "generate", "read_grammar", "schedule"]

Item = TypeVar("Item")
MAX_DRAWS = 200


def generate(spec: Mapping[str, Any], *, seed: int, where: str = "grammar") -> tuple[list[Example], list[Example]]:
    """Training and held-out rows of a grammar; the same seed gives the same rows.

    No user request occurs twice, on either side or across them. Phrasings, wrappers and slot values of the held-out
    rows occur in no training row.

    Args:
        spec: the mapping of a grammar file, as `read_grammar` gives it.
        seed: any integer; the two sides draw from streams of their own.
        where: name of the file for error lines.
    Raises: DataError: the grammar is wrong, or cannot make that many different requests.
    """
    grammar = parse_grammar(spec, where=where)
    seen: set[str] = set()
    train = _Generator(grammar, "train", seed, seen, where).rows()
    return train, _Generator(grammar, "heldout", seed, seen, where).rows()


class Deck(Generic[Item]):
    """Deals every item once, in random order, before it deals any twice: what keeps prefixes balanced."""

    def __init__(self, items: Sequence[Item], rng: random.Random) -> None:
        self._items = list(items)
        self._rng = rng
        self._left: list[Item] = []

    def deal(self) -> Item:
        """The next item."""
        if not self._left:
            self._left = self._rng.sample(self._items, len(self._items))
        return self._left.pop()


def schedule(shares: Mapping[str, float], count: int) -> Iterator[str]:
    """`count` names in an order whose every prefix follows the shares to within one row."""
    given = dict.fromkeys(shares, 0)
    for done in range(1, count + 1):
        name = max(given, key=lambda name: shares[name] * done - given[name])
        given[name] += 1
        yield name


@dataclass(frozen=True, slots=True)
class _Request:
    """What the user says, and the tools and the turn that go with it."""

    text: str
    answer: Message
    needed: tuple[ToolGrammar, ...]
    barred: frozenset[str] = frozenset()


class _Generator:
    """Draws the rows of one side."""

    def __init__(self, grammar: Grammar, side: Side, seed: int, seen: set[str], where: str) -> None:
        self.grammar = grammar
        self.side = side
        self.seen = seen
        self.where = where
        self.rng = random.Random(f"{seed}/{side}")
        self._decks: dict[tuple[str, ...], Deck[Any]] = {}
        incomplete = [tool for tool in grammar.tools if tool.missing]
        self._kinds: dict[str, tuple[Sequence[Any], Callable[[Any], _Request]]] = {
            "multiple": (grammar.tools, self.single_call),
            "parallel": (grammar.tools, self.parallel_calls),
            "not_offered": (grammar.tools, self.not_offered),
            "off_topic": ((None,), self.off_topic),
            "ask_missing": (incomplete, self.missing_parameter),
        }

    def rows(self) -> list[Example]:
        count = self.grammar.rows[self.side]
        shares = self.grammar.shares
        refused = shares["irrelevant"] * self.grammar.not_offered_share
        kinds = {
            "multiple": 1.0 - sum(shares.values()),
            "not_offered": refused,
            "off_topic": shares["irrelevant"] - refused,
            "parallel": shares["parallel"],
            "ask_missing": shares["missing"],
        }
        return [self.row(index, kind) for index, kind in enumerate(schedule(kinds, count))]

    def row(self, index: int, kind: str) -> Example:
        request = self.fresh_request(kind)
        tools = self.offered(request)
        return Example(
            id=f"{self.grammar.name}-{self.side}-{index:05d}",
            source=self.grammar.name,
            messages=({"role": "user", "content": request.text}, request.answer),
            tools=tuple(tool.tool for tool in tools),
            kind="irrelevance" if kind in ("not_offered", "off_topic") else kind,
        )

    def fresh_request(self, kind: str) -> _Request:
        """A request that was not made before; draws again, a set number of times, when it was.

        Its subject (a tool, or none) is dealt once, so that drawing again leaves the mixture balanced.
        """
        subjects, draw = self._kinds[kind]
        subject = self.deck(subjects, kind).deal()
        for _ in range(MAX_DRAWS):
            request = draw(subject)
            key = normalise_text(request.text)
            if key not in self.seen:
                self.seen.add(key)
                return request
        raise DataError(f"{self.where}: rows.{self.side}: too few different {kind} requests; add phrases or values")

    def offered(self, request: _Request) -> list[ToolGrammar]:
        """The needed tools and others that make the count up, in random order."""
        count = max(self.rng.choice(self.grammar.tools_offered), len(request.needed))
        needed = {tool.name for tool in request.needed}
        others = [tool for tool in self.grammar.tools if tool.name not in needed and tool.name not in request.barred]
        offered = [*request.needed, *self.rng.sample(others, count - len(needed))]
        return self.rng.sample(offered, len(offered))

    def single_call(self, tool: ToolGrammar) -> _Request:
        phrase = self.deck(tool.phrases[self.side], "phrase", tool.name).deal()
        values = self.draw(phrase)
        return _Request(self.wrap(fill(phrase.text, values), phrase, phrase), _calls((tool, phrase, values)), (tool,))

    def parallel_calls(self, first: ToolGrammar) -> _Request:
        """Two imperatives joined: of one tool every other time that makes sense, else of two."""
        twice = first.repeats and self.deck((True, False), "twice").deal()
        others = [tool for tool in self.grammar.tools if tool is not first]
        second = first if twice else self.deck(others, "second", first.name).deal()
        one = self.imperative(first, allow_open_end=False)
        other = self.imperative(second, allow_open_end=True)
        values = self.draw(one), self.draw(other)
        join = self.deck(self.grammar.joins[self.side], "join").deal()
        text = fill(join, {"first": fill(one.text, values[0]), "second": fill(other.text, values[1])})
        answer = _calls((first, one, values[0]), (second, other, values[1]))
        needed = (first,) if first is second else (first, second)
        return _Request(self.wrap(text, one, other), answer, needed)

    def not_offered(self, tool: ToolGrammar) -> _Request:
        phrase = self.deck(tool.phrases[self.side], "refused phrase", tool.name).deal()
        return _Request(self.said(phrase), _reply(self.grammar.refusal), (), frozenset({tool.name}) | tool.similar)

    def off_topic(self, _: None) -> _Request:
        phrase = self.deck(self.grammar.off_topic[self.side], "off-topic phrase").deal()
        return _Request(self.said(phrase), _reply(self.grammar.refusal), ())

    def missing_parameter(self, tool: ToolGrammar) -> _Request:
        missing: MissingParameter = self.deck(tool.missing, "missing", tool.name).deal()
        phrase = self.deck(missing.phrases[self.side], "missing phrase", tool.name, missing.ask).deal()
        return _Request(self.said(phrase), _reply(missing.ask), (tool,))

    def deck(self, items: Sequence[Item], *key: str) -> Deck[Item]:
        if key not in self._decks:
            self._decks[key] = Deck(items, self.rng)
        return self._decks[key]

    def imperative(self, tool: ToolGrammar, *, allow_open_end: bool) -> Phrase:
        fit = [
            phrase
            for phrase in tool.phrases[self.side]
            if phrase.is_imperative and (allow_open_end or not phrase.ends_open)
        ]
        if not fit:
            raise DataError(f"{self.where}: tools.{tool.name}.phrases.{self.side}: none can be joined to another")
        return self.deck(fit, "joined phrase", tool.name, str(allow_open_end)).deal()

    def said(self, phrase: Phrase) -> str:
        """A whole request from one phrase."""
        return self.wrap(fill(phrase.text, self.draw(phrase)), phrase, phrase)

    def draw(self, phrase: Phrase) -> dict[str, Value]:
        return {
            slot: self.deck(self.grammar.values[name].sides[self.side], "value", name).deal()
            for slot, name in phrase.slots.items()
        }

    def wrap(self, text: str, first: Phrase, last: Phrase) -> str:
        """The request with words of politeness round it, where its first and last phrase allow them."""
        if not first.is_imperative or self.rng.random() >= self.grammar.wrapped_share:
            return text
        wrappers = [
            wrapper for wrapper in self.grammar.wrappers[self.side] if wrapper.endswith("}") or not last.ends_open
        ]
        if not wrappers:
            return text
        wrapper = self.deck(wrappers, "wrapper", str(last.ends_open)).deal()
        return wrapper.replace("{request}", text).replace("{Request}", text[0].upper() + text[1:])


def _arguments(tool: ToolGrammar, phrase: Phrase, values: Mapping[str, Value]) -> dict[str, Value]:
    """Slot values and constants in the order in which the schema lists the parameters."""
    known = {**phrase.constants, **values}
    return {name: known[name] for name in tool.tool["parameters"]["properties"] if name in known}


def _calls(*parts: tuple[ToolGrammar, Phrase, Mapping[str, Value]]) -> Message:
    calls = [{"name": tool.name, "arguments": _arguments(tool, phrase, values)} for tool, phrase, values in parts]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def _reply(text: str) -> Message:
    return {"role": "assistant", "content": text}
