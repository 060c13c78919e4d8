"""CKD, its baselines and supervised fine-tuning: one Trainer, a teacher signal, an objective.

Rows of a batch have like lengths, and rows of one prompt share its computation (`star_edge.models.packing`). Hidden
states are taken at counted positions only, and the objective sees their logits a chunk at a time, so no (batch,
time, vocabulary) tensor exists. Layers below the first trainable weight get no backward pass.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler
from transformers import Trainer, TrainingArguments

from star_edge.contracts import Checkpoint, DistillConfig, OptimizerConfig, TeacherCache, TuningConfig
from star_edge.data.chat import EncodedExample
from star_edge.distill.chunked import Objective, chunked_objective_sum
from star_edge.distill.objectives import BASELINES, objective_of
from star_edge.distill.training import (
    common_arguments,
    load_trainable,
    rows_per_device,
    run_to_end,
    save_result,
    uses_bfloat16,
)
from star_edge.errors import TrainingError
from star_edge.models.load import tokenizer_fingerprint, tokenizer_folder
from star_edge.models.packing import Batch, Tokens, add_counted_forward, pack
from star_edge.progress import Progress, or_quiet
from star_edge.teacher.cache import check_compatible, open_cache, read_manifest
from star_edge.teacher.signal import BATCH_INPUTS, CachedSignal, LabelSignal, TeacherSignal

FORWARDS_SORTED_TOGETHER = 32
"""Rows of that many forwards are sorted by length together: little padding, and still a fair mix of lengths."""

Row = tuple[Tokens, Tokens]


class LikeLengths(Sampler[int]):
    """Row numbers such that each run of `rows_per_forward` has like lengths and keeps rows of a prompt together.

    The order depends on the seed and the epoch alone.
    """

    def __init__(self, rows: Sequence[Row], rows_per_forward: int, *, seed: int) -> None:
        grouped = itertools.groupby(range(len(rows)), key=lambda number: tuple(rows[number][0]))
        self._groups = [list(numbers) for _, numbers in grouped]
        self._lengths = [len(prompt) + len(completion) for prompt, completion in rows]
        self._size = rows_per_forward
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before every epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        groups = [self._groups[place] for place in torch.randperm(len(self._groups), generator=generator).tolist()]
        forwards: list[list[int]] = []
        left: list[int] = []
        window = max(1, FORWARDS_SORTED_TOGETHER * self._size * len(groups) // max(1, len(self._lengths)))
        for start in range(0, len(groups), window):
            together = sorted(groups[start : start + window], key=lambda group: self._lengths[group[0]])
            numbers = left + [number for group in together for number in group]
            whole = len(numbers) // self._size * self._size
            forwards += [numbers[place : place + self._size] for place in range(0, whole, self._size)]
            left = numbers[whole:]
        for place in torch.randperm(len(forwards), generator=generator).tolist():
            yield from forwards[place]
        yield from left


class DistillTrainer(Trainer):  # type: ignore[misc]
    """Minimises an objective against a teacher signal; cannot tell a cache from a live teacher.

    Args:
        rows: (prompt ids, completion ids); the loss is the mean over all completion tokens of an optimizer step,
            over its accumulation steps and devices alike.
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
        chunk: int,
        pad_id: int,
        cpu_bfloat16: bool = False,
    ) -> None:
        self._cpu_bfloat16 = cpu_bfloat16
        self._rows = rows
        self._signal = signal
        self._objective = objective
        self._chunk = chunk
        self._pad_id = pad_id
        add_counted_forward(model)
        super().__init__(model=model, args=args, data_collator=self._batch, train_dataset=range(len(rows)))
        # The loss is divided by the whole step's counted tokens below, so the Trainer must count them and not
        # divide by the number of accumulation steps.
        self.model_accepts_loss_kwargs = True

    def _batch(self, numbers: Sequence[int]) -> Batch:
        batch = pack([self._rows[number] for number in numbers], pad_id=self._pad_id)
        return batch | {"rows": torch.tensor(numbers)}

    def _get_train_sampler(self, train_dataset: Any = None) -> LikeLengths:
        return LikeLengths(self._rows, self.args.per_device_train_batch_size, seed=self.args.seed)

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """The batch's share of the step's loss: its summed objective over the step's counted tokens.

        Gradients are averaged over devices afterwards, hence the factor of their number.
        """
        teacher_ids, teacher_logprobs = self._signal.for_batch(inputs)
        objective = partial(
            chunked_objective_sum,
            self._objective,
            teacher_ids=teacher_ids,
            teacher_logprobs=teacher_logprobs,
            chunk=self._chunk,
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=self._cpu_bfloat16):
            total: Tensor = model(**{name: inputs[name] for name in BATCH_INPUTS if name in inputs}, then=objective)
        if num_items_in_batch is None:
            num_items_in_batch = self.accelerator.num_processes * max(1, len(inputs["sources"]))
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
) -> Checkpoint:
    """Distil a teacher cache into a student; continues from `out/trainer` when it was cut short.

    Args:
        signal: who speaks of the cache's completions instead of the cache, for example a `LiveSignal`; `ce` asks
            nobody, it learns the completions themselves.
    Raises: TeacherCacheError: the cache is damaged, or not of the student's tokenizer and template.
        TrainingError: the cache has no row.
    """
    loaded = load_trainable(student, config.tuning, seed=seed)
    vocabulary = loaded.model.get_output_embeddings().weight.shape[0]
    tokenizer = tokenizer_fingerprint(tokenizer_folder(student))
    check_compatible(read_manifest(cache.folder), tokenizer, loaded.template, vocabulary)
    rows = open_cache(cache.folder).rows
    return _run(
        loaded.model,
        student,
        [(row.prompt_ids, row.completion_ids) for row in rows],
        LabelSignal() if config.objective == "ce" else signal or CachedSignal(rows),
        objective_of(config),
        config.optimizer,
        out,
        chunk=config.chunk,
        pad_id=loaded.tokenizer.pad_token_id,
        stage="ckd",
        device=device,
        seed=seed,
        progress=or_quiet(progress),
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
) -> Checkpoint:
    """Cross-entropy on the examples' completions; continues from `out/trainer` when it was cut short.

    Raises: TrainingError: no example.
    """
    loaded = load_trainable(student, tuning, seed=seed)
    return _run(
        loaded.model,
        student,
        [(example.prompt_ids, example.completion_ids) for example in encoded],
        LabelSignal(),
        BASELINES["ce"],
        optimizer,
        out,
        chunk=DistillConfig().chunk,
        pad_id=loaded.tokenizer.pad_token_id,
        stage=stage,
        device=device,
        seed=seed,
        progress=or_quiet(progress),
    )


