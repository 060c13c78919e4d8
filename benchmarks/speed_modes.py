"""The trainings that `ckd_speed.py` compares, and what is measured of each.

ours        packed forwards, CKD at counted positions from a cache (`star_edge.distill`)
ours-rows   the same, with as many rows of a forward as `published` has: what to compare its memory by
published   rows padded to the longest, each with its own prompt; teacher in memory; log-softmax of teacher and student
            over the whole vocabulary at every position
trl-sft     TRL's SFTTrainer with packing: cross-entropy on the same rows, no teacher at all
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from ckd_speed import peak_memory_gib
from speed_meter import Meter
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, Qwen2Config, Trainer, TrainingArguments

import star_edge.distill.trainer as ours
from star_edge.contracts import OptimizerConfig
from star_edge.distill.ckd_loss import Ckd, tokens_outside
from star_edge.distill.trainer import DistillTrainer, training_arguments
from star_edge.models.packed_attention import BLOCK, uses_flex
from star_edge.teacher.shards import CacheRow
from star_edge.teacher.signal import CachedSignal

H200_BF16_FLOPS = 989e12
"""Dense bfloat16 peak of an H100 or H200 SXM (NVIDIA's data sheet)."""


@dataclass(frozen=True)
class Job:
    """What one measurement is about; `student` and `teacher` are folders, or None for the architecture alone."""

    rows: Sequence[CacheRow]
    student: Path | None
    teacher: Path | None
    sizes: str
    device: str
    rows_per_step: int
    tokens_per_forward: int | None
    trl_tokens: int
    padded_rows: int
    warmup: int
    steps: int
    profiled: int
    seconds: float
    compile: str
    chunk: int
    out: Path


SIZES: dict[str, dict[str, Any]] = {
    "0.5b": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14},
    "1.5b": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
}


def model_of(folder: Path | None, sizes: str, *, dtype: torch.dtype, device: str) -> Any:
    """A model from a folder, or Qwen2.5's architecture of that size with random weights: speed does not mind."""
    if folder is not None:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").to(device)
    vocabulary = 800 if sizes == "tiny" else 151_936
    config = Qwen2Config(vocab_size=vocabulary, num_key_value_heads=2, tie_word_embeddings=True, **SIZES[sizes])
    torch.manual_seed(0)
    with torch.device(device):  # a processor draws the weights of 1.5 B for minutes
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")


def arguments(job: Job, kind: type[TrainingArguments] = TrainingArguments, **more: Any) -> Any:
    """What all modes share: steps, AdamW, bfloat16 autocast over float32 weights, nothing saved."""
    args = kind(
        output_dir=str(job.out),
        max_steps=job.warmup + job.steps + job.profiled,
        learning_rate=1e-6,
        bf16=job.device != "cpu",
        use_cpu=job.device == "cpu",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        **more,
    )
    args._n_gpu = min(1, args._n_gpu)
    return args


def train_ours_by_rows(job: Job, meter: Meter) -> Any:
    """`train_ours`, its forwards filled by rows."""
    return train_ours(replace(job, tokens_per_forward=None), meter)


