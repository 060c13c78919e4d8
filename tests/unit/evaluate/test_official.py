from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import tiny_bfcl
from hypothesis import given, settings
from hypothesis import strategies as st

from star_edge.calls.parse import parse_completion
from star_edge.errors import EvaluationError
from star_edge.evaluate.bfcl.cases import CATEGORIES, BfclCase, load
from star_edge.evaluate.bfcl.checker import CANNOT_JUDGE, check
from star_edge.evaluate.bfcl.official import DEFAULT_MODEL, export_official, official_result, readable_models

CASE = BfclCase("irrelevance_0", "irrelevance", (), (), ())
GOOD = '<tool_call>\n{"name": "a.b", "arguments": {"x": 1}}\n</tool_call>'


def official_calls(result: str) -> list[dict[str, dict[str, object]]]:
    """What bfcl-eval's Qwen handler makes of a result (its `decode_ast`): unreadable blocks are passed over."""
    calls = []
    for block in re.findall(r"<tool_call>\n(.*?)\n</tool_call>", result, re.DOTALL):
        try:
            call = json.loads(block)
        except ValueError:
            continue
        calls.append({call["name"]: dict(call["arguments"].items())})
    return calls


def our_calls(text: str) -> list[dict[str, dict[str, object]]]:
    return [{call.name: dict(call.arguments)} for call in parse_completion(text).calls]


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"Sure.\n{GOOD}\nand\n{GOOD}<|im_end|>",
        GOOD.replace("\n", ""),
        GOOD.removesuffix("\n</tool_call>"),
        GOOD.replace('{"x": 1}', r'"{\"x\": 1}"'),
        GOOD.replace("1", r'"\n</tool_call>\n<tool_call>\n☕"'),
        GOOD.replace('{"name"', '{\n"name"'),
    ],
)
def test_what_we_read_the_official_handler_reads(text: str) -> None:
    assert our_calls(text)
    assert official_calls(official_result(CASE, text)) == our_calls(text)


@pytest.mark.parametrize(
    "text",
    [
        f"{GOOD}\n<tool_call>\n{{broken\n</tool_call>",
        f"<tool_call>\n{GOOD}",
        f"{GOOD}\n<tool_call>\n[1]\n</tool_call>",
        GOOD.replace('"a.b"', "7"),
        "<tool_call>\n<tool_call>\n" + GOOD,
    ],
)
def test_in_a_malformed_completion_nothing_is_left_to_read(text: str) -> None:
    assert parse_completion(text).is_malformed
    assert official_calls(official_result(CASE, text)) == []


def test_words_stay_as_they_are() -> None:
    text = "Tools? I have\n```json\n{}\n```"
    assert official_result(CASE, text) == text


def test_nothing_is_left_to_read_where_the_official_checker_would_stop() -> None:
    document = {"name": "a.b", "parameters": {"properties": {"x": {"type": "no such type"}}, "required": ["x"]}}
    case = BfclCase("simple_java_0", "simple_java", (), (document,), ({"a.b": {"x": ["1"]}},))
    assert (check(case, parse_completion(GOOD).calls) or "").startswith(CANNOT_JUDGE)
    assert official_calls(official_result(case, GOOD)) == []


PIECES = (
    "<tool_call>",
    "</tool_call>",
    "\n",
    " ",
    GOOD,
    '{"name": "f", "arguments": {}}',
    "{",
    '"',
    "hello",
    "\\n",
    "é",
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_both_readings_agree_on_any_text(text: str) -> None:
    assert official_calls(official_result(CASE, text)) == our_calls(text)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return tiny_bfcl.write_wheel(tmp_path / "tiny_bfcl.whl")


def test_result_files_are_where_the_official_tool_looks(wheel: Path, tmp_path: Path) -> None:
    texts = tiny_bfcl.right_texts()
    folder = export_official(load(wheel=wheel), texts, tmp_path / "out", model_name=DEFAULT_MODEL, wheel=wheel)
    assert folder == tmp_path / "out" / "result" / "Qwen_Qwen3-0.6B-FC"
    groups = {category: "live" if category.startswith("live") else "non_live" for category in CATEGORIES}
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.json")} == {
        f"{group}/BFCL_v4_{category}_result.json" for category, group in groups.items()
    }
    rows = [json.loads(line) for path in folder.rglob("*.json") for line in path.read_text("ascii").splitlines()]
    assert {row["id"]: row["result"] for row in rows} == texts


def test_only_answered_cases_get_a_row(wheel: Path, tmp_path: Path) -> None:
    folder = export_official(
        load(wheel=wheel), {"multiple_1": GOOD}, tmp_path, model_name="Qwen/Qwen3-8B-FC", wheel=wheel
    )
    (path,) = folder.rglob("*.json")
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["multiple_1"]


def test_results_that_are_there_are_kept_unless_forced(wheel: Path, tmp_path: Path) -> None:
    cases, texts = load(wheel=wheel), tiny_bfcl.right_texts()
    folder = export_official(cases, texts, tmp_path, model_name=DEFAULT_MODEL, wheel=wheel)
    path = folder / "live" / "BFCL_v4_live_simple_result.json"
    before = path.read_text()
    with pytest.raises(EvaluationError, match="results are there already; choose another folder, or --force"):
        export_official(cases, dict.fromkeys(texts, ""), tmp_path, model_name=DEFAULT_MODEL, wheel=wheel)
    assert path.read_text() == before
    export_official(cases, dict.fromkeys(texts, ""), tmp_path, model_name=DEFAULT_MODEL, wheel=wheel, force=True)
    assert path.read_text() != before


def test_no_category_of_an_earlier_export_stays(wheel: Path, tmp_path: Path) -> None:
    cases, texts = load(wheel=wheel), tiny_bfcl.right_texts()
    folder = export_official(cases, texts, tmp_path, model_name=DEFAULT_MODEL, wheel=wheel)
    other = export_official(cases, texts, tmp_path, model_name="Qwen/Qwen3-8B-FC", wheel=wheel)
    part = load(("parallel",), wheel=wheel)
    (folder / "non_live" / "BFCL_v4_parallel_result.json").unlink()
    with pytest.raises(EvaluationError, match=r"simple_python_result\.json: results are there already"):
        export_official(part, texts, tmp_path, model_name=DEFAULT_MODEL, wheel=wheel)
    export_official(part, texts, tmp_path, model_name=DEFAULT_MODEL, wheel=wheel, force=True)
    assert [path.name for path in folder.rglob("*.json")] == ["BFCL_v4_parallel_result.json"]
    assert len(list(other.rglob("*.json"))) == len(CATEGORIES)


def test_only_models_that_are_read_in_the_hermes_form_are_taken(wheel: Path, tmp_path: Path) -> None:
    assert readable_models(wheel) == ("Qwen/Qwen3-0.6B-FC", "Qwen/Qwen3-8B-FC")
    with pytest.raises(EvaluationError, match=r"gpt-4o: bfcl-eval does not read .* one of Qwen/Qwen3-0.6B-FC, Qwen"):
        export_official(load(wheel=wheel), {}, tmp_path, model_name="gpt-4o", wheel=wheel)
