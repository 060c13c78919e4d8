"""CKD, its baselines and supervised fine-tuning: one Trainer, a teacher signal, an objective.

A batch of the Trainer is a device's share of one optimizer step. It goes through the model in parts without padding,
in which rows of one prompt share its computation (`star_edge.models.packing`). Hidden states are taken at counted
positions only, and the objective sees their logits a chunk at a time, so no (time, vocabulary) tensor exists. Layers
below the first trainable weight get no backward pass.

Weights and optimizer states are float32; under autocast every forward multiplies bfloat16 copies of the weights.
Making the copies is a thousandth of the work of a forward of a few thousand tokens, and checkpoints stay exact.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainingArguments

from star_edge.contracts import Checkpoint, DistillConfig, OptimizerConfig, TeacherCache, TuningConfig
from star_edge.data.chat import EncodedExample
from star_edge.distill.batches import Row, ShuffledPrompts, by_rows, by_tokens
from star_edge.distill.chunked import Objective, chunked_objective_sum
from star_edge.distill.objectives import BASELINES, objective_of
from star_edge.distill.time_budget import TimeBudget, keep_pace
from star_edge.distill.training import (
    common_arguments,
    load_trainable,
    rows_per_device,
    run_to_end,
    save_result,
    shard_exactly,
    uses_bfloat16,
)
from star_edge.distill.watch import MakeWatch
from star_edge.errors import TrainingError
from star_edge.models.compiled import compile_layers
from star_edge.models.load import LoadedModel, tokenizer_fingerprint, tokenizer_folder
from star_edge.models.packing import MODEL_INPUTS, add_counted_forward, pack
from star_edge.progress import Progress, or_quiet
from star_edge.teacher.cache import check_compatible, open_cache, read_manifest
from star_edge.teacher.signal import CachedSignal, LabelSignal, TeacherSignal

SECTIONS = {"warmup": "adapt.warmup", "ckd": "distill.optimizer"}
"""Where a stage of a run has its optimizer in the recipe."""
Batch = dict[str, Any]
"""What `pack` makes of some rows, and `rows`, their numbers."""


class DistillTrainer(Trainer):  # type: ignore[misc]
    """Minimises an objective against a teacher signal; cannot tell a cache from a live teacher.

    Args:
        rows: (prompt ids, completion ids); the loss is the mean over all completion tokens of an optimizer step,
            over its forwards and devices alike.
        optimizer: how many rows or tokens a forward takes, how many minutes there are, and whether to compile.
        cpu_bfloat16: multiply in bfloat16 on a CPU; on a GPU `args.bf16` does it.
    """

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        *,
        rows: Sequence[Row],
        signal: TeacherSignal,
        objective: Objective,
        optimizer: OptimizerConfig,
        chunk: int,
        cpu_bfloat16: bool = False,
    ) -> None:
        self._cpu_bfloat16 = cpu_bfloat16
        self._rows = rows
        self._signal = signal
        self._objective = objective
        self._config = optimizer
        self._chunk = chunk
        self._compiles = optimizer.compile == "auto" and args.device.type == "cuda"
        add_counted_forward(model)
        if self._compiles:
            compile_layers(model)
        super().__init__(model=model, args=args, data_collator=self._step, train_dataset=range(len(rows) + 1))
        shortest = min(range(len(rows)), key=lambda number: len(rows[number][0]) + len(rows[number][1]))
        self._spare = self._packed([shortest])
        if self.is_fsdp_enabled:
            shard_exactly(self.accelerator.state.fsdp_plugin, bfloat16=args.bf16)
        # The loss is divided by the whole step's counted tokens below, so the Trainer must not divide it again.
        self.model_accepts_loss_kwargs = True
        self._counted = 0
        self._budget = None if optimizer.minutes is None else TimeBudget(optimizer.minutes, agree=self._mean)
        if self._budget is not None:
            self.add_callback(self._budget)

    def _step(self, numbers: Sequence[int]) -> dict[str, list[Batch]]:
        """A device's share of a step, cut into forwards; none when an epoch's last step has no row left for it."""
        numbers = [number for number in numbers if number < len(self._rows)]
        if not numbers:
            return {"forwards": []}
        if self._config.tokens_per_forward is None:
            parts = by_rows(numbers, self._config.rows_per_forward)
        else:
            parts = by_tokens(self._rows, numbers, self._config.tokens_per_forward)
        return {"forwards": [self._packed(part) for part in parts]}

    def _packed(self, numbers: list[int]) -> Batch:
        return pack([self._rows[number] for number in numbers]) | {"rows": numbers}

    def _get_train_sampler(self, train_dataset: Any = None) -> ShuffledPrompts:
        return ShuffledPrompts(self._rows, rows_per_step=self._config.rows_per_step, seed=self.args.seed)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule of the arguments; within a time budget it ends with the time, if that is earlier."""
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if self._budget is not None:
            keep_pace(scheduler, self._budget.share, num_training_steps)
        return scheduler

    def log(self, logs: dict[str, float], *args: Any, **given: Any) -> None:
        """A step's metrics, with the tokens that counted in its loss, over all devices."""
        super().log(logs | {"counted_tokens": self._counted} if "loss" in logs else logs, *args, **given)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not estimated: the Trainer's rule knows neither packed rows nor uncounted positions."""
        return 0

    def training_step(
        self, model: Any, inputs: dict[str, list[Batch]], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward of a device's share of a step; gradients are exchanged in its last backward.

        Returns: scalar, this device's share of the step's loss.
        """
        forwards = inputs["forwards"]
        counted, most = self._over_devices(sum(len(batch["labels"]) for batch in forwards), len(forwards))
        self._counted = counted
        work: list[tuple[Batch, float]] = [(batch, counted) for batch in forwards]
        # Each device takes part when gradients are exchanged; under FSDP in every forward too, which gathers weights.
        needed = most if self.is_fsdp_enabled else 1
        work = [(self._spare, math.inf)] * (needed - len(forwards)) + work  # spare ones count for nothing
        total = torch.zeros((), device=self.args.device)
        for number, (batch, positions) in enumerate(work, start=1):
            with nullcontext() if number == len(work) else self.accelerator.no_sync(model):
                total += super().training_step(model, batch, positions)
        return total

    def _over_devices(self, counted: int, forwards: int) -> tuple[int, int]:
        """Counted positions of the step on all devices, and the most forwards that one of them needs."""
        if self.accelerator.num_processes == 1:
            return counted, forwards
        mine = torch.tensor([[counted, forwards]], device=self.accelerator.device)
        everyone = self.accelerator.gather(mine)
        return int(everyone[:, 0].sum()), int(everyone[:, 1].max())

    def _mean(self, value: float) -> float:
        """A number that is the same on all devices."""
        if self.accelerator.num_processes == 1:
            return value
        return float(self.accelerator.reduce(torch.tensor(value, device=self.accelerator.device), reduction="mean"))

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: float = 1
    ) -> Tensor:
        """A forward's share of the step's loss: its summed objective over the step's counted positions.

        Gradients are averaged over devices afterwards, hence the factor of their number.
        """
        teacher_ids, teacher_logprobs = self._signal.for_batch(inputs)
        objective = partial(
            chunked_objective_sum,
            self._objective,
            teacher_ids=teacher_ids,
            teacher_logprobs=teacher_logprobs,
            chunk=self._chunk,
            compiled=self._compiles,
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=self._cpu_bfloat16):
            total: Tensor = model(**{name: inputs[name] for name in MODEL_INPUTS}, then=objective)
        return total.mul(self.accelerator.num_processes / num_items_in_batch)


def run_ckd(
    config: DistillConfig,
    student: Checkpoint,
    cache: TeacherCache,
    out: Path,
    *,
    device: str,
    seed: int,
    progress: Progress | None = None,
    signal: TeacherSignal | None = None,
    watch: MakeWatch | None = None,
) -> Checkpoint:
    """Distil a teacher cache into a student; continues from `out/trainer` when it was cut short.

    Args:
        signal: who speaks of the cache's completions instead of the cache, for example a `LiveSignal`; `ce` asks
            nobody, it learns the completions themselves.
        watch: scores the model as it trains, and decides which weights are kept.
    Raises: TeacherCacheError: the cache is damaged, or not of the student's tokenizer and template.
        TrainingError: the cache has no row.
    """
    loaded = load_trainable(student, config.tuning, seed=seed)
    vocabulary = loaded.model.get_output_embeddings().weight.shape[0]
    tokenizer = tokenizer_fingerprint(tokenizer_folder(student))
    check_compatible(read_manifest(cache.folder), tokenizer, loaded.template, vocabulary)
    rows = open_cache(cache.folder).rows
    return _run(
        loaded,
        student,
        [(row.prompt_ids, row.completion_ids) for row in rows],
        LabelSignal() if config.objective == "ce" else signal or CachedSignal(rows),
        objective_of(config),
        config.optimizer,
        out,
        chunk=config.chunk,
        stage="ckd",
        device=device,
        seed=seed,
        progress=or_quiet(progress),
        watch=watch,
    )


def run_sft(
    optimizer: OptimizerConfig,
    tuning: TuningConfig,
    student: Checkpoint,
    encoded: Sequence[EncodedExample],
    out: Path,
    *,
    stage: str,
    device: str,
    seed: int,
    progress: Progress | None = None,
    watch: MakeWatch | None = None,
) -> Checkpoint:
    """Cross-entropy on the examples' completions; continues from `out/trainer` when it was cut short.

    Raises: TrainingError: no example.
    """
    loaded = load_trainable(student, tuning, seed=seed)
    return _run(
        loaded,
        student,
        [(example.prompt_ids, example.completion_ids) for example in encoded],
        LabelSignal(),
        BASELINES["ce"],
        optimizer,
        out,
        chunk=DistillConfig().chunk,
        stage=stage,
        device=device,
        seed=seed,
        progress=or_quiet(progress),
        watch=watch,
    )


def _run(
    loaded: LoadedModel,
    student: Checkpoint,
    rows: Sequence[Row],
    signal: TeacherSignal,
    objective: Objective,
    optimizer: OptimizerConfig,
    out: Path,
    *,
    chunk: int,
    stage: str,
    device: str,
    seed: int,
    progress: Progress,
    watch: MakeWatch | None,
) -> Checkpoint:
    if not rows:
        raise TrainingError(f"{stage}: there is no row to learn from; give it more data")
    section = SECTIONS.get(stage, "optimizer")
    args = training_arguments(optimizer, out, rows=len(rows), device=device, seed=seed, section=section)
    trainer = DistillTrainer(
        loaded.model,
        args,
        rows=rows,
        signal=signal,
        objective=objective,
        optimizer=optimizer,
        chunk=chunk,
        cpu_bfloat16=device == "cpu" and uses_bfloat16(optimizer.precision, device),
    )
    run_to_end(trainer, out, what=stage, progress=progress, watch=watch and watch(loaded, out))
    return save_result(trainer, student, out, stage=stage)


def training_arguments(
    optimizer: OptimizerConfig, out: Path, *, rows: int, device: str, seed: int, section: str = "optimizer"
) -> TrainingArguments:
    """Trainer arguments of a stage over `rows` rows: cosine decay after a linear warm-up, both over its real steps.

    Args:
        section: what an error calls `optimizer`.
    Raises: TrainingError: the devices cannot share `rows_per_step` evenly.
    """
    share, _ = rows_per_device(optimizer.rows_per_step, optimizer.rows_per_step, what=f"{section}.rows_per_step")
    steps = optimizer.max_steps or math.ceil(math.ceil(rows / optimizer.rows_per_step) * optimizer.epochs)
    args = TrainingArguments(
        **common_arguments(
            out, device=device, seed=seed, save_every=optimizer.save_every, precision=optimizer.precision
        ),
        per_device_train_batch_size=share,
        learning_rate=optimizer.lr,
        weight_decay=optimizer.weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=round(optimizer.warmup_share * steps),
        num_train_epochs=optimizer.epochs,
        max_steps=optimizer.max_steps or -1,
        dataloader_num_workers=packing_workers(device),
    )
    args._n_gpu = 1  # several GPUs are used through torchrun or accelerate, never through DataParallel
    return args


def packing_workers(device: str) -> int:
    """Processes that pack the next step while a GPU computes this one; beside a CPU's own work they save nothing.

    They are forked or not there at all: the trainer that they pack for cannot be pickled.
    """
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    return int(device != "cpu" and method == "fork")
