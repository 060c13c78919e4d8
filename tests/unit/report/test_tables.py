"""Tables: what stands in a cell, and that columns line up."""

from __future__ import annotations

import dataclasses

import pytest

from star_edge.contracts import Accuracy, GateResult, Latency, Rate, TokenDifference
from star_edge.report.rows import Difference, ParityRow, Row, StageTime
from star_edge.report.tables import (
    accuracy_table,
    comparison_table,
    difference_table,
    gate_table,
    latency_table,
    markdown_table,
    parity_table,
    stage_table,
    terminal,
)

RATE = Rate(0.475, 40, 0.33, 0.625)
NONE = Rate(0.0, 0, 0.0, 1.0)
ACCURACY = Accuracy(RATE, RATE, Rate(0.61, 91, 0.5, 0.7), Rate(0.1, 20, 0.02, 0.3), RATE, Rate(0.0, 60, 0.0, 0.06))
LATENCY = Latency("llama.cpp", "cpu", 1, 59, 120, 700, 650.4, 800, 300, 250, 50.04, 40, 180, 138.1, "cpu")


def test_shared_counts_stand_in_the_head_and_others_in_the_cell() -> None:
    other = dataclasses.replace(ACCURACY, argument=Rate(0.5, 80, 0.4, 0.6))
    head, first, second = accuracy_table([Row("base", ACCURACY), Row("CKD", other)])
    assert head[:4] == ["model", "exact call, n=40", "name, n=40", "argument"]
    assert first == ["base", "47.5 (33.0–62.5)", "47.5 (33.0–62.5)", "61.0 (50.0–70.0), n=91", "10.0 (2.0–30.0)",
                     "47.5 (33.0–62.5)", "0.0 (0.0–6.0)"]  # fmt: skip
    assert second[3] == "50.0 (40.0–60.0), n=80"


def test_rate_over_no_case_is_a_dash_and_not_zero() -> None:
    table = accuracy_table([Row("base", dataclasses.replace(ACCURACY, false_call=NONE)), Row("unscored")])
    assert table[1][4] == "–"
    assert table[2] == ["unscored", *["–"] * 6]


def test_latency_lists_measured_files_only() -> None:
    table = latency_table([Row("base", ACCURACY), Row("gguf Q8_0", ACCURACY, LATENCY)])
    assert table[1:] == [["gguf Q8_0", "138.1", "120", "700", "650 / 800", "300 / 250", "50.0 / 40.0", "180"]]


def test_gates_and_stages() -> None:
    gates = [GateResult("size", "f", 140.04, 139.5, False), GateResult("size", "g", 1.0, 139.5, True)]
    assert gate_table(gates)[1:] == [["size", "f", "140.0", "139.5", "FAIL"], ["size", "g", "1.0", "139.5", "pass"]]
    assert stage_table([StageTime("ckd", 3.25), StageTime("export", 1.5)])[-1] == ["all", "4.8"]


def test_small_limits_show_what_was_measured_against_them() -> None:
    assert gate_table([GateResult("margin", "f", 0.0434, 0.2, True)])[1][2:4] == ["0.043", "0.2"]


def test_differences_carry_their_sign_and_interval() -> None:
    table = comparison_table([Difference("gguf Q8_0", "CKD", 40, -2.5, -7.5, 0.0)])
    assert table[1] == ["gguf Q8_0", "CKD", "40", "-2.5 (-7.5 to +0.0)"]


def test_answer_without_room_is_no_token() -> None:
    (_, line) = difference_table([TokenDifference("a", 3, 5, -1, 0.0, False, "x", "")])
    assert line[3] == "nothing (no room)"


def test_parity_shows_the_largest_margin_and_each_difference() -> None:
    differences = (
        TokenDifference("a", 3, 5, 6, 0.0213, True, " yes", '"\n'),
        TokenDifference("b", 0, 7, 8, 0.4, False, "`", ""),
    )
    (_, line) = parity_table([ParityRow("gguf Q8_0", 60, 0.9667, 1.0, 0.991, differences)])
    assert line == ["gguf Q8_0", "60", "96.7", "100.0", "99.1", "0.400"]
    assert parity_table([ParityRow("f", 60, 1.0, 1.0)])[1][4:] == ["–", "–"]
    _, first, second = difference_table(differences)
    assert first == ["a", "3", '`" yes"`', '`"\\"\\n"`', "0.0213", "yes"]
    assert second == ["b", "0", '`` "`" ``', "#8", "0.4000", "no"]


def test_markdown_keeps_pipes_and_line_ends_inside_their_cell() -> None:
    assert markdown_table([["a", "b"], ["x|y", "1\n2"]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 2 |"


@pytest.mark.parametrize("measured", [True, False])
def test_terminal_table_lines_up(measured: bool) -> None:
    rows = [Row("base", ACCURACY), Row("a longer name", ACCURACY, LATENCY if measured else None), Row("unscored")]
    lines = terminal(rows).splitlines()
    assert len(lines) == 5
    assert len({len(line) for line in lines}) == 1
    assert ("RSS MiB" in lines[0]) is measured
    assert lines[3].split()[:4] == ["a", "longer", "name", "47.5"]
    assert max(map(len, lines)) <= 130
