"""Two processes under torchrun or accelerate train as one does: same losses, same gradients, same decisions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import write_tiny_qwen3

from star_edge.calls.template import HERMES

SCRIPT = Path(__file__).with_name("train_on_processes.py")
FSDP = Path(__file__).parents[2] / "recipes" / "qwen3-0.6b" / "fsdp.yaml"
SUPERVISED = ("sft", "ckd-lora", "ckd-full")
RL = ("rl-lora", "rl-full", "rl-tokens")
AGREED = ("watched", "budget", "rl-uneven")
TOLERANCE = {"cpu": 1e-5, "cuda": 1e-3}
ONE = [sys.executable]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
SHARDED = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(FSDP), "--num_processes", "2"]


def launch(command: Sequence[str], tasks: Sequence[str], model: Path, out: Path, device: str) -> Path:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = [*command, str(SCRIPT), ",".join(tasks), str(model), str(out), device]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def processes(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(out.glob("process-*.json"))]


def assert_same(one: Path, other: Path, device: str) -> None:
    alone, shared = log(one), log(other)
    assert len(alone) == len(shared) > 1
    for first, second in zip(alone, shared, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], abs=2e-4)  # logged with four digits
        assert second["grad_norm"] == pytest.approx(first["grad_norm"], rel=10 * TOLERANCE[device])
        assert second.get("reward") == pytest.approx(first.get("reward"))
    expected, found = load_file(one / "gradients.safetensors"), load_file(other / "gradients.safetensors")
    assert found.keys() == expected.keys()
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    assert largest > 1e-3
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=TOLERANCE[device] * largest)


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Head and embedding apart, as in the large models that need sharding."""
    return write_tiny_qwen3(tmp_path_factory.mktemp("models") / "untied", HERMES, seed=2, tied=False)


@pytest.fixture(
    scope="module",
    params=[pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)],
)
def device(request: pytest.FixtureRequest) -> str:
    pytest.importorskip("trl", reason="trl is not installed: pip install 'star-edge[train]'")
    if request.param == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip(f"needs two GPUs; torch sees {torch.cuda.device_count()}")
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def one(device: str, untied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process leaves."""
    return launch(ONE, (*SUPERVISED, *RL), untied, tmp_path_factory.mktemp("one"), device)


@pytest.fixture(scope="module")
def two(device: str, untied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes with the whole model each leave."""
    return launch(TWO, (*SUPERVISED, *RL, *AGREED), untied, tmp_path_factory.mktemp("two"), device)


@pytest.mark.parametrize("task", [*SUPERVISED, *RL])
def test_two_processes_have_the_losses_and_gradients_of_one(one: Path, two: Path, task: str, device: str) -> None:
    assert_same(one / task, two / task, device)
    first, second = processes(two / task)
    assert first == second


@pytest.fixture(scope="module")
def sharded(device: str, untied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes with a half of each weight leave, launched by the config that the recipe ships."""
    return launch(SHARDED, SUPERVISED, untied, tmp_path_factory.mktemp("sharded"), device)


@pytest.mark.parametrize("task", SUPERVISED)
def test_sharded_weights_have_the_losses_and_gradients_of_whole_ones(
    one: Path, sharded: Path, task: str, device: str
) -> None:
    assert all(process["is_sharded"] for process in processes(sharded / task))
    assert_same(one / task, sharded / task, device)


@pytest.mark.parametrize("task", SUPERVISED)
def test_what_sharded_training_leaves_is_a_whole_checkpoint(one: Path, sharded: Path, task: str) -> None:
    (expected,) = (path for path in (one / task).glob("[am]*/*.safetensors"))
    found = load_file(sharded / task / expected.parent.name / expected.name)
    assert {name: weight.shape for name, weight in found.items()} == {
        name: weight.shape for name, weight in load_file(expected).items()
    }


def test_processes_stop_together_on_what_the_first_one_scores(two: Path) -> None:
    first, second = processes(two / "watched")
    assert first == second
    assert first["steps"] == 2
    lines = [json.loads(line) for line in (two / "watched" / "watch.jsonl").read_text().splitlines()]
    assert [line["score"] for line in lines] == [0.5, 0.9, 0.1]
    kept = load_file(two / "watched" / "watch-1.safetensors")
    saved = load_file(two / "watched" / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(saved[name.replace(".default", "")], weight) for name, weight in kept.items())


def test_processes_agree_on_when_their_time_is_spent(two: Path) -> None:
    """Alone the slower clock would have stopped behind step 2, the faster one behind step 6."""
    first, second = processes(two / "budget")
    assert first == second
    assert first["steps"] == 3


def test_processes_that_find_different_groups_learn_from_as_many(two: Path) -> None:
    steps = log(two / "rl-uneven")
    assert [step["step"] for step in steps] == [1, 2]
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert all(step["grad_norm"] > 0 for step in steps)
    first, second = processes(two / "rl-uneven")
    assert first == second
