"""The summary as lines: every count is where a reader looks for it."""

from __future__ import annotations

from typing import Any

import pytest

from star_edge.data.summary import spread
from star_edge.data.table import table


def side(rows: int, **kinds: int) -> dict[str, Any]:
    lengths = {"mean": 12.3, "p50": 11, "p95": 1234, "max": 2000}
    return {
        "rows": rows, "kinds": kinds, "sources": {"own": rows}, "tools_offered": 7, "tools_called": 5,
        "tools_per_row": lengths, "rows_with_one_tool": 3, "prompt_tokens": lengths, "completion_tokens": lengths,
    }  # fmt: skip


TALLY = {
    "source": "own.jsonl", "side": "train", "read": 2000, "kept": 1500, "derived": 42, "twice": 30, "bad": 0,
    "refused": 0, "too_long": 17, "exact": 2, "ngram": 0, "unsaid": 0, "both_sides": 3, "over_cap": 0,
    "not_drawn": 478,
}  # fmt: skip
MIX = {
    "wanted_rows": 1800, "wanted_near_miss": 35,
    "quotas": {"ask_missing": {"wanted": 90, "given": 4}, "parallel": {"wanted": 9, "given": 9}},
    "derived_near_miss": 30, "derived_unrelated": 12, "distractors": 4000, "rows_with_distractors": 1200,
    "rows_too_long_for_distractors": 8, "masked_rows": 150, "stringified_rows": 60, "formatted_rows": 70,
    "formatted_heldout_rows": 6, "heldout_near_misses": 9, "unlabelled_confusable": 1100, "unlabelled_unrelated": 7,
    "unlabelled_distractors": 20, "unlabelled_with_distractors": 8,
}  # fmt: skip
SUMMARY = {
    "train": side(1500, multiple=1200, parallel=300),
    "heldout": side(10, multiple=10),
    "unlabelled": side(5),
    "split": {"by": "called tool", "heldout_tools": ["sing"], "mixed_rows_dropped": 3},
    "sources": [TALLY],
    "mix": MIX,
    "overlap": {"exact": 1, "ngram": 2},
    "overlap_with": {"bfcl": {"evaluation_rows": 3641, "exact": 0, "ngram": 0}},
}


@pytest.mark.parametrize(
    "line",
    [
        "rows 1,500 10 5",
        "multiple 1,200 80.0 % 10 100.0 %",
        "parallel 300 20.0 % 0 0.0 %",
        "tools offered 7 7 7",
        "rows with one tool 3 3 3",
        "training: prompt tokens 12.3 11 1,234 2,000",
        "held-out: completion tokens 12.3 11 1,234 2,000",
        "own 1,500 100.0 %",
        "file side read kept derived twice too long exact both sides not drawn",
        "own.jsonl training 2,000 1,500 42 30 17 2 3 478",
        "rows that call held-out tools and others, dropped by the split: 3",
        "the sources hold fewer rows than the 1,800 wanted",
        "ask_missing: 4 of the 90 rows wanted; sources and tool pool give no more, and kinds without a share fill in",
        "near misses: 30 of the 35 rows wanted",
        "derived irrelevance rows: 30 near misses, 12 with unrelated tools; 9 near misses held out",
        "distractors: 4,000 tools in 1,200 rows; 8 rows had no room for theirs",
        "rows under masked names: 150",
        "rows with strings for other values: 60",
        "rows whose descriptions ask for a form of their values: 70 of training, 6 held-out",
        "unlabelled prompts: 1,100 got a confusable tool for theirs, 7 an unrelated one; 20 distractors in 8 prompts",
        "overlap of training with held-out rows: 1 exact, 2 13-word",
        "overlap with bfcl (3,641 cases): 0 exact, 0 13-word",
    ],
)
def test_table_says(line: str) -> None:
    assert line in [" ".join(shown.split()) for shown in table(SUMMARY).splitlines()]


def test_unlabelled_prompts_have_no_kind_and_no_completion() -> None:
    shown = table(SUMMARY)

    assert "unlabelled: prompt tokens" in shown
    assert "unlabelled: completion tokens" not in shown


def test_without_a_mix_its_lines_are_missing() -> None:
    tally = {**TALLY, "derived": 0, "twice": 0}
    shown = table({**SUMMARY, "sources": [tally], "mix": None, "overlap_with": {}, "split": {"by": "source"}})

    assert not any(word in shown for word in ("distractors", "masked", "derived", "bfcl", "split"))


def test_unlabelled_prompts_are_told_of_where_there_are_any() -> None:
    shown = table({name: value for name, value in SUMMARY.items() if name != "unlabelled"})
    assert "unlabelled" not in shown


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], {"mean": 0.0, "p50": 0, "p95": 0, "max": 0}),
        ([7], {"mean": 7.0, "p50": 7, "p95": 7, "max": 7}),
        (list(range(100, 0, -1)), {"mean": 50.5, "p50": 50, "p95": 95, "max": 100}),
        ([1, 2, 3, 4], {"mean": 2.5, "p50": 2, "p95": 4, "max": 4}),
    ],
)
def test_spread_is_of_the_values_in_order(values: list[int], shown: dict[str, float]) -> None:
    assert spread(values) == shown
