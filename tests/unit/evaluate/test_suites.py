from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import tiny_bfcl
from tiny_bundles import requests

from star_edge.calls.parse import format_calls
from star_edge.contracts import Example
from star_edge.data.rows import write_examples
from star_edge.errors import DataError, EvaluationError
from star_edge.evaluate.bfcl import wheel
from star_edge.evaluate.bfcl.cases import CATEGORIES
from star_edge.evaluate.bfcl.suite import BfclSuite
from star_edge.evaluate.bfcl.summary import aggregate_weights
from star_edge.evaluate.intervals import wilson
from star_edge.evaluate.suites import compare, open_suite

SIZES = tiny_bfcl.sizes()


@pytest.fixture
def bfcl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny_bfcl.install(monkeypatch, tmp_path)


def plain_row(number: int) -> Example:
    """A request that is to be answered in words."""
    asked = {"role": "user", "content": f"Paint the hall {number}."}
    return Example(f"plain-{number}", "test", (asked, {"role": "assistant", "content": "No."}), requests(1)[0].tools)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    write_examples(path, [*requests(6), plain_row(0), plain_row(1)])
    return path


# ----------------------------------------------------------------------------------------------------------- BFCL


def test_weights_are_the_published_ones() -> None:
    published = dict(zip(CATEGORIES, (400, 100, 50, 200, 200, 200, 240, 258, 1053, 16, 24, 884, 16), strict=True))
    weights = aggregate_weights(published)
    assert weights["live"] == pytest.approx(
        {"live_simple": 258 / 1351, "live_multiple": 1053 / 1351, "live_parallel": 16 / 1351,
         "live_parallel_multiple": 24 / 1351}
    )  # fmt: skip
    third, quarter = 1 / 3, 1 / 4
    simple = {"simple_python": third, "simple_java": third, "simple_javascript": third}
    assert weights["simple"] == pytest.approx(simple)
    others = {"multiple": quarter, "parallel": quarter, "parallel_multiple": quarter}
    assert weights["non_live"] == pytest.approx({**dict.fromkeys(simple, third / 4), **others})


@pytest.mark.usefixtures("bfcl")
def test_a_suite_is_every_case_with_its_prompt() -> None:
    suite = open_suite("bfcl")
    assert list(suite.ids) == list(tiny_bfcl.right_texts())
    assert [example.id for example in suite.examples] == list(suite.ids)
    assert suite.examples[0].prompt == ({"role": "user", "content": "Light the kitchen."},)


@pytest.mark.usefixtures("bfcl")
def test_right_answers_score_one_in_every_category_and_aggregate() -> None:
    scores = open_suite("bfcl").judge(tiny_bfcl.right_texts())
    assert [score.label for score in scores.scores] == [*CATEGORIES, "simple", "non_live", "live"]
    assert {score.label: score.n for score in scores.scores} == {
        **SIZES,
        "simple": sum(SIZES[c] for c in CATEGORIES[:3]),
        "non_live": sum(SIZES[c] for c in CATEGORIES[:6]),
        "live": sum(SIZES[c] for c in CATEGORIES[7:11]),
    }
    assert [score.value for score in scores.scores] == [pytest.approx(1.0)] * 16
    assert [score.is_aggregate for score in scores.scores] == [False] * 13 + [True] * 3


@pytest.mark.usefixtures("bfcl")
def test_aggregates_weigh_categories_as_published() -> None:
    texts = tiny_bfcl.right_texts()
    silent = {id: "No." if id.startswith(("simple_java_", "live_simple_")) else text for id, text in texts.items()}
    found = {score.label: score for score in open_suite("bfcl").judge(silent).scores}
    live = sum(SIZES[c] for c in CATEGORIES[7:11])
    assert found["simple"].value == pytest.approx(2 / 3)
    assert found["non_live"].value == pytest.approx(1 - 1 / 12)
    assert found["live"].value == pytest.approx(1 - SIZES["live_simple"] / live)


@pytest.mark.usefixtures("bfcl")
def test_wrong_cases_have_a_reason_and_malformed_ones_make_no_call() -> None:
    texts = tiny_bfcl.right_texts()
    texts["multiple_0"] += "\n<tool_call>\n{broken\n</tool_call>"
    texts["irrelevance_0"] = "<tool_call>\n{broken\n</tool_call>"
    scores = open_suite("bfcl").judge(texts)
    assert [id for id, ok in scores.verdicts.items() if not ok] == ["multiple_0"]
    assert "malformed" in scores.reasons["multiple_0"]


@pytest.mark.usefixtures("bfcl")
def test_a_limit_takes_an_even_slice_of_each_category() -> None:
    suite = open_suite("bfcl", categories=["live_multiple", "simple_python"], limit=4)
    assert list(suite.ids) == [f"live_multiple_{n}" for n in (0, 3, 6, 9)] + [f"simple_python_{n}" for n in range(4)]
    assert list(open_suite("bfcl", limit=1).ids) == [f"{category}_0" for category in CATEGORIES]


