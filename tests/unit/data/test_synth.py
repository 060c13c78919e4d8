"""Synthetic rows: right answers, balanced prefixes, and a held-out side that training never saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from small_grammar import small_spec

from star_edge.contracts import Example
from star_edge.data.grammar import SIDES, Grammar
from star_edge.data.grammar_file import parse_grammar, read_grammar
from star_edge.data.overlap import normalise_text, overlap
from star_edge.data.synth import Deck, generate, schedule
from star_edge.errors import DataError

REQUESTS = Path(__file__).parents[3] / "recipes" / "quickstart" / "requests.yaml"
KINDS = {"multiple": 0.70, "irrelevance": 0.15, "parallel": 0.10, "ask_missing": 0.05}


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    return parse_grammar(read_grammar(REQUESTS), where=REQUESTS.name)


@pytest.fixture(scope="module")
def rows() -> tuple[list[Example], list[Example]]:
    return generate(read_grammar(REQUESTS), seed=17)


def request_of(example: Example) -> str:
    return str(example.messages[-2]["content"])


def arguments_of(examples: list[Example]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """(request, schema, value) of every argument of every call; the schema's `title` is tool and parameter."""
    for example in examples:
        schemas = {tool["name"]: tool["parameters"]["properties"] for tool in example.tools}
        for call in example.target_calls:
            for name, value in call.arguments.items():
                yield request_of(example), {**schemas[call.name][name], "title": f"{call.name}.{name}"}, value


def test_quickstart_makes_enough_different_requests(rows: tuple[list[Example], list[Example]]) -> None:
    train, heldout = rows
    requests = [normalise_text(request_of(example)) for example in (*train, *heldout)]

    assert len(train) >= 1000
    assert len(heldout) >= 200
    assert len(set(requests)) == len(requests)
    assert len({example.id for example in (*train, *heldout)}) == len(requests)


@pytest.mark.parametrize("count", [40, 200, 333, 500, 1000])
def test_any_prefix_is_a_balanced_mixture(rows: tuple[list[Example], list[Example]], count: int) -> None:
    kinds = Counter(example.kind for example in rows[0][:count])
    tools = Counter(e.target_calls[0].name for e in rows[0][:count] if e.kind == "multiple")

    for kind, share in KINDS.items():
        assert abs(kinds[kind] - share * count) <= 2, kind
    assert len(tools) == 10
    assert max(tools.values()) - min(tools.values()) <= 1


def test_heldout_side_has_the_same_mixture(rows: tuple[list[Example], list[Example]]) -> None:
    kinds = Counter(example.kind for example in rows[1])

    for kind, share in KINDS.items():
        assert abs(kinds[kind] - share * len(rows[1])) <= 2, kind


def test_ten_terse_tools_two_or_three_in_a_row(grammar: Grammar, rows: tuple[list[Example], list[Example]]) -> None:
    assert len(grammar.tools) == 10
    assert all(1 <= len(tool.tool["parameters"]["properties"]) <= 3 for tool in grammar.tools)
    assert {len(example.tools) for side in rows for example in side} == {2, 3}


def test_every_tool_has_enough_phrasings_on_each_side(grammar: Grammar) -> None:
    for tool in grammar.tools:
        assert len(tool.phrases["train"]) >= 12, tool.name
        assert len(tool.phrases["heldout"]) >= 5, tool.name


def test_heldout_words_are_new(grammar: Grammar) -> None:
    def said(side: str) -> set[str]:
        phrases = [p for tool in grammar.tools for p in tool.phrases[side]]
        phrases += [p for tool in grammar.tools for missing in tool.missing for p in missing.phrases[side]]
        return {normalise_text(p.text) for p in (*phrases, *grammar.off_topic[side])}

    train, heldout = (said(side) for side in SIDES)
    assert train
    assert heldout
    assert not train & heldout
    assert not set(grammar.wrappers["train"]) & set(grammar.wrappers["heldout"])
    assert not set(grammar.joins["train"]) & set(grammar.joins["heldout"])


def test_heldout_values_are_new(rows: tuple[list[Example], list[Example]]) -> None:
    def values(examples: list[Example]) -> set[str]:
        """Strings alone, for they may come up under other parameters; numbers with their parameter."""
        return {
            value.casefold() if isinstance(value, str) else f"{schema['title']} {value}"
            for _, schema, value in arguments_of(examples)
            if "enum" not in schema and not isinstance(value, bool)
        }

    train, heldout = (values(side) for side in rows)
    assert len(train) > 100
    assert len(heldout) > 50
    assert not train & heldout


def test_training_and_heldout_rows_do_not_overlap(rows: tuple[list[Example], list[Example]]) -> None:
    report = overlap(*rows)

    assert (report.exact, report.ngram) == (0, 0)


def test_arguments_are_words_of_the_request(rows: tuple[list[Example], list[Example]]) -> None:
    for side in rows:
        for request, schema, value in arguments_of(side):
            if "enum" not in schema and not isinstance(value, bool):
                assert str(value) in request


