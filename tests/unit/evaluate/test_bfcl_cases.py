"""Cases read from a wheel: an invented one, and the published one where it can be had."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from star_edge.calls.template import HERMES, render
from star_edge.errors import EvaluationError
from star_edge.evaluate.bfcl.cases import CATEGORIES, BfclCase, load

FUNCTION = {
    "name": "lamp.set",
    "description": "Sets a lamp.",
    "parameters": {
        "type": "dict",
        "properties": {"level": {"type": "float", "description": "Brightness."}},
        "required": ["level"],
    },
}
TURNS = [
    {"role": "system", "content": "You run a house."},
    {"role": "user", "content": "Good evening.\u2028It is dark."},
    {"role": "assistant", "content": "Good evening."},
    {"role": "user", "content": "Half light, please."},
]


def row(identity: str, *, functions: list[Any] | None = None) -> dict[str, Any]:
    return {"id": identity, "question": [TURNS], "function": [FUNCTION] if functions is None else functions}


@pytest.fixture
def invented_wheel(tmp_path: Path) -> Path:
    path = tmp_path / "invented.whl"
    answer = {"ground_truth": [{"lamp.set": {"level": [0.5, ""]}}]}
    members = {
        "BFCL_v4_multiple.json": [row("multiple_1"), row("multiple_0")],
        "possible_answer/BFCL_v4_multiple.json": [{"id": "multiple_0", **answer}, {"id": "multiple_1", **answer}],
        "BFCL_v4_simple_java.json": [row("simple_java_0")],
        "possible_answer/BFCL_v4_simple_java.json": [{"id": "simple_java_0", **answer}],
        "BFCL_v4_live_irrelevance.json": [row("live_irrelevance_0", functions=[])],
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, rows in members.items():
            lines = "\n".join(json.dumps(value, ensure_ascii=False) for value in rows)
            archive.writestr(f"bfcl_eval/data/{name}", lines + "\n")
    return path


def test_cases_come_in_the_order_of_categories_and_files(invented_wheel: Path) -> None:
    cases = load(("live_irrelevance", "multiple"), wheel=invented_wheel)
    assert [case.id for case in cases] == ["live_irrelevance_0", "multiple_1", "multiple_0"]
    assert [case.category for case in cases] == ["live_irrelevance", "multiple", "multiple"]


def test_answers_belong_to_their_case_and_irrelevance_has_none(invented_wheel: Path) -> None:
    multiple, irrelevance = load(("multiple", "live_irrelevance"), wheel=invented_wheel)[1:]
    assert multiple.answers == ({"lamp.set": {"level": [0.5, ""]}},)
    assert multiple.functions == (FUNCTION,)
    assert (irrelevance.answers, irrelevance.expects_call) == ((), False)


def test_the_example_keeps_the_conversation_and_ends_in_an_empty_answer(invented_wheel: Path) -> None:
    case, _ = load(("multiple",), wheel=invented_wheel)
    assert list(case.example.prompt) == TURNS
    assert case.example.target == {"role": "assistant", "content": ""}
    assert case.example.tools[0]["name"] == "lamp.set"
    assert case.example.tools[0]["parameters"]["properties"]["level"]["type"] == "number"


@pytest.mark.parametrize(("category", "language"), [("simple_java", "java"), ("multiple", "python")])
def test_the_category_tells_the_language(category: str, language: str, invented_wheel: Path) -> None:
    assert load((category,), wheel=invented_wheel)[0].language == language


def test_a_case_may_offer_no_function(invented_wheel: Path) -> None:
    (case,) = load(("live_irrelevance",), wheel=invented_wheel)
    assert case.example.tools == ()
    assert "Half light" in render(HERMES, case.example.prompt, (), add_generation_prompt=True)


def test_an_unknown_category_is_refused_with_the_known_ones(invented_wheel: Path) -> None:
    with pytest.raises(EvaluationError, match=r"'multi_turn'.*live_relevance"):
        load(("multi_turn",), wheel=invented_wheel)


def test_a_wheel_without_the_files_is_refused(invented_wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="not the bfcl-eval"):
        load(("parallel",), wheel=invented_wheel)
    (tmp_path / "text.whl").write_text("no zip")
    with pytest.raises(EvaluationError, match="not the bfcl-eval"):
        load(("parallel",), wheel=tmp_path / "text.whl")
    with pytest.raises(EvaluationError, match="not the bfcl-eval"):
        load(("parallel",), wheel=tmp_path / "missing.whl")


def test_the_published_wheel_holds_3641_cases(bfcl_cases: tuple[BfclCase, ...]) -> None:
    counts = Counter(case.category for case in bfcl_cases)
    assert tuple(counts) == CATEGORIES
    assert list(counts.values()) == [400, 100, 50, 200, 200, 200, 240, 258, 1053, 16, 24, 884, 16]
    assert len({case.id for case in bfcl_cases}) == len(bfcl_cases) == 3641
    assert all(bool(case.answers) != case.category.endswith("relevance") for case in bfcl_cases)
    assert len([case for case in bfcl_cases if not case.functions]) == 4


def test_every_published_case_renders_with_its_tools_and_requests(bfcl_cases: tuple[BfclCase, ...]) -> None:
    for case in bfcl_cases:
        example = case.example
        prompt = render(HERMES, example.prompt, example.tools, add_generation_prompt=True)
        assert all(json.dumps(document["name"]) in prompt for document in case.functions), case.id
        assert all(message["content"].strip() in prompt for message in case.messages), case.id
