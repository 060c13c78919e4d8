from __future__ import annotations

from collections import Counter

import pytest

from star_edge.contracts import ToolCall
from star_edge.evaluate.bfcl.cases import BfclCase
from star_edge.evaluate.bfcl.checker import check
from star_edge.evaluate.perturb import CANONICAL, PerturbedAnswer, canonical, perturbed

LIGHT = {
    "name": "light.set",
    "parameters": {
        "type": "dict",
        "properties": {
            "room": {"type": "string"},
            "level": {"type": "integer"},
            "mode": {"type": "string", "enum": ["Warm", "Cold"]},
            "days": {"type": "array", "items": {"type": "string"}},
            "until": {"type": "string"},
            "fade": {"type": "boolean"},
        },
        "required": ["room", "level"],
    },
}
LOCK = {
    "name": "lock",
    "parameters": {"type": "dict", "properties": {"door": {"type": "string"}}, "required": ["door"]},
}
LIGHT_ANSWER = {
    "room": ["Big Room", "Hall"],
    "level": [5],
    "mode": ["Warm"],
    "days": [["Mon", "Tue"]],
    "until": ["9 pm", ""],
}
PARALLEL = BfclCase(
    "parallel_0", "parallel_multiple", (), (LIGHT, LOCK), ({"light.set": LIGHT_ANSWER}, {"lock": {"door": ["front"]}})
)
IRRELEVANT = BfclCase("irrelevance_0", "irrelevance", (), (LIGHT, LOCK), ())
RIGHT = {
    CANONICAL,
    "call order",
    "key order",
    "same spelling",
    "listed value's spelling",
    "accepted value",
    "optional left out",
}


def many(case: BfclCase) -> list[PerturbedAnswer]:
    return [answer for seed in range(20) for answer in perturbed(case, seed=seed, count=25)]


def test_the_canonical_answer_comes_first_and_no_answer_twice():
    answers = perturbed(PARALLEL, seed=3, count=30)
    assert len(answers) == 30
    assert answers[0] == PerturbedAnswer(CANONICAL, canonical(PARALLEL))
    assert max(Counter(repr(answer.calls) for answer in answers).values()) == 1


def test_the_seed_decides():
    assert perturbed(PARALLEL, seed=3, count=30) == perturbed(PARALLEL, seed=3, count=30)
    assert perturbed(PARALLEL, seed=3, count=30) != perturbed(PARALLEL, seed=4, count=30)
    assert perturbed(PARALLEL, seed=3, count=30)[:10] == perturbed(PARALLEL, seed=3, count=10)


def test_every_kind_is_drawn_and_the_checker_tells_right_kinds_from_wrong_ones():
    verdicts: dict[str, set[bool]] = {}
    for answer in many(PARALLEL):
        verdicts.setdefault(answer.kind, set()).add(check(PARALLEL, answer.calls) is None)
    assert {kind for kind, found in verdicts.items() if found == {True}} == RIGHT
    # A letter more or less is another word, but a point or a blank less may be the same one.
    assert all(found == {False} for kind, found in verdicts.items() if kind not in {*RIGHT, "other spelling"})
    assert set(verdicts) - RIGHT == {
        "wrong type", "float for integer", "swapped values", "missing required", "missing optional",
        "extra parameter", "hallucinated parameter", "other spelling", "changed number", "other value",
        "changed inside", "other function", "unknown function", "duplicated call", "dropped call", "no call",
    }  # fmt: skip


def test_one_thing_is_changed():
    light, lock = canonical(PARALLEL)
    by_kind = {answer.kind: answer.calls for answer in many(PARALLEL)}
    assert by_kind["dropped call"] in ((light,), (lock,))
    assert by_kind["no call"] == ()
    assert by_kind["duplicated call"][:2] == (light, lock)
    assert by_kind["optional left out"][0].arguments.keys() == light.arguments.keys() - {"until"}
    assert by_kind["missing optional"][0].arguments.keys() in (
        light.arguments.keys() - {"mode"},
        light.arguments.keys() - {"days"},
    )
    assert by_kind["extra parameter"][0].arguments.keys() == light.arguments.keys() | {"fade"}
    assert by_kind["accepted value"][0] == ToolCall(light.name, {**light.arguments, "room": "Hall"})
    assert by_kind["other function"] in (
        (ToolCall("lock", light.arguments), lock),
        (light, ToolCall(light.name, lock.arguments)),
    )


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_few_answers_are_right_and_wrong(count):
    verdicts = {check(PARALLEL, answer.calls) is None for answer in perturbed(PARALLEL, seed=0, count=count)}
    assert verdicts == ({True} if count == 1 else {True, False})


def test_a_case_with_little_to_change_yields_fewer():
    nothing = {"name": "ping", "parameters": {"type": "dict", "properties": {}, "required": []}}
    bare = BfclCase("simple_0", "simple_python", (), (nothing,), ({"ping": {}},))
    kinds = {answer.kind for answer in perturbed(bare, seed=0, count=100)}
    assert kinds == {CANONICAL, "hallucinated parameter", "unknown function", "duplicated call", "no call"}


def test_without_answers_there_are_words_and_calls():
    answers = perturbed(IRRELEVANT, seed=0, count=10)
    assert [answer.kind for answer in answers] == ["no call", "call", "call", "call"]
    assert [check(IRRELEVANT, answer.calls) is None for answer in answers] == [True, False, False, False]
    assert {call.name for call in answers[-1].calls} == {"light.set", "lock"}


def test_published_cases_yield_right_and_wrong_answers(bfcl_cases):
    for case in bfcl_cases[::40]:
        answers = perturbed(case, seed=0, count=10)
        assert {check(case, answer.calls) is None for answer in answers} == {True, False}, case.id
