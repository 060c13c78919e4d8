"""Two processes under torchrun train as one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("train_on_processes.py")


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def launch(*command):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]


def two(*arguments):
    launch(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", SCRIPT, *arguments)


@pytest.mark.slow
def test_two_processes_fine_tune_as_one(tiny_student, tmp_path):
    launch(sys.executable, SCRIPT, "sft", tiny_student, tmp_path / "one")
    two("sft", tiny_student, tmp_path / "two")
    one, both = log(tmp_path / "one"), log(tmp_path / "two")
    assert len(one) == 3
    for alone, shared in zip(one, both, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], abs=2e-4)
        assert shared["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-4)


@pytest.mark.slow
def test_two_processes_share_the_groups_of_a_step(tiny_student, tmp_path):
    pytest.importorskip("trl", reason="trl is not installed: pip install 'star-edge[train]'")
    two("rl", tiny_student, tmp_path)
    steps = log(tmp_path)
    assert [step["step"] for step in steps] == [1, 2]
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert all(step["grad_norm"] > 0 for step in steps)


@pytest.mark.slow
def test_a_sharded_model_has_the_gradients_of_a_whole_one(tiny_student, tmp_path):
    two("sharded", tiny_student, tmp_path)
    assert (tmp_path / "agrees").exists()
