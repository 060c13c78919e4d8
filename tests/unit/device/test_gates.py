"""Every limit of a recipe, on both sides."""

from __future__ import annotations

import dataclasses

import pytest

from star_edge.contracts import Accuracy, GateConfig, Latency, Rate
from star_edge_device.gates import (
    DECODE,
    EXACT_CALL_DROP,
    EXACT_CALL_GAIN,
    MARGIN,
    SIZE,
    STUDENT,
    TTFT,
    check,
    check_margins,
)

OFF = GateConfig(**{field.name: None for field in dataclasses.fields(GateConfig)})


def accuracy(exact: float, n: int = 100) -> Accuracy:
    rest = Rate(0.5, n, 0.4, 0.6)
    return Accuracy(Rate(exact, n, 0.0, 1.0), rest, rest, rest, rest, rest)


def latency(**changes: float) -> Latency:
    return dataclasses.replace(Latency("r", "d", 1, 9, 1, 1, 50, 100, 1, 1, 30, 20, 1, 140), **changes)


@pytest.mark.parametrize(
    ("config", "gate", "measured", "passed"),
    [
        (GateConfig(exact_call_drop=10.0, lossless_drop=None), EXACT_CALL_DROP, 10.0, True),
        (GateConfig(exact_call_drop=9.9, lossless_drop=None), EXACT_CALL_DROP, 10.0, False),
        (dataclasses.replace(OFF, exact_call_gain=50.0), EXACT_CALL_GAIN, 50.0, True),
        (dataclasses.replace(OFF, exact_call_gain=50.1), EXACT_CALL_GAIN, 50.0, False),
        (dataclasses.replace(OFF, size_mib=140.0), SIZE, 140.0, True),
        (dataclasses.replace(OFF, size_mib=139.0), SIZE, 140.0, False),
        (dataclasses.replace(OFF, ttft_ms=100.0), TTFT, 100.0, True),
        (dataclasses.replace(OFF, ttft_ms=99.0), TTFT, 100.0, False),
        (dataclasses.replace(OFF, decode_tok_s=30.0), DECODE, 30.0, True),
        (dataclasses.replace(OFF, decode_tok_s=30.1), DECODE, 30.0, False),
    ],
)
def test_each_gate_holds_up_to_its_limit(config: GateConfig, gate: str, measured: float, passed: bool) -> None:
    (result,) = check(
        {"gguf Q4_K_M": accuracy(0.6)},
        {"gguf Q4_K_M": latency()},
        config,
        reference=accuracy(0.7),
        base=accuracy(0.2),
    )
    assert (result.gate, result.passed) == (gate, passed)
    assert result.measured == pytest.approx(measured)
    assert result.subject == (STUDENT if gate == EXACT_CALL_GAIN else "gguf Q4_K_M")


def test_every_field_of_the_config_has_a_gate_and_null_has_none() -> None:
    numbers = GateConfig(**{field.name: 1.0 for field in dataclasses.fields(GateConfig)})
    files = ("gguf F16", "gguf Q4_K_M")
    measured = ({label: accuracy(0.7) for label in files}, {label: latency() for label in files})
    both = {"reference": accuracy(0.7), "base": accuracy(0.2)}
    results = check(*measured, numbers, **both, lossless={"gguf F16"})
    assert {result.gate for result in results} == {EXACT_CALL_DROP, EXACT_CALL_GAIN, SIZE, TTFT, DECODE}
    assert len(results) == 1 + 2 + 2 * 3
    assert check(*measured, OFF, **both) == []


def test_lossless_files_are_held_to_their_own_limit() -> None:
    config = dataclasses.replace(OFF, exact_call_drop=10.0, lossless_drop=2.0)
    files = {"gguf F16": accuracy(0.66), "gguf Q4_K_M": accuracy(0.66)}
    results = check(files, {}, config, reference=accuracy(0.7), lossless={"gguf F16"})
    assert [(result.limit, result.passed) for result in results] == [(2.0, False), (10.0, True)]
    without = dataclasses.replace(config, lossless_drop=None)
    results = check(files, {}, without, reference=accuracy(0.7), lossless={"gguf F16"})
    assert [result.subject for result in results] == ["gguf Q4_K_M"]


@pytest.mark.parametrize(
    ("quantization", "margin", "expected"),
    [("F16", 0.2, (0.2, True)), ("Q8_0", 2.1, (2.0, False)), ("fp32", 0.0, (0.02, True)), ("Q4_K_M", 9.0, None)],
)
def test_lossless_files_overturn_no_clear_decision(
    quantization: str, margin: float, expected: tuple[float, bool] | None
) -> None:
    results = check_margins({"f": margin}, {"f": quantization})
    assert [(result.limit, result.passed) for result in results] == ([expected] if expected else [])
    assert {(result.gate, result.subject) for result in results} <= {(MARGIN, "f")}


def test_an_accuracy_gate_over_no_case_does_not_pass() -> None:
    config = GateConfig(exact_call_gain=0.0)
    results = check({"f": accuracy(0.0, n=0)}, {}, config, reference=accuracy(0.0, n=0), base=accuracy(0.0))
    assert [result.passed for result in results] == [False, False]
