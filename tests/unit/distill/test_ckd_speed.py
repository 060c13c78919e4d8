"""The benchmark of training speed runs, counts what it says it counts, and compares like with like."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from star_edge.distill.ckd_loss import ckd_loss

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"

pytestmark = pytest.mark.slow  # the default run has two minutes for all


@pytest.fixture
def speed(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import ckd_speed

    return ckd_speed


def run(speed, mode, *given):
    return speed.child(speed.arguments(["--tiny", "--child", mode, "--seconds", "60", *given]))


def test_ours_computes_each_prompt_once_and_says_where_the_time_goes(speed):
    numbers = run(speed, "ours")
    assert numbers["steps"] == 2
    assert numbers["padding_share"] == 0
    assert numbers["row_tokens_per_s"] > 1.5 * numbers["tokens_per_s"] > 0
    assert set(numbers["shares"]) == {"data", "forward", "loss", "backward", "optimizer", "other"}
    assert sum(numbers["shares"].values()) == pytest.approx(1)


def test_the_published_formulation_trains_on_the_same_rows_padded(speed):
    numbers = run(speed, "published")
    assert (numbers["steps"], numbers["forwards"]) == (2, 4)
    assert numbers["padding_share"] > 0
    assert numbers["row_tokens_per_s"] == numbers["tokens_per_s"]
    assert {"teacher", "loss"} <= set(numbers["shares"])


def test_the_published_loss_is_the_same_loss(speed):
    import speed_modes

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 6, 150, generator=generator) * 3
    logprobs, ids = (torch.randn(2, 5, 150, generator=generator) * 3).log_softmax(-1).topk(9)
    labels = torch.tensor([[-100, -100, 3, 4, 5], [-100, 1, 2, -100, -100]])
    counts = labels != -100
    expected = ckd_loss(logits[:, :-1][counts], ids[counts], logprobs[counts]) * counts.sum()
    torch.testing.assert_close(speed_modes.published_loss(logits, logprobs, ids, labels), expected)


def test_it_stops_when_its_seconds_are_over(speed):
    arguments = speed.arguments(["--tiny", "--child", "ours", "--seconds", "0"])
    assert speed.child(arguments)["steps"] == 0


class Control:
    should_training_stop = False


def test_seconds_that_end_within_a_step_leave_what_was_done_of_it(speed, monkeypatch):
    import speed_meter

    clock = [0.0]
    monkeypatch.setattr(speed_meter.time, "perf_counter", lambda: clock[0])
    meter, control = speed_meter.Meter("cpu", warmup=5, steps=20, profiled=3, seconds=100), Control()
    meter._next()
    while not control.should_training_stop:  # forwards of 7 seconds in a step that would take an hour
        meter.count(tokens=60, row_tokens=60, counted=6, size=80)
        clock[0] += 7
        meter.on_substep_end(None, None, control)
    assert clock[0] == 105
    # Warm until 35 s, timed until 84 s, then profiled.
    assert [(seconds, counts.tokens, counts.padding) for seconds, counts in meter.timed] == [(49.0, 420, 140)]
    assert meter.forwards == 7


def test_the_committed_lengths_are_prompts_with_completions(speed):
    lengths = json.loads(speed.LENGTHS.read_text())
    assert len(lengths) > 1000
    assert all(prompt > 0 and all(length > 0 for length in completions) for prompt, completions in lengths)


def test_the_table_shows_numbers_and_failures(speed):
    numbers = {
        "mode": "ours", "tokens_per_s": 123456.7, "row_tokens_per_s": 2e5, "counted_per_s": 9e3, "padding_share": 0.0,
        "peak_memory_gib": 20.0, "model_flops_utilisation": 0.251, "steps": 20, "shares": {"forward": 0.25},
    }  # fmt: skip
    text = speed.table([numbers, {"mode": "published", "error": "exit status 1"}])
    assert "| ours | 123,457 | 200,000 | 9,000 | 0% | 20.0 | 25.1% | 20 | forward 25% |" in text
    assert "| published | exit status 1 |" in text
    published = {"mode": "published", "peak_memory_gib": 50.0}
    by_rows = numbers | {"mode": "ours-rows"}
    line = speed.memory_line([by_rows, published])
    assert line == "peak memory, ours-rows to published: 0.40 (at most 0.33: NO)"
    assert speed.memory_line([numbers]) is None


@pytest.mark.slow
def test_the_command_compares_all_modes(tmp_path):
    pytest.importorskip("trl", reason="trl is not installed: pip install 'star-edge[train]'")
    out = tmp_path / "speed.json"
    command = [sys.executable, str(BENCHMARKS / "ckd_speed.py"), "--tiny", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(out.read_text())
    assert [mode["mode"] for mode in report["modes"]] == ["ours", "ours-rows", "published", "trl-sft"]
    assert all(mode["tokens_per_s"] > 0 for mode in report["modes"])
    assert report["modes"][3]["counted_share"] < 0.5
    assert report["command"].endswith("--tiny --out " + str(out))