def train_ours(job: Job, meter: Meter) -> Any:
    """`star_edge distill`'s own trainer."""
    config = OptimizerConfig(
        lr=1e-6,
        rows_per_step=job.rows_per_step,
        rows_per_forward=job.padded_rows,
        tokens_per_forward=job.tokens_per_forward,
        max_steps=job.warmup + job.steps + job.profiled,
        precision="auto" if job.device != "cpu" else "float32",
        compile=job.compile,  # type: ignore[arg-type]
    )
    args = training_arguments(config, job.out, rows=len(job.rows), device=job.device, seed=0)
    args.save_strategy = "no"
    model = model_of(job.student, job.sizes, dtype=torch.float32, device=job.device)
    rows = [(row.prompt_ids, row.completion_ids) for row in job.rows]
    trainer = DistillTrainer(
        model,
        args,
        rows=rows,
        signal=CachedSignal(job.rows),
        objective=Ckd(),
        optimizer=config,
        chunk=job.chunk,
    )
    inner = trainer.compute_loss

    def counting(model: Any, inputs: Any, **given: Any) -> Any:
        tokens = inputs["input_ids"].shape[1]
        row_tokens = sum(len(rows[number][0]) + len(rows[number][1]) for number in inputs["rows"])
        size = tokens + (-tokens % BLOCK if uses_flex(args.device) else 0)
        meter.count(tokens=tokens, row_tokens=row_tokens, counted=len(inputs["labels"]), size=size)
        return inner(model, inputs, **given)

    trainer.compute_loss = counting
    meter.phases.wrap(ours, "chunked_objective_sum", "loss")
    return trainer