@pytest.mark.slow
def test_calls_fit_the_schemas_of_offered_tools(rows: tuple[list[Example], list[Example]]) -> None:
    for example in (*rows[0], *rows[1]):
        schemas = {tool["name"]: tool["parameters"] for tool in example.tools}
        for call in example.target_calls:
            jsonschema.validate(call.arguments, {**schemas[call.name], "additionalProperties": False})


def test_kinds_are_what_they_say(rows: tuple[list[Example], list[Example]], grammar: Grammar) -> None:
    questions = {missing.ask for tool in grammar.tools for missing in tool.missing}
    for example in (*rows[0], *rows[1]):
        text, calls = example.target["content"], example.target_calls
        if example.kind in ("multiple", "parallel"):
            assert len(calls) == (2 if example.kind == "parallel" else 1)
            assert text == ""
        else:
            assert calls == ()
            assert text in (questions if example.kind == "ask_missing" else {grammar.refusal})


def test_seed_decides_all(rows: tuple[list[Example], list[Example]]) -> None:
    assert generate(read_grammar(REQUESTS), seed=17) == rows
    assert generate(read_grammar(REQUESTS), seed=18)[0] != rows[0]


def test_refused_requests_find_no_tool_that_could_serve_them() -> None:
    """The small grammar's requests begin with their tool's verb, so who could serve one can be read off."""
    verbs = {"light": "light", "darken": "light", "lighten": "light", "volume": "volume", "note": "note"}
    refused = [e for side in generate(small_spec(), seed=3) for e in side if e.kind == "irrelevance"]
    wanted = [
        next((tool for verb, tool in verbs.items() if verb in normalise_text(request_of(e)).split()[:2]), None)
        for e in refused
    ]

    assert set(wanted) == {"light", "volume", "note", None}
    for example, tool in zip(refused, wanted, strict=True):
        assert tool not in {offered["name"] for offered in example.tools}


def test_similar_tools_are_not_offered_with_a_refusal() -> None:
    spec = small_spec()
    spec["tools"]["other"] = {
        **spec["tools"]["light"],
        "phrases": {"train": ["Other {room}"], "heldout": ["Else {room}"]},
    }
    spec["tools"]["other"] |= {"parameters": {"room": {"type": "string"}}, "required": ["room"]}
    spec["tools"]["other"] |= {"similar": ["note"]}
    spec["shares"] = {"irrelevant": 1.0, "parallel": 0.0, "missing": 0.0}
    spec["irrelevant"]["not_offered"] = 1.0
    spec["rows"] = {"train": 12, "heldout": 4}
    spec["tools_offered"] = [2]
    rows = [e for e in generate(spec, seed=3)[0] if request_of(e).startswith("Other")]

    assert rows
    assert all({tool["name"] for tool in e.tools} == {"light", "volume"} for e in rows)


def test_nothing_follows_free_text_at_the_end_of_a_request() -> None:
    notes = {"buy milk", "call home", "pay rent", "eat", "sleep", "run", "read"}
    for side in generate(small_spec(), seed=3):
        for example in side:
            for call in example.target_calls:
                if call.name == "note":
                    after = request_of(example).split(call.arguments["text"], 1)[1]
                    assert after == "" or after.startswith((" down", " for me")), request_of(example)
                    assert call.arguments["text"] in notes


def test_tool_that_does_not_repeat_is_never_called_twice_in_parallel() -> None:
    spec = small_spec()
    spec["shares"] = {"irrelevant": 0.0, "parallel": 1.0, "missing": 0.0}
    pairs = [tuple(call.name for call in e.target_calls) for e in generate(spec, seed=3)[0]]

    assert ("volume", "volume") not in pairs
    assert ("light", "light") in pairs
    assert any(first != second for first, second in pairs)


def test_arguments_stand_in_the_order_of_the_schema() -> None:
    calls = [call for e in generate(small_spec(), seed=3)[0] for call in e.target_calls if call.name == "light"]

    assert calls
    assert all(list(call.arguments) == ["state", "room"] for call in calls)


def test_too_few_different_requests_are_an_error_not_a_hang() -> None:
    spec = small_spec()
    spec["rows"]["heldout"] = 500

    with pytest.raises(DataError, match=r"own\.yaml: rows\.heldout: too few different \w+ requests"):
        generate(spec, seed=3, where="own.yaml")


def test_tool_that_cannot_be_joined_is_named() -> None:
    spec = small_spec()
    spec["tools"]["volume"]["phrases"]["train"] = ["Volume {level}"]

    with pytest.raises(DataError, match=r"tools\.volume\.phrases\.train: none can be joined"):
        generate(spec, seed=3)


def test_deck_deals_every_item_before_any_twice() -> None:
    import random

    deck = Deck("abcde", random.Random(1))
    dealt = [deck.deal() for _ in range(15)]

    assert [set(dealt[i : i + 5]) for i in (0, 5, 10)] == [set("abcde")] * 3
    assert dealt[:5] != dealt[5:10]


def test_schedule_follows_the_shares_everywhere() -> None:
    shares = {"a": 0.7, "b": 0.2, "c": 0.1, "d": 0.0}
    names = list(schedule(shares, 200))

    for count in range(1, 201):
        given = Counter(names[:count])
        assert all(abs(given[name] - share * count) <= 1 for name, share in shares.items()), count
