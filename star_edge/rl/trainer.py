"""Sim-RL as a stage: a policy and examples in, a better policy out (the trainer itself is in `grpo`)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch.distributed.elastic.utils.distributed import get_free_port

from star_edge.contracts import Checkpoint, Example, SimRlConfig, TuningConfig
from star_edge.data.chat import ChatCodec
from star_edge.distill.training import (
    common_arguments,
    load_trainable,
    rows_per_device,
    run_to_end,
    save_result,
)
from star_edge.distill.watch import MakeWatch
from star_edge.errors import RuntimeMissing, TrainingError
from star_edge.launch import is_sharded
from star_edge.models.vllm_engine import nothing_compiled, prepare_environment
from star_edge.progress import Progress, or_quiet
from star_edge.rl.groups import PromptRow
from star_edge.rl.grpo import SimRlTrainer
from star_edge.rl.reward import trl_reward

try:
    from datasets import Dataset
    from trl import GRPOConfig
except ImportError as error:
    raise RuntimeMissing.for_extra("trl", "train") from error


def run_sim_rl(
    config: SimRlConfig,
    tuning: TuningConfig,
    policy: Checkpoint,
    examples: Sequence[Example],
    out: Path,
    *,
    stage: str,
    device: str,
    seed: int,
    progress: Progress | None = None,
    watch: MakeWatch | None = None,
) -> Checkpoint:
    """Improve a policy on the reward of its own completions; continues from `out/trainer` when it was cut short.

    An adapter goes on as the same adapter; the reference of the KL term is the policy as it came. `watch` scores the
    policy as it trains, and decides which weights are kept.

    Raises: TrainingError: no example, fewer than two rollouts, devices that cannot share a step evenly, a sharded
            model, or no vLLM server where the recipe says one is.
        RuntimeMissing: vLLM is asked for and not installed.
    """
    section = f"{stage.replace('-', '_')}.sim_rl"  # of the recipe
    _refuse(config, examples, stage, section)
    if uses_vllm(config):
        if find_spec("vllm") is None:
            raise RuntimeMissing.for_extra("vllm", "vllm")
        prepare_environment()
    loaded = load_trainable(policy, tuning, seed=seed)
    codec = ChatCodec(loaded.tokenizer, loaded.template)
    starts_engine = config.use_vllm and config.vllm_server is None
    if starts_engine:
        # TRL takes the first of four ports that is free when it looks: two runs of one machine may both be told 29500.
        os.environ.setdefault("MASTER_PORT", str(get_free_port()))  # type: ignore[no-untyped-call]
    try:
        with nothing_compiled() if starts_engine and not config.vllm_compile else nullcontext():
            trainer = SimRlTrainer(
                loaded,
                config,
                progress=or_quiet(progress),
                args=grpo_arguments(config, out, rows=len(examples), device=device, seed=seed, section=section),
                reward_funcs=[trl_reward(config.reward)],
                train_dataset=Dataset.from_list([prompt_row(codec, example) for example in examples]),
            )
    except OSError as error:
        if config.vllm_server is None:
            raise
        raise TrainingError(
            f"{stage}: no vLLM server answers at {config.vllm_server}; start one (docs/training.md) or leave "
            f"{section}.vllm_server out"
        ) from error
    watching = watch and watch(loaded, out)
    if watching is not None and starts_engine and trainer.accelerator.num_processes == 1:
        watching.answer = trainer.greedy_texts
    run_to_end(trainer, out, what=stage, progress=or_quiet(progress), watch=watching)
    if config.vllm_server is not None and trainer.is_world_process_zero():
        trainer.vllm_generation.vllm_client.close_communicator()  # a later stage listens at the same port
    return save_result(trainer, policy, out, stage=stage)


def _refuse(config: SimRlConfig, examples: Sequence[Example], stage: str, section: str) -> None:
    """Raises: TrainingError: what cannot be trained."""
    if not examples:
        raise TrainingError(f"{stage}: there is no row to learn from; give it more data")
    if config.rollouts < 2:
        raise TrainingError(f"{section}.rollouts is {config.rollouts}, but a group needs at least 2 to compare")
    if is_sharded():
        raise TrainingError(
            f"{stage}: Sim-RL does not train sharded weights (its reference would be lost); launch with torchrun, "
            "whose processes hold the whole model each, and tune a large one with tuning.method: lora"
        )


def uses_vllm(config: SimRlConfig) -> bool:
    """Whether vLLM samples, beside the trainer or on a server."""
    return config.use_vllm or config.vllm_server is not None


def prompt_row(codec: ChatCodec, example: Example) -> PromptRow:
    """A row of the trainer's data; target and tools as JSON, for Arrow would give every struct the keys of all."""
    return {
        "prompt": codec.prompt_text(example),
        "target": json.dumps(example.target, ensure_ascii=False),
        "tools": json.dumps(example.tools, ensure_ascii=False),
    }


def grpo_arguments(
    config: SimRlConfig, out: Path, *, rows: int, device: str, seed: int, section: str = "sim_rl"
) -> Any:
    """TRL's arguments: one update a batch, advantages scaled within groups, loss as GRPO was published.

    Args:
        rows: of the training data, which `config.passes` counts.
        section: what an error calls `config`.
    Raises: TrainingError: the devices cannot share `prompts_per_step` evenly.
    """
    rows_per_device(config.prompts_per_step, 1, what=f"{section}.prompts_per_step")
    rows_per_forward, forwards = rows_per_device(
        config.prompts_per_step * config.rollouts,
        config.rows_per_forward,
        what=f"rollouts * {section}.prompts_per_step",
    )
    steps = config.steps if config.passes is None else math.ceil(config.passes * rows / config.prompts_per_step)
    server_host, _, server_port = (config.vllm_server or "localhost:8000").rpartition(":")
    args = GRPOConfig(
        **common_arguments(out, device=device, seed=seed, save_every=config.save_every, precision=config.precision),
        max_steps=steps,
        learning_rate=config.lr,
        weight_decay=config.weight_decay,
        lr_scheduler_type="constant",
        per_device_train_batch_size=rows_per_forward,
        gradient_accumulation_steps=forwards,
        num_generations=config.rollouts,
        max_completion_length=config.max_new_tokens,
        temperature=config.temperature,
        beta=0.0,  # the reference is ours: see PolicyAsItCame
        loss_type="grpo",
        scale_rewards="group",
        gradient_checkpointing=False,
        use_vllm=uses_vllm(config),
        vllm_mode="colocate" if config.vllm_server is None else "server",
        vllm_server_host=server_host,
        vllm_server_port=int(server_port),
        vllm_gpu_memory_utilization=config.vllm_memory_share,
    )
    args._n_gpu = 1  # several GPUs are used through torchrun or accelerate, never through DataParallel
    return args