class Padded:
    """Rows padded to the longest: input ids, attention mask and labels."""

    def __init__(self, rows: Sequence[CacheRow]) -> None:
        self._rows = rows

    def __call__(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        columns: list[list[Tensor]] = [[], [], []]
        for number in numbers:
            row = self._rows[number]
            ids = torch.tensor([*row.prompt_ids, *row.completion_ids])
            labels = ids.clone()
            labels[: len(row.prompt_ids)] = -100
            for column, values in zip(columns, (ids, torch.ones_like(ids), labels), strict=True):
                column.append(values)
        return {
            name: pad_sequence(column, batch_first=True, padding_value=value)
            for name, column, value in zip(
                ("input_ids", "attention_mask", "labels"), columns, (0, 0, -100), strict=True
            )
        }


class Published(Trainer):
    """CKD as it was published: both models' log-softmax over all positions and the whole vocabulary."""

    def __init__(self, teacher: Any, meter: Meter, *, top_k: int, **given: Any) -> None:
        super().__init__(**given)
        self._teacher = teacher.to(self.args.device).eval().requires_grad_(False)
        self._meter = meter
        self._k = top_k
        self.model_accepts_loss_kwargs = True

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        labels, mask = inputs["labels"], inputs["attention_mask"]
        self._meter.count(tokens=mask.sum(), row_tokens=mask.sum(), counted=(labels != -100).sum(), size=labels.numel())
        phases, given = self._meter.phases, {"input_ids": inputs["input_ids"], "attention_mask": mask}
        with torch.no_grad(), phases("teacher"):
            teacher = self._teacher(**given).logits.float().log_softmax(dim=-1)
            top, ids = teacher[:, :-1].topk(self._k, dim=-1)
        logits = model(**given).logits
        with phases("loss"):
            return published_loss(logits, top, ids, labels[:, 1:]) / num_items_in_batch


def published_loss(logits: Tensor, teacher_logprobs: Tensor, teacher_ids: Tensor, labels: Tensor) -> Tensor:
    """Summed CKD of (B, T, V) logits against (B, T - 1, K) teacher tokens, at labels that are not -100."""
    student = logits.float().log_softmax(dim=-1)[:, :-1]
    divergence = (teacher_logprobs.exp() * (teacher_logprobs - student.gather(-1, teacher_ids))).sum(-1)
    likely, tokens = student.topk(min(100, student.shape[-1]), dim=-1)
    outside = tokens_outside(tokens.flatten(0, 1), teacher_ids.flatten(0, 1)).view(tokens.shape)
    tail = (likely.exp() * outside).sum(-1)
    return ((divergence + 10.0 * tail) * (labels != -100)).sum()


def train_published(job: Job, meter: Meter) -> Any:
    """Rows padded to the longest of a forward, in random order."""
    args = arguments(
        job,
        per_device_train_batch_size=job.padded_rows,
        gradient_accumulation_steps=max(1, job.rows_per_step // job.padded_rows),
    )
    return Published(
        model_of(job.teacher, "tiny" if job.sizes == "tiny" else "1.5b", dtype=torch.bfloat16, device=job.device),
        meter,
        top_k=job.rows[0].topk_ids.shape[1],
        model=model_of(job.student, job.sizes, dtype=torch.float32, device=job.device),
        args=args,
        data_collator=Padded(job.rows),
        train_dataset=range(len(job.rows)),
    )


def train_trl_sft(job: Job, meter: Meter) -> Any:
    """TRL's packing into sequences of `trl_tokens`; a step has about as many tokens as the others' rows."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    lengths = [len(row.prompt_ids) + len(row.completion_ids) for row in job.rows]
    per_step = sum(lengths) / len(lengths) * job.rows_per_step / job.trl_tokens
    args = arguments(
        job,
        SFTConfig,
        packing=True,
        completion_only_loss=True,
        max_length=job.trl_tokens,
        gradient_checkpointing=False,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=max(1, round(per_step)),
    )
    args.remove_unused_columns = True
    data = Dataset.from_list(
        [
            {
                "input_ids": [*row.prompt_ids, *row.completion_ids],
                "completion_mask": [0] * len(row.prompt_ids) + [1] * len(row.completion_ids),
            }
            for row in job.rows
        ]
    )
    backend = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")
    model = model_of(job.student, job.sizes, dtype=torch.float32, device=job.device)
    trainer = SFTTrainer(model, args=args, train_dataset=data, processing_class=tokenizer)
    inner = trainer.compute_loss

    def counting(model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
        size = inputs["input_ids"].numel()
        meter.count(tokens=size, row_tokens=size, counted=(inputs["labels"] != -100).sum(), size=size)
        return inner(model, inputs, *given, **named)

    trainer.compute_loss = counting
    return trainer


MODES = {"ours": train_ours, "ours-rows": train_ours_by_rows, "published": train_published, "trl-sft": train_trl_sft}


def measure(mode: str, job: Job) -> dict[str, Any]:
    """Train in one mode and say how it went."""
    meter = Meter(job.device, warmup=job.warmup, steps=job.steps, profiled=job.profiled, seconds=job.seconds)
    trainer = MODES[mode](job, meter)
    meter.attach(trainer)
    trainer.train()
    head = trainer.accelerator.unwrap_model(trainer.model).get_output_embeddings().weight.numel()
    body = sum(weight.numel() for weight in trainer.model.parameters()) - head
    return summary(mode, job, meter, body, head)


def summary(mode: str, job: Job, meter: Meter, body: int, head: int) -> dict[str, Any]:
    """Rates over all timed steps together; `model_flops_utilisation` is null on a CPU."""
    seconds = sum(time for time, _ in meter.timed)
    counts = [count for _, count in meter.timed]
    tokens, counted = sum(c.tokens for c in counts), sum(c.counted for c in counts)
    per_second = 1 / seconds if seconds else 0.0
    flops = 6 * (body * tokens + head * counted)
    on_gpu = job.device != "cpu"
    return {
        "mode": mode,
        "steps": len(counts),
        "forwards": meter.forwards,
        "seconds": seconds,
        "seconds_a_step": [round(time, 4) for time, _ in meter.timed],
        "tokens_per_s": tokens * per_second,
        "row_tokens_per_s": sum(c.row_tokens for c in counts) * per_second,
        "counted_per_s": counted * per_second,
        "padding_share": sum(c.padding for c in counts) / max(1, tokens + sum(c.padding for c in counts)),
        "counted_share": counted / max(1, tokens),
        "peak_memory_gib": peak_memory_gib(job.device),
        "model_flops_utilisation": flops * per_second / H200_BF16_FLOPS if on_gpu else None,
        "shares": meter.phases.shares(),
        "first_losses": meter.losses[:2],
        "last_loss": meter.losses[-1] if meter.losses else None,
        "body_parameters": body,
        "head_parameters": head,
    }