@pytest.mark.usefixtures("bfcl")
def test_a_part_of_the_suite_keeps_the_weights_of_the_whole() -> None:
    texts = {id: "No." if id.startswith("live_simple_") else text for id, text in tiny_bfcl.right_texts().items()}
    whole = {score.label: score.value for score in open_suite("bfcl").judge(texts).scores}
    part = {score.label: score.value for score in open_suite("bfcl", limit=2).judge(texts).scores}
    assert part == pytest.approx(whole)


@pytest.mark.usefixtures("bfcl")
def test_aggregates_of_categories_left_out_are_left_out() -> None:
    suite = open_suite("bfcl", categories=["simple_java", "simple_python", "simple_javascript", "multiple"])
    assert [score.label for score in suite.judge(tiny_bfcl.right_texts()).scores][-2:] == ["multiple", "simple"]


@pytest.mark.usefixtures("bfcl")
def test_a_missing_output_is_an_error_unless_it_counts_as_wrong_or_not_at_all() -> None:
    suite, texts = open_suite("bfcl"), tiny_bfcl.right_texts()
    del texts["irrelevance_2"], texts["live_relevance_0"]
    with pytest.raises(EvaluationError, match=r"2 of 130 cases have no output, first 'irrelevance_2'"):
        suite.judge(texts)
    wrong = suite.judge(texts, missing="wrong")
    assert [id for id, ok in wrong.verdicts.items() if not ok] == ["irrelevance_2", "live_relevance_0"]
    skipped = suite.judge(texts, missing="skip")
    assert len(skipped.verdicts) == 128
    assert all(skipped.verdicts.values())


@pytest.mark.usefixtures("bfcl")
def test_a_prompt_without_room_is_wrong_also_where_no_call_is_due() -> None:
    texts: dict[str, str | None] = {**tiny_bfcl.right_texts(), "irrelevance_1": None}
    scores = open_suite("bfcl").judge(texts)
    assert scores.reasons == {"irrelevance_1": "its prompt has no room in the context"}
    assert scores.without_room == scores.numbers()["without_room"] == 1


def test_a_row_without_room_is_the_worst_there_is(rows: Path) -> None:
    scores = open_suite(str(rows)).judge({**right(rows), "plain-0": None, "request-0": None})
    assert set(scores.reasons) == {"plain-0", "request-0"}
    assert scores.without_room == 2
    assert {score.label: round(score.value * score.n) for score in scores.scores if score.label.endswith("_call")} == {
        "exact_call": 5, "false_call": 1, "missed_call": 1,
    }  # fmt: skip


def test_the_wheel_is_read_once(monkeypatch: pytest.MonkeyPatch, bfcl: None) -> None:
    fetch, fetched = wheel.fetch, []

    def counted() -> Path:
        fetched.append(1)
        return fetch()

    monkeypatch.setattr(wheel, "fetch", counted)
    assert len(open_suite("bfcl", categories=["parallel", "multiple"]).ids) == SIZES["parallel"] + SIZES["multiple"]
    assert fetched == [1]


@pytest.mark.usefixtures("bfcl")
def test_an_unknown_id_is_an_error_even_in_a_narrowed_suite() -> None:
    texts = {**tiny_bfcl.right_texts(), "row-1": "x", "row-2": "y"}
    with pytest.raises(EvaluationError, match=r"2 of 132 outputs are for no case of this suite, first 'row-1'"):
        open_suite("bfcl", limit=1).judge(texts)


@pytest.mark.usefixtures("bfcl")
def test_outputs_of_the_whole_suite_score_a_part_of_it() -> None:
    assert len(open_suite("bfcl", categories=["parallel"]).judge(tiny_bfcl.right_texts()).verdicts) == SIZES["parallel"]


@pytest.mark.usefixtures("bfcl")
def test_a_narrow_run_is_compared_with_a_whole_one_over_common_cases() -> None:
    narrow, whole = open_suite("bfcl", limit=2), open_suite("bfcl")
    texts = tiny_bfcl.right_texts()
    silent = dict.fromkeys(texts, "No.")
    found = {d.label: d for d in compare(narrow.judge(texts), whole.judge(silent))}
    assert found["multiple"].n == 2
    assert found["non_live"].difference == pytest.approx(1.0)
    assert found["irrelevance"].difference == 0.0


def test_the_version_names_wheel_and_hash() -> None:
    assert BfclSuite.version == "bfcl-eval 2026.3.23 sha256:" + BfclSuite.version.rpartition(":")[2]
    assert len(BfclSuite.version.rpartition(":")[2]) == 64


