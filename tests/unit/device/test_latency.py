"""Percentiles worked out by hand."""

from __future__ import annotations

import pytest

from star_edge.contracts import Generation
from star_edge.errors import RuntimeFailure
from star_edge_device.latency import decode_steps, summarise
from star_edge_device.store import Measurement


def case(prefill_ms: float, decode_ms: float = 100.0, *, tokens: int = 4, cold: bool = False, rss: float = 50.0):
    generation = Generation("a", "", tuple(range(tokens)), 100, True, prefill_ms, decode_ms)
    return Measurement(generation, cold, 33.0, rss)


@pytest.mark.parametrize(
    ("tokens", "stopped", "steps"), [(4, True, 4), (4, False, 3), (0, True, 0), (1, False, 0), (0, False, 0)]
)
def test_decode_steps_count_the_end_token_but_not_a_cut_ones_last(tokens: int, stopped: bool, steps: int) -> None:
    assert decode_steps(Generation("a", "", tuple(range(tokens)), 1, stopped)) == steps


def test_cold_cases_are_apart_and_p95_is_the_slow_tail() -> None:
    warm = [case(float(ms), decode_ms=float(ms)) for ms in range(100, 201)]
    latency = summarise([case(900.0, cold=True, rss=70.0), *warm], runtime="r", threads=1, size_bytes=3 * 1024 * 1024)
    assert (latency.n, latency.load_ms, latency.ttft_cold_ms) == (101, 33.0, 900.0)
    assert latency.ttft_ms_p50 == 150.0
    assert latency.ttft_ms_p95 == pytest.approx(195.0)
    assert latency.prefill_tok_s_p50 == pytest.approx(100 / 0.150)
    assert latency.prefill_tok_s_p95 == pytest.approx(100 / 0.195, rel=1e-3)  # 95 % of the cases were faster
    assert latency.decode_tok_s_p50 == pytest.approx(4 / 0.150)
    assert latency.decode_tok_s_p95 == pytest.approx(4 / 0.195, rel=1e-3)
    assert (latency.peak_rss_mib, latency.size_mib, latency.clock) == (70.0, 3.0, "cpu")


def test_a_second_cold_start_after_a_resume_is_neither_cold_figure_nor_warm() -> None:
    latency = summarise(
        [case(900.0, cold=True), case(100.0), case(800.0, cold=True)], runtime="r", threads=2, size_bytes=1
    )
    assert (latency.n, latency.ttft_cold_ms, latency.ttft_ms_p95, latency.clock) == (1, 900.0, 100.0, "wall")


def test_cases_without_a_decode_step_do_not_count_as_slow() -> None:
    silent = case(100.0, decode_ms=0.0, tokens=0)
    latency = summarise([case(1.0, cold=True), silent, case(100.0)], runtime="r", threads=1, size_bytes=1)
    assert latency.decode_tok_s_p95 == pytest.approx(40.0)


def test_one_case_alone_is_cold_and_warm() -> None:
    latency = summarise([case(250.0, cold=True)], runtime="r", threads=1, size_bytes=1)
    assert (latency.n, latency.ttft_cold_ms, latency.ttft_ms_p50) == (1, 250.0, 250.0)


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(RuntimeFailure, match="no case"):
        summarise([], runtime="r", threads=1, size_bytes=1)
