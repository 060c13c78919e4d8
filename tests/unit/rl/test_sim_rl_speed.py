"""The benchmark of a Sim-RL step runs, and its numbers are those of the steps it timed."""

from pathlib import Path

import pytest

pytest.importorskip("trl", reason="trl is not installed: pip install 'star-edge[train]'")

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"

pytestmark = pytest.mark.slow  # the default run has two minutes for all


@pytest.fixture
def speed(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import sim_rl_speed

    from star_edge.rl import trainer

    for name in ("SimRlTrainer", "trl_reward"):  # which the benchmark replaces, in a process of its own
        monkeypatch.setattr(trainer, name, getattr(trainer, name))
    return sim_rl_speed


def run(speed, *given):
    return speed.child(speed.arguments(["--tiny", "--child", "here", *given]))


def test_a_step_is_timed_from_sampling_to_update(speed):
    numbers = run(speed, "--seconds", "60")
    assert len(numbers["seconds_a_step"]) == 2
    assert numbers["sampled_a_step"] >= numbers["trained_a_step"] == 12  # 3 prompts of 4 completions
    assert set(numbers["shares"]) == {"rollout", "reward", "log-probabilities", "update", "other"}
    assert sum(numbers["shares"].values()) == pytest.approx(1)
    assert numbers["completions_per_s"] > 0


def test_without_a_reference_no_other_log_probabilities_are_computed(speed):
    assert "log-probabilities" not in run(speed, "--seconds", "60", "--beta", "0")["shares"]


def test_it_stops_when_its_seconds_are_over(speed):
    numbers = run(speed, "--seconds", "0")
    assert numbers["seconds_a_step"] == []
    assert numbers["mean_seconds"] is None


def test_lines_say_whether_the_limit_holds(speed):
    result = {
        "mode": "vllm", "mean_seconds": 6.04, "seconds_a_step": [6.0, 6.08], "sampled_a_step": 700.0,
        "trained_a_step": 470.0, "completions_per_s": 260.0, "peak_memory_gib": 30.0, "shares": {"rollout": 0.5},
    }  # fmt: skip
    slow = result | {"mode": "here", "mean_seconds": 40.0, "completions_per_s": 26.0}
    lines = speed.lines([result, slow])
    assert lines[0].startswith("vllm: 6.0 s a step (at most 15: yes; 2 steps), 700 sampled, 470 trained")
    assert "(at most 15: NO; 2 steps)" in lines[1]
    assert lines[2] == "vllm to here: 10.0 times the completions/s"
    assert speed.lines([{"mode": "vllm", "error": "exit status 1"}]) == ["vllm: exit status 1"]


def test_a_policy_is_asked_for(speed, capsys):
    with pytest.raises(SystemExit):
        speed.arguments([])
    assert "--policy is needed" in capsys.readouterr().err