@pytest.mark.usefixtures("bfcl")
@pytest.mark.parametrize(
    ("name", "categories", "error", "message"),
    [
        ("bfcl", ["simple"], EvaluationError, "no BFCL category 'simple'; choose from simple_python"),
        ("bfcll", [], EvaluationError, "bfcll: no such suite or file; give bfcl, or a JSONL file"),
        ("{rows}", ["live"], EvaluationError, "rows have no categories; leave --category live out"),
        ("{empty}", [], EvaluationError, "no rows to evaluate on"),
        ("{broken}", [], DataError, "1 of 1 rows of .* are bad"),
    ],
)
def test_a_suite_that_cannot_be_opened_is_one_line(
    name: str, categories: list[str], error: type[Exception], message: str, rows: Path
) -> None:
    places = {"rows": rows, "empty": rows.with_name("empty.jsonl"), "broken": rows.with_name("broken.jsonl")}
    places["empty"].write_text("")
    places["broken"].write_text("{\n")
    with pytest.raises(error, match=message) as caught:
        open_suite(name.format(**places), categories=categories)
    assert "\n" not in str(caught.value)


# ----------------------------------------------------------------------------------------------------------- rows


def right(path: Path) -> dict[str, str]:
    suite = open_suite(str(path))
    return {example.id: format_calls(example.target_calls) or "No." for example in suite.examples}


def test_rows_score_the_shares_of_function_calling(rows: Path) -> None:
    texts = right(rows)
    texts["request-0"] = "I will."
    texts["request-1"] = texts["request-2"]
    texts["request-3"] = "<tool_call>\n{broken"
    texts["plain-0"] = texts["request-2"]
    scores = open_suite(str(rows)).judge(texts)
    found = {score.label: (round(score.value * score.n), score.n) for score in scores.scores}
    assert found == {
        "exact_call": (3, 6),
        "name": (4, 6),
        "argument": (7, 12),
        "false_call": (1, 2),
        "missed_call": (2, 6),
        "malformed": (1, 8),
    }
    assert scores.reasons == {
        "request-0": "no call where one is due",
        "request-1": "other arguments than are due",
        "request-3": "a call that cannot be read",
        "plain-0": "calls where no call is due",
    }
    assert [id for id, ok in scores.verdicts.items() if not ok] == list(scores.reasons)


def test_the_interval_of_arguments_is_over_cases(rows: Path) -> None:
    texts = right(rows)
    texts["request-0"] = texts["request-1"] = "No."
    (argument,) = [score for score in open_suite(str(rows)).judge(texts).scores if score.label == "argument"]
    over_pairs = wilson(round(argument.value * argument.n), argument.n)
    assert argument.low < over_pairs[0] < over_pairs[1] < argument.high


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "an empty answer, where a reply is due"),
        (" \n<|im_end|>", "an empty answer, where a reply is due"),
        ("<tool_call>\n{broken", "a call that cannot be read, where a reply is due"),
        ("No.<|im_end|>", None),
    ],
)
def test_a_reply_is_due_and_has_words(text: str, reason: str | None, rows: Path) -> None:
    scores = open_suite(str(rows)).judge({**right(rows), "plain-0": text})
    assert scores.reasons == ({} if reason is None else {"plain-0": reason})
    (false_call,) = [score for score in scores.scores if score.label == "false_call"]
    assert false_call.value == 0


def test_rows_without_replies_have_no_false_calls_to_speak_of(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    write_examples(path, requests(3))
    scores = open_suite(str(path)).judge(right(path))
    assert "false_call" not in {score.label for score in scores.scores}
    assert "false_call" not in {difference.label for difference in compare(scores, scores)}


def test_argument_differences_count_parameters(rows: Path) -> None:
    texts = right(rows)
    worse = {**texts, "request-1": texts["request-2"], "request-0": "No."}
    suite = open_suite(str(rows))
    found = {d.label: d for d in compare(suite.judge(worse), suite.judge(texts))}
    assert found["argument"].n == 12
    assert found["argument"].difference == pytest.approx(-3 / 12)
    assert found["argument"].low < found["argument"].difference < found["argument"].high <= 0


def test_rows_without_an_output_are_the_worst_when_they_count_as_wrong(rows: Path) -> None:
    scores = open_suite(str(rows)).judge({}, missing="wrong")
    assert {score.label: score.value for score in scores.scores} == {
        "exact_call": 0.0, "name": 0.0, "argument": 0.0, "false_call": 1.0, "missed_call": 1.0, "malformed": 1.0,
    }  # fmt: skip
    assert not any(scores.verdicts.values())


def test_rows_are_named_by_their_bytes_and_limited_evenly(rows: Path) -> None:
    suite = open_suite(str(rows), limit=4)
    assert suite.version == "sha256:" + hashlib.sha256(rows.read_bytes()).hexdigest()
    assert list(suite.ids) == ["request-0", "request-2", "request-4", "plain-0"]


def test_rows_in_another_format_are_read_as_data_check_reads_them(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "set_light", "arguments": json.dumps({"room": "hall"})}}
    asked = {"role": "user", "content": "hall"}
    row = {"messages": [asked, {"role": "assistant", "content": None, "tool_calls": [call]}]}
    path = tmp_path / "raw.jsonl"
    path.write_text(json.dumps({**row, "tools": list(requests(1)[0].tools)}) + "\n")
    suite = open_suite(str(path))
    text = '<tool_call>{"name": "set_light", "arguments": {"room": "hall"}}</tool_call>'
    assert suite.judge({suite.ids[0]: text}).scores[0].value == 1.0