def _run(
    model: Any,
    student: Checkpoint,
    rows: Sequence[Row],
    signal: TeacherSignal,
    objective: Objective,
    optimizer: OptimizerConfig,
    out: Path,
    *,
    chunk: int,
    pad_id: int,
    stage: str,
    device: str,
    seed: int,
    progress: Progress,
) -> Checkpoint:
    if not rows:
        raise TrainingError(f"{stage}: there is no row to learn from; give it more data")
    args = training_arguments(optimizer, out, rows=len(rows), device=device, seed=seed)
    trainer = DistillTrainer(
        model,
        args,
        rows=rows,
        signal=signal,
        objective=objective,
        chunk=chunk,
        pad_id=pad_id,
        cpu_bfloat16=device == "cpu" and uses_bfloat16(optimizer.precision, device),
    )
    run_to_end(trainer, out, what=stage, progress=progress)
    return save_result(trainer, student, out, stage=stage)


def training_arguments(
    optimizer: OptimizerConfig, out: Path, *, rows: int, device: str, seed: int
) -> TrainingArguments:
    """Trainer arguments of a stage over `rows` rows: cosine decay after a linear warm-up, both over its real steps.

    Raises: TrainingError: the devices cannot share `rows_per_step` evenly.
    """
    rows_per_forward, forwards = rows_per_device(
        optimizer.rows_per_step, optimizer.rows_per_forward, what="optimizer.rows_per_step"
    )
    steps = optimizer.max_steps or math.ceil(math.ceil(rows / optimizer.rows_per_step) * optimizer.epochs)
    args = TrainingArguments(
        **common_arguments(
            out, device=device, seed=seed, save_every=optimizer.save_every, precision=optimizer.precision
        ),
        per_device_train_batch_size=rows_per_forward,
        gradient_accumulation_steps=forwards,
        learning_rate=optimizer.lr,
        weight_decay=optimizer.weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=round(optimizer.warmup_share * steps),
        num_train_epochs=optimizer.epochs,
        max_steps=optimizer.max_steps or -1,
        average_tokens_across_devices=True,
        label_names=["labels"],
    )
    args._n_gpu = 1  # several GPUs are used through torchrun or accelerate, never through DataParallel
    return args
