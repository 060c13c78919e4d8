"""The benchmark of the teacher cache runs, and its modes do what they are compared for."""

import json
import subprocess
import sys
from pathlib import Path

import fake_vllm
import pytest

from star_edge.teacher.engine_rollout import SPARE

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"

pytestmark = pytest.mark.slow  # the default run has two minutes for all


@pytest.fixture
def speed(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import teacher_cache_speed

    return teacher_cache_speed


def run(speed, mode, seconds="30"):
    return speed.child(speed.arguments(["--tiny", "--child", mode, "--seconds", seconds]))


def test_ours_computes_each_prompt_once_and_weighs_what_it_stores(speed):
    ours, padded = run(speed, "score"), run(speed, "padded")
    assert ours["prompts"] == padded["prompts"] == 12
    assert ours["row_tokens_per_s"] > 2 * ours["tokens_per_s"] > 0
    assert padded["row_tokens_per_s"] == padded["tokens_per_s"] > 0
    # Ten ids of 4 bytes and ten log-probabilities of 2; the rest is token ids, offsets and the header.
    assert 60 < ours["bytes_per_position"] < 160


def test_all_samplers_draw_all_completions(speed, monkeypatch):
    for mode in ("here", "generate"):
        numbers = run(speed, mode)
        assert numbers["completions"] == 48
        assert numbers["new_tokens_per_s"] == pytest.approx(5 * numbers["completions_per_s"])
    fake = fake_vllm.install(monkeypatch, lambda *_: [7] * 9)
    for mode, max_top_k in (("vllm", 0), ("vllm_logprobs", 10 + SPARE)):
        vllm = run(speed, mode)
        assert vllm["completions"] == 48
        assert vllm["new_tokens_per_s"] == pytest.approx(5 * vllm["completions_per_s"])
        assert fake.loaded["enable_prefix_caching"]
        assert fake.loaded["max_logprobs"] == max_top_k
    assert fake.shutdowns == 2


def test_it_stops_when_its_seconds_are_over(speed):
    assert run(speed, "here", seconds="0")["completions"] == 0


def test_ratios_are_of_what_was_measured(speed):
    results = [
        {"mode": "score", "row_tokens_per_s": 9e4, "tokens_per_s": 3e4, "counted_per_s": 9e3, "peak_memory_gib": 4.0,
         "bytes_per_position": 612.4},
        {"mode": "padded", "row_tokens_per_s": 2e4, "tokens_per_s": 2e4, "counted_per_s": 2e3, "peak_memory_gib": 8.0},
        {"mode": "vllm", "error": "exit status 1"},
    ]  # fmt: skip
    lines = speed.lines(results)
    assert lines[0] == (
        "score: 90,000 row tokens/s, 30,000 tokens/s, 9,000 positions/s, peak 4.0 GiB, 612 bytes a position"
    )
    assert lines[2:] == [
        "vllm: exit status 1",
        "score to padded: 4.50 times the row_tokens_per_s",
        "score to padded: 1.50 times the tokens_per_s",
    ]


@pytest.mark.slow
def test_the_command_measures_all_modes_asked_for(tmp_path):
    out = tmp_path / "cache.json"
    script = str(BENCHMARKS / "teacher_cache_speed.py")
    command = [sys.executable, script, "--tiny", "--modes", "score,padded", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [mode["mode"] for mode in json.loads(out.read_text())["modes"]] == ["score", "padded"]
    assert "score to padded" in done.stdout
