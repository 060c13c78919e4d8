"""What `test_processes.py` runs in each process: `TASKS MODEL OUT DEVICE`, a few steps of each task on made-up rows.

Every task leaves its log, the gradients of its first step, and a record of each process in `OUT/<task>`.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import state as accelerate_state
from safetensors.torch import save_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from star_edge.contracts import (
    Checkpoint,
    DistillConfig,
    Example,
    OptimizerConfig,
    SimRlConfig,
    TeacherCache,
    TeacherCacheConfig,
    TuningConfig,
    WatchConfig,
)
from star_edge.data.chat import ChatCodec, EncodedExample
from star_edge.distill import trainer as distill
from star_edge.distill.time_budget import TimeBudget
from star_edge.distill.watch import Watch
from star_edge.models.load import load, tokenizer_fingerprint
from star_edge.progress import Progress
from star_edge.teacher.cache import CacheFingerprint, build

LORA = TuningConfig(rank=4, alpha=8, last_layers=1)
FULL = TuningConfig(method="full")
# Rows of a dozen tokens each: a device's four rows make two or three forwards.
OPTIMIZER = OptimizerConfig(
    lr=1e-3, warmup_share=0.0, rows_per_step=8, tokens_per_forward=25, max_steps=3, precision="float32"
)
RANK = int(os.environ.get("RANK", "0"))


def examples(count: int) -> list[Example]:
    answer = {"role": "assistant", "content": "It."}
    return [
        Example(str(n), "test", ({"role": "user", "content": f"Say {n}" + " please" * (n % 3)}, answer), ())
        for n in range(count)
    ]


# ------------------------------------------------------------------------------------------------------ supervised


def make_cache(student: Checkpoint, out: Path) -> TeacherCache:
    """What a teacher says, the student with changed weights; the same in every process, for draws are seeded."""
    loaded = load(student, device="cpu")
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in loaded.model.parameters():
            weight += 0.1 * weight.std() * torch.randn(weight.shape, generator=noise)
    config = TeacherCacheConfig(rollouts=4, max_new_tokens=6, top_k=9, rows_per_forward=8)
    fingerprint = CacheFingerprint.of(
        student, label="tiny", revision=None, tokenizer=tokenizer_fingerprint(student.folder),
        template=loaded.template, config=config,
    )  # fmt: skip
    chatty = replace(loaded, stop_token_ids=tuple(range(0, 800, 3)))
    codec = ChatCodec(loaded.tokenizer, loaded.template)
    return build(lambda: chatty, codec, examples(13), config, out, fingerprint=fingerprint, seed=2)


def ckd(student: Checkpoint, out: Path, device: str, *, tuning: TuningConfig) -> None:
    """An epoch whose last step has a few rows left, for the first of two processes alone."""
    cache = make_cache(student, out / f"cache-{RANK}")
    assert cache.rows % OPTIMIZER.rows_per_step in (1, 2, 3), "the second process is to find no row in the last step"
    config = DistillConfig(tuning, replace(OPTIMIZER, max_steps=None), tail_top_m=9, chunk=16)
    distill.run_ckd(config, student, cache, out, device=device, seed=1)


def sft(student: Checkpoint, out: Path, device: str, **given: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = []
    for number in range(48):
        ids = torch.randint(3, 700, (8 + number % 9,), generator=generator).tolist()
        rows.append(EncodedExample(str(number), tuple(ids), 5))
    optimizer = given.pop("optimizer", OPTIMIZER)
    distill.run_sft(optimizer, LORA, student, rows, out, stage="warmup", device=device, seed=1, **given)


def watched(student: Checkpoint, out: Path, device: str) -> None:
    """The score collapses at the second look; only the first process may look."""
    scores = iter([0.5, 0.9, 0.1])

    def answered(self: Watch) -> dict[str, float]:
        assert RANK == 0, "only the first process scores"
        return {"score": next(scores), "malformed": 0.0}

    Watch._answered = answered  # type: ignore[method-assign]
    config = WatchConfig(every_steps=1, max_drop=0.5)
    watch = partial(Watch, config, examples(2), Progress(quiet=True))
    sft(student, out, device, watch=watch, optimizer=replace(OPTIMIZER, max_steps=6))


def budget(student: Checkpoint, out: Path, device: str) -> None:
    """A minute for six steps; one process's clock runs 10 seconds a look, the other's 40: on average 25."""
    ticks = iter(range(0, 10_000, 40 if RANK else 10))
    usual = distill.TimeBudget
    distill.TimeBudget = partial(TimeBudget, clock=lambda: float(next(ticks)))  # type: ignore[misc, assignment]
    sft(student, out, device, optimizer=replace(OPTIMIZER, max_steps=6, minutes=1.0))
    distill.TimeBudget = usual  # type: ignore[misc]


# -------------------------------------------------------------------------------------------------------------- RL


def by_text(prompts: Any, completions: list[str], target: Any, tools: Any) -> list[float]:
    return [len(text) % 8 / 8 for text in completions]


def fewer_in_the_second(prompts: Any, completions: list[str], target: Any, tools: Any) -> list[float]:
    return [1.0 if RANK and place < 4 else len(text) % 8 / 8 for place, text in enumerate(completions)]


def said(policy: Any, prompts: list[list[int]], *, copies: int, **_: Any) -> list[list[Any]]:
    """Completions that depend on the prompt alone, so that processes say what one process says."""

    def ids(prompt: list[int], copy: int) -> tuple[int, ...]:
        return (*(3 + (sum(prompt) * 7 + copy * 31 + place) % 700 for place in range(2 + copy)), 2)

    return [[SimpleNamespace(ids=ids(prompt, copy)) for copy in range(copies)] for prompt in prompts]


def said_at_length(policy: Any, prompts: list[list[int]], *, copies: int, **_: Any) -> list[list[Any]]:
    """As `said`, a few tokens for some prompts and dozens for others."""

    def ids(prompt: list[int], copy: int) -> tuple[int, ...]:
        length = 2 + copy + 30 * (sum(prompt) % 2)
        return (*(3 + (sum(prompt) * 7 + copy * 31 + place) % 700 for place in range(length)), 2)

    return [[SimpleNamespace(ids=ids(prompt, copy)) for copy in range(copies)] for prompt in prompts]


def rl(
    student: Checkpoint,
    out: Path,
    device: str,
    *,
    tuning: TuningConfig,
    reward: Any = by_text,
    draws: Any = None,
    tokens_per_forward: int | None = None,
) -> None:
    from star_edge.rl import grpo, trainer

    usual = grpo.sample
    # A random model earns nothing from the real reward.
    trainer.trl_reward = lambda kind: reward  # type: ignore[assignment]
    grpo.sample = draws or usual
    config = SimRlConfig(
        steps=2, prompts_per_step=4, rollouts=4, lr=1e-3, max_new_tokens=6, rows_per_forward=4, precision="float32",
        tokens_per_forward=tokens_per_forward,
    )  # fmt: skip
    trainer.run_sim_rl(config, tuning, student, examples(8), out, stage="sim-rl", device=device, seed=1)
    grpo.sample = usual


TASKS: dict[str, Callable[[Checkpoint, Path, str], None]] = {
    "sft": sft,
    "ckd-lora": partial(ckd, tuning=LORA),
    "ckd-full": partial(ckd, tuning=FULL),
    "watched": watched,
    "budget": budget,
    "rl-lora": partial(rl, tuning=LORA, draws=said),
    "rl-full": partial(rl, tuning=FULL, draws=said),
    "rl-tokens": partial(rl, tuning=LORA, draws=said_at_length, tokens_per_forward=120),
    "rl-uneven": partial(rl, tuning=LORA, reward=fewer_in_the_second),
}

# --------------------------------------------------------------------------------------------------------- records


@contextmanager
def recorded(out: Path) -> Iterator[None]:
    """Write the gradients of the first step, and at the end each process's steps, rate and weights."""
    first: dict[str, torch.Tensor] = {}

    def note(optimizer: Any, *_: Any) -> None:
        if first:
            return
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        for number, weight in enumerate(weights):
            first[str(number)] = whole(weight.grad).cpu().contiguous()
        if RANK == 0:
            save_file(first, out / "gradients.safetensors")

    from star_edge.rl import trainer as rl_trainer

    modules = (distill, rl_trainer)
    real = distill.save_result

    def record(trainer: Any, *given: Any, **named: Any) -> Checkpoint:
        weights = [whole(weight.detach()) for weight in trainer.model.parameters() if weight.requires_grad]
        line = {
            "steps": trainer.state.global_step,
            "is_sharded": all(hasattr(weight, "full_tensor") for weight in trainer.model.parameters()),
            "lr": trainer.lr_scheduler.get_last_lr()[0],
            "weights": [weight.double().sum().item() for weight in weights],
        }
        (out / f"process-{RANK}.json").write_text(json.dumps(line))
        return real(trainer, *given, **named)

    handle = register_optimizer_step_pre_hook(note)
    for module in modules:
        module.save_result = record  # type: ignore[attr-defined]
    yield
    handle.remove()
    for module in modules:
        module.save_result = real  # type: ignore[attr-defined]


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def shard_on_a_cpu() -> None:
    """accelerate shards on accelerators alone; processes on a CPU can do the same when they pass for some."""
    real = accelerate_state.PartialState.__init__

    def initialise(self: Any, *args: Any, **given: Any) -> None:
        real(self, *args, **given)
        if self.distributed_type == accelerate_state.DistributedType.MULTI_CPU:
            self.distributed_type = accelerate_state.DistributedType.MULTI_GPU

    accelerate_state.PartialState.__init__ = initialise


def main(tasks: str, model: str, out: str, device: str) -> None:
    if device == "cpu" and os.environ.get("ACCELERATE_USE_FSDP") == "true":
        shard_on_a_cpu()
    for task in tasks.split(","):
        folder = Path(out) / task
        folder.mkdir(parents=True, exist_ok=True)
        with recorded(folder):
            TASKS[task](Checkpoint(Path(model), "base"), folder, device)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
