"""Rows by weight, quotas by share, and the kind of a row that states none."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mix_rows import device, row, single

from star_edge.contracts import Example, MixConfig
from star_edge.data.quota import Quotas, kind_of, share_out


@pytest.mark.parametrize(
    ("total", "weights", "available", "counts"),
    [
        (10, [1.0, 1.0], [100, 100], [5, 5]),
        (10, [3.0, 1.0], [100, 100], [8, 2]),
        (100, [3.0, 1.0], [10, 200], [10, 90]),  # the first runs out and gives all it has
        (100, [8.0, 1.0, 1.0], [10, 20, 500], [10, 20, 70]),  # and then the second, by its share of what is left
        (100, [1.0, 2.0], [10, 20], [10, 20]),
        (5, [1.0, 1.0, 1.0], [9, 0, 9], [3, 0, 2]),
        (0, [1.0], [5], [0]),
        (5, [], [], []),
    ],
)
def test_rows_are_shared_by_weight(total: int, weights: list[float], available: list[int], counts: list[int]) -> None:
    assert share_out(total, weights, available) == counts


SOURCES = st.lists(st.tuples(st.floats(0.01, 100.0), st.integers(0, 200)), min_size=1, max_size=8)


@given(st.integers(0, 1000), SOURCES)
def test_all_rows_are_shared_out_and_no_source_gives_more_than_it_has(
    total: int, sources: list[tuple[float, int]]
) -> None:
    weights, available = map(list, zip(*sources, strict=True))
    counts = share_out(total, weights, available)

    assert sum(counts) == min(total, sum(available))
    assert all(0 <= count <= rows for count, rows in zip(counts, available, strict=True))
    per_weight = [
        (count / weight, 1 / weight)
        for count, weight, rows in zip(counts, weights, available, strict=True)
        if count < rows
    ]
    for share, row_more in per_weight:
        assert all(share + row_more >= other - other_row for other, other_row in per_weight)


def test_quotas_are_shares_of_the_rows_and_an_unset_one_is_none() -> None:
    config = MixConfig(rows=1000, irrelevance_share=0.15, near_miss_share=0.4, ask_share=0.0)
    quotas = Quotas.of(config, ["single"] * 200)

    assert quotas == Quotas(200, {"irrelevance": 30, "ask_missing": 0}, 12)


@pytest.mark.parametrize(
    ("shares", "singles", "parallels", "rows", "parallel"),
    [
        ({}, 60, 60, 100, None),
        ({"parallel_share": 0.2}, 90, 60, 100, 20),
        ({"parallel_share": 0.2}, 60, 60, 75, 15),  # more would hold too many parallel calls
        ({"parallel_share": 0.2, "ask_share": 0.8}, 60, 60, 100, 20),
        ({"parallel_share": 0.7, "ask_share": 0.2, "irrelevance_share": 0.1}, 0, 200, 100, 70),
        ({"parallel_share": 0.9}, 0, 60, 0, 0),
    ],
)
def test_a_mix_shrinks_until_its_shares_hold(
    shares: dict[str, float], singles: int, parallels: int, rows: int, parallel: int | None
) -> None:
    quotas = Quotas.of(MixConfig(rows=100, **shares), ["single"] * singles + ["parallel"] * parallels)  # type: ignore[arg-type]

    assert (quotas.rows, quotas.kinds.get("parallel")) == (rows, parallel)


TOOLS = (device("light"), device("radio"))
AFTER_A_RESULT = dataclasses.replace(
    row("e", "hi", reply="It is on."),
    messages=(
        {"role": "user", "content": "is it on"},
        {"role": "assistant", "content": "", "tool_calls": [{"name": "switch_light", "arguments": {}}]},
        {"role": "tool", "content": "on"},
        {"role": "assistant", "content": "It is on."},
    ),
)


@pytest.mark.parametrize(
    ("example", "kind"),
    [
        (single("a"), "single"),
        (row("b", "on", "switch_light", tools=TOOLS), "multiple"),
        (row("c", "on", "switch_light", "switch_radio", tools=TOOLS), "parallel"),
        (row("d", "hi", reply="Hello."), "plain"),
        (AFTER_A_RESULT, "summarise"),
        (row("f", "hi", reply="No tool for that.", kind="irrelevance"), "irrelevance"),
        (row("g", "on", "switch_light", tools=TOOLS, kind="own kind"), "own kind"),
    ],
)
def test_a_kind_that_is_not_stated_is_told_from_the_row(example: Example, kind: str) -> None:
    assert kind_of(example if example.kind != "single" else dataclasses.replace(example, kind="")) == kind
