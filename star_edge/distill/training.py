"""What every gradient stage shares: Trainer arguments, resuming, progress, and the checkpoint it leaves."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, set_seed
from transformers.trainer_callback import TrainerControl, TrainerState

from star_edge.contracts import Checkpoint, Precision, TuningConfig
from star_edge.distill.time_budget import is_spent
from star_edge.errors import ArtifactError, TrainingError
from star_edge.launch import check_share, is_sharded, processes
from star_edge.manifest import read_json
from star_edge.models.folder import GENERATION_CONFIG, copy_tokenizer
from star_edge.models.load import LoadedModel, load, tokenizer_folder
from star_edge.models.tuning import attach
from star_edge.progress import Bar, Progress

SCRATCH = "trainer"
LOG = "log.jsonl"
REPORT_TO = "STAR_EDGE_REPORT_TO"
STATE = "trainer_state.json"


def rows_per_device(rows_per_step: int, rows_per_forward: int, *, what: str) -> tuple[int, int]:
    """(rows of one forward, forwards of one step) on each device, so that a step has exactly `rows_per_step` rows.

    The forward takes the most rows that divide a device's share, up to `rows_per_forward`.

    Raises: TrainingError: the devices cannot share a step evenly.
    """
    check_share(what, rows_per_step)
    share = rows_per_step // processes()
    forward = max(rows for rows in range(1, min(share, rows_per_forward) + 1) if share % rows == 0)
    return forward, share // forward


def shard_exactly(plugin: Any, *, bfloat16: bool) -> None:
    """Let FSDP2 multiply in bfloat16 where asked, but add up gradients and hand over losses in float32.

    accelerate's own setting rounds both to bfloat16.

    Args:
        plugin: accelerate's `FullyShardedDataParallelPlugin`.
    Raises: TrainingError: the first version of FSDP, whose flat weights the trainers here do not know, or activation
        checkpointing, which would recompute layers outside the packed forward.
    """
    if plugin.fsdp_version != 2:
        raise TrainingError("FSDP version 1 is not supported; set fsdp_version: 2 in the config of accelerate")
    if plugin.activation_checkpointing:
        raise TrainingError(
            "FSDP's activation checkpointing recomputes layers outside the packed forward; set "
            "fsdp_activation_checkpointing: false in the config of accelerate, and a smaller tokens_per_forward"
        )
    plugin.mixed_precision_policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bfloat16 else None, reduce_dtype=torch.float32
    )


def uses_bfloat16(precision: Precision, device: str) -> bool:
    """Whether products are to be bfloat16: as asked, or for `auto` where the device multiplies it natively."""
    if precision != "auto":
        return precision == "bfloat16"
    if device != "cpu":
        return True
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch lacks it
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def common_arguments(out: Path, *, device: str, seed: int, save_every: int, precision: Precision) -> dict[str, Any]:
    """Trainer arguments that do not depend on the objective; `STAR_EDGE_REPORT_TO=wandb` (say) turns a reporter on.

    Weights stay float32. The Trainer's own bfloat16 is for GPUs: on a CPU it would convert all weights again for
    every sampled token, so the trainers here enter autocast around their losses themselves.
    """
    return {
        "output_dir": str(out / SCRATCH),
        "seed": seed,
        "use_cpu": device == "cpu",
        "bf16": device != "cpu" and uses_bfloat16(precision, device),
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would show such a loss as 0
        "save_strategy": "steps",
        "save_steps": save_every,
        "save_total_limit": 1,
        "report_to": os.environ.get(REPORT_TO, "none"),
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": device != "cpu",
        "ddp_find_unused_parameters": False,
    }


def load_trainable(student: Checkpoint, tuning: TuningConfig, *, seed: int) -> LoadedModel:
    """A checkpoint on the CPU with the weights of `tuning` trainable; an adapter goes on as the adapter it is.

    Raises: TrainingError: an adapter, but the recipe wants all weights trained.
    """
    if student.is_adapter and tuning.method == "full":
        raise TrainingError(f"{student.folder}: holds a LoRA adapter, so tuning.method must be 'lora' here too")
    set_seed(seed)
    loaded = load(student, device="cpu", trainable=True)
    model = attach(loaded.model, tuning, loaded.tokenizer)
    return LoadedModel(model, loaded.tokenizer, loaded.template, loaded.stop_token_ids)


def newest_checkpoint(out: Path) -> Path | None:
    """The newest whole checkpoint that the Trainer left in `out`, or None.

    The Trainer writes its state file last, so a checkpoint whose state can be read and names its own step is whole.
    """
    found = {int(path.name.rpartition("-")[2]): path for path in (out / SCRATCH).glob("checkpoint-*")}
    for step in sorted(found, reverse=True):
        if _state(found[step]).get("global_step") == step:
            return found[step]
    return None


def _state(checkpoint: Path) -> Mapping[str, Any]:
    try:
        return read_json(checkpoint / STATE)
    except ArtifactError:
        return {}


def run_to_end(trainer: Any, out: Path, *, what: str, progress: Progress, watch: TrainerCallback | None = None) -> None:
    """Train, or go on from the newest whole checkpoint; metrics of every step go to `out/log.jsonl`.

    Raises: TrainingError: a watch over sharded weights.
    """
    if watch is not None and is_sharded():
        raise TrainingError(
            f"{what}: a watch scores in the first process alone, which under FSDP holds a part of each weight; "
            "leave watch out (--set watch=null) or launch with torchrun"
        )
    for noisy in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(noisy)
    trainer.add_callback(ReportSteps(out / LOG, what, progress))
    if watch is not None:
        trainer.add_callback(watch)
    resume = newest_checkpoint(out)
    if resume is None:
        trainer.train()
        return
    state = _state(resume)
    if state["global_step"] >= state["max_steps"] or is_spent(state):
        trainer._load_from_checkpoint(str(resume))
        if watch is not None:
            _only_judge(watch, trainer, resume)
        return
    progress.line(f"  {what}: goes on behind step {state['global_step']} of {state['max_steps']}")
    trainer.train(resume_from_checkpoint=str(resume))


def _only_judge(watch: TrainerCallback, trainer: Any, checkpoint: Path) -> None:
    """Let a watch choose the weights of a training that is over already."""
    state = TrainerState.load_from_json(str(checkpoint / STATE))
    state.is_world_process_zero = trainer.is_world_process_zero()
    watch.on_train_begin(trainer.args, state, trainer.control)
    watch.on_train_end(trainer.args, state, trainer.control)


def save_result(trainer: Any, student: Checkpoint, out: Path, *, stage: str) -> Checkpoint:
    """Write the adapter, or the whole model with its tokenizer files byte for byte, and say where it is."""
    is_adapter = hasattr(trainer.accelerator.unwrap_model(trainer.model), "peft_config")
    folder = out / ("adapter" if is_adapter else "model")
    if trainer.is_world_process_zero():
        shutil.rmtree(folder, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.processing_class = None  # a tokenizer saved anew changes its hash
    trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        for extra in ("training_args.bin", "README.md"):  # a pickle, and a model card that names this machine's paths
            (folder / extra).unlink(missing_ok=True)
    if is_adapter:
        return Checkpoint(folder, stage, student.base or student.folder)
    if trainer.is_world_process_zero():
        copy_tokenizer(tokenizer_folder(student), folder)
        if (student.folder / GENERATION_CONFIG).is_file():
            shutil.copyfile(student.folder / GENERATION_CONFIG, folder / GENERATION_CONFIG)
    return Checkpoint(folder, stage)


class ReportSteps(TrainerCallback):  # type: ignore[misc]
    """Every step to the log file and the progress bar. Steps that are done again after a resume replace their lines."""

    SHOWN = ("loss", "lr", "reward", "groups_kept", "kl")

    def __init__(self, log: Path, what: str, progress: Progress) -> None:
        self._log = log
        self._what = what
        self._progress = progress
        self._bar: Bar | None = None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Open the bar; drop log lines of steps that will be done again."""
        if not state.is_world_process_zero:
            return
        self._bar = self._progress.bar(self._what, state.max_steps)
        if self._log.exists():
            lines = self._log.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= state.global_step]
            self._log.write_text("".join(kept), encoding="utf-8")

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """One line of the log file, and the bar's next place.

        Raises: TrainingError: weights are lost; in every process, before they are saved.
        """
        if logs is None or "loss" not in logs:
            return
        if lost := [name for name in ("loss", "grad_norm") if not math.isfinite(logs.get(name, 0.0))]:
            raise TrainingError(
                f"{self._what}: step {state.global_step}: {' and '.join(lost)} not finite; lower its lr, and run the "
                "command again"
            )
        if self._bar is None:
            return
        metrics = {"lr" if name == "learning_rate" else name: value for name, value in logs.items()}
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **metrics}) + "\n")
        shown = {name: metrics[name] for name in self.SHOWN if isinstance(metrics.get(name), float)}
        self._bar.update(state.global_step, **shown)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
