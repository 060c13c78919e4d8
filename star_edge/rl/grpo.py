"""TRL's GRPO trainer with dynamic filtering, a shared prefill, and prompts computed once a group.

A group (all completions of one prompt) counts only when its mean reward lies inside an open interval and its
rewards differ; sampling goes on with fresh prompts until the step has its groups. Groups that do not count cost no
update. Source: STAR (arXiv 2602.03022); the KL term is TRL's k3 estimator, which agrees with the published k2 to
first order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import Tensor

from star_edge.contracts import SimRlConfig
from star_edge.distill.batches import Row, by_rows, by_tokens
from star_edge.distill.time_budget import TimeBudget
from star_edge.distill.training import uses_bfloat16
from star_edge.errors import RuntimeMissing
from star_edge.models.load import LoadedModel
from star_edge.models.packing import add_counted_forward, pack
from star_edge.models.sampling import sample
from star_edge.progress import Progress
from star_edge.rl.groups import Filled, Group, PromptRow, fill, fresh_rows
from star_edge.rl.policy import PolicyAsItCame, token_logprobs

try:
    from trl import GRPOTrainer
    from trl.trainer.utils import RepeatSampler
except ImportError as error:
    raise RuntimeMissing.for_extra("trl", "train") from error

ROWS_SAMPLED_TOGETHER = 64
Batch = dict[str, Tensor]


class PromptOrder(RepeatSampler):  # type: ignore[misc]
    """TRL's order of prompts, decided by the seed and the epoch: TRL's own goes on from the epoch before, which a
    resumed run has not seen."""

    @classmethod
    def like(cls, sampler: RepeatSampler) -> PromptOrder:
        """The same sampler, but for the order of later epochs."""
        return cls(
            sampler.data_source,
            sampler.mini_repeat_count,
            sampler.batch_size,
            sampler.repeat_count,
            sampler.shuffle,
            sampler.seed,
        )

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before every epoch."""
        if self.shuffle:
            self.generator.manual_seed(self.seed + epoch)


class SimRlTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPO that samples until its batch holds groups worth learning from.

    Args:
        loaded: the policy, its trainable weights set; the reference is this policy as it is now.
        given: the remaining arguments of `GRPOTrainer`.
    """

    def __init__(self, loaded: LoadedModel, config: SimRlConfig, *, progress: Progress, **given: Any) -> None:
        super().__init__(model=loaded.model, processing_class=loaded.tokenizer, **given)
        self._config = config
        self._progress = progress
        self._filled: Filled | None = None
        self._buffered_inputs: list[Batch | None] | None = None
        self.eos_token_ids = list(loaded.stop_token_ids)
        add_counted_forward(loaded.model)
        if config.minutes is not None:
            self.add_callback(TimeBudget(config.minutes, agree=self._mean_over_processes))
        self.beta = config.beta
        self.ref_model = PolicyAsItCame(loaded.model) if config.beta else None

    # ------------------------------------------------------------------------------------------------- sampling

    def _generate_and_score_completions(self, inputs: list[PromptRow]) -> Batch | None:
        """Sample until the batch is full, then let TRL make tensors and advantages of the groups that count."""
        config, step = self._config, self.state.global_step
        key = f"{self.args.seed} {step} {self.accelerator.process_index}"
        data = self.train_dataset
        low, high = config.group_limits()
        filled = fill(
            inputs[:: self.num_generations],
            self._draw,
            lambda count, number: [data[row] for row in fresh_rows(len(data), count, key=f"{key} {number}")],
            low=low,
            high=high,
            max_resamples=config.max_resamples,
            most=lambda number: int(self._over_processes(number).max()),
        )
        # Every process must hold the same number of rows, for TRL gathers them.
        kept = filled.kept[: int(self._over_processes(len(filled.kept)).min())]
        wanted = len(inputs) // self.num_generations
        if len(kept) < wanted:
            self._progress.line(
                f"  step {step + 1}: {len(kept)} of {wanted} groups can teach after {filled.rounds} rounds of sampling"
            )
        self._filled = replace(filled, kept=kept)
        batch = super()._generate_and_score_completions(self._repeated(kept)) if kept else None
        self._note(filled)
        return batch

    def _draw(self, rows: Sequence[PromptRow], round_number: int) -> list[Group]:
        self._round = round_number
        n = self.num_generations
        prompts = [row["prompt"] for row in rows for _ in range(n)]
        prompt_ids, completion_ids, _, _, logprobs, *_ = super()._generate(prompts)
        texts = [self._text_of(ids) for ids in completion_ids]
        targets, tools = ([row[name] for row in rows for _ in range(n)] for name in ("target", "tools"))
        rewards = self.reward_funcs[0](prompts=prompts, completions=texts, target=targets, tools=tools)
        return [
            Group(
                row,
                prompt_ids[place],
                completion_ids[place : place + n],
                logprobs and logprobs[place : place + n],
                texts[place : place + n],
                rewards[place : place + n],
            )
            for row, place in zip(rows, range(0, len(prompts), n), strict=True)
        ]

    def _text_of(self, completion_ids: Sequence[int]) -> str:
        """A completion's text, without the token that ends the turn."""
        ids = list(completion_ids)
        if ids and ids[-1] in self.eos_token_ids:
            ids.pop()
        text: str = self.processing_class.decode(ids, skip_special_tokens=False)
        return text

    def greedy_texts(self, prompts: Sequence[tuple[str, str]], max_new_tokens: int) -> list[str]:
        """Greedy answers by the vLLM beside the trainer, with the weights as they are now.

        Args:
            prompts: ids and rendered texts.
        """
        vllm = self.vllm_generation
        vllm.sync_weights()
        self._last_loaded_step = self.state.global_step
        sampling = vllm.generation_kwargs
        vllm.generation_kwargs = {**(sampling or {}), "temperature": 0.0, "max_tokens": max_new_tokens}
        try:
            ids = self._tokenize_prompts([text for _, text in prompts])[0]
            completions = vllm.generate(prompts=ids, images=None, num_generations=1)[1]
        finally:
            vllm.generation_kwargs = sampling
        return [self._text_of(completion) for completion in completions]

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, num_generations: int, **given: Any
    ) -> tuple[list[list[int]], Any]:
        """Completions of each prompt from one prefill; vLLM and sharded policies sample as TRL does."""
        if self.use_vllm or self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            done: tuple[list[list[int]], Any] = super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, num_generations, **given
            )
            return done
        model = self.accelerator.unwrap_model(self.model_wrapped)
        policy = LoadedModel(model, self.processing_class, "", tuple(self.eos_token_ids))
        generator = torch.Generator(policy.device).manual_seed(self._draw_seed())
        prompts = prompt_ids[::num_generations]
        by_length = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
        size = max(1, ROWS_SAMPLED_TOGETHER // num_generations)
        completions: dict[int, list[list[int]]] = {}
        for start in range(0, len(by_length), size):
            numbers = by_length[start : start + size]
            samples = sample(
                policy,
                [prompts[number] for number in numbers],
                copies=num_generations,
                temperature=self.temperature,
                max_new_tokens=self.max_completion_length,
                generator=generator,
            )
            completions |= {
                number: [list(one.ids) for one in drawn] for number, drawn in zip(numbers, samples, strict=True)
            }
        return [ids for number in range(len(prompts)) for ids in completions[number]], None

    def _draw_seed(self) -> int:
        """Draws depend on the seed, the step, the process and the round, so a resumed run makes the same."""
        numbers = (self.args.seed, self.state.global_step, self.accelerator.process_index, self._round)
        return hash(numbers) % 2**63

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Prompts are rendered text already: their special tokens are in it."""
        return self.processing_class(text=prompts, add_special_tokens=False)["input_ids"], None, {}

    def _mean_over_processes(self, value: float) -> float:
        """A number that is the same on all processes."""
        mine = torch.tensor(value, device=self.accelerator.device)
        return float(self.accelerator.reduce(mine, reduction="mean"))

    def _over_processes(self, number: int) -> Tensor:
        gathered: Tensor = self.accelerator.gather(torch.tensor([number], device=self.accelerator.device))
        return gathered

    # ----------------------------------------------------------------- what TRL would do again for the kept groups

    def _repeated(self, groups: Sequence[Group]) -> list[PromptRow]:
        return [group.row for group in groups for _ in range(self.num_generations)]

    def _generate(self, prompts: list[str]) -> tuple[Any, ...]:
        """The completions that were drawn, in TRL's form: ids, tool mask, texts, log-probabilities, extras, images."""
        assert self._filled is not None
        groups = self._filled.kept
        prompt_ids = [group.prompt_ids for group in groups for _ in range(self.num_generations)]
        completion_ids = [ids for group in groups for ids in group.completion_ids]
        logprobs = [one for group in groups for one in group.sampler_logprobs or ()]
        texts = [text for group in groups for text in group.texts]
        return prompt_ids, completion_ids, None, texts, logprobs or None, {}, None, []

    def _calculate_rewards(self, *_: Any) -> Tensor:
        """The rewards that decided which groups count, over all processes: (rows, 1)."""
        assert self._filled is not None
        rewards = [[reward] for group in self._filled.kept for reward in group.rewards]
        gathered: Tensor = self.accelerator.gather(torch.tensor(rewards, device=self.accelerator.device))
        return gathered

    def _note(self, filled: Filled) -> None:
        """Metrics over everything sampled, the groups that do not count included."""
        metrics = self._metrics["train"]
        for name in [name for name in metrics if name.startswith(("rewards/", "completions/", "frac_"))]:
            del metrics[name]
        metrics["reward_of_kept"] = metrics.pop("reward", [])
        names = ("reward", "groups_kept", "malformed", "completion_length", "sampling_rounds")
        numbers = (filled.mean_reward, filled.groups_kept, filled.malformed, filled.mean_length, filled.rounds)
        over_processes = self.accelerator.gather(torch.tensor([numbers], device=self.accelerator.device))
        metrics.update(zip(names, over_processes.mean(dim=0)[:, None].tolist(), strict=True))

    # --------------------------------------------------------------------------------------------------- update

    def _prepare_inputs(self, generation_batch: Any) -> Batch | None:
        """The rows of one forward. Unlike TRL's, groups stay together and a batch may be smaller than planned."""
        parts = self.args.steps_per_generation
        if self._step % parts == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = split_rows(
                batch, parts, most_tokens=self._config.tokens_per_forward, longest=self._longest
            )
        rows: Batch | None = self._buffered_inputs[self._step % parts]
        return rows

    def _longest(self, lengths: Tensor) -> Tensor:
        """The largest over all processes of each number."""
        gathered: Tensor = self.accelerator.gather(lengths.to(self.accelerator.device)[None])
        return gathered.amax(dim=0)

    def _get_train_sampler(self, dataset: Any = None) -> RepeatSampler:
        return PromptOrder.like(super()._get_train_sampler(dataset))

    def compute_loss(self, model: Any, inputs: Batch | None, **given: Any) -> Tensor:
        """TRL's loss of the part, weighed so that all rows of the step count the same; an empty part costs nothing."""
        if inputs is None:
            return torch.zeros((), device=self.accelerator.device, requires_grad=True)
        loss: Tensor = super().compute_loss(model, inputs, **given) * inputs["weight"]
        return loss

    def floating_point_ops(self, inputs: Any) -> int:
        """Not estimated: the Trainer would warn that a list of rows has no token count."""
        return 0

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **ignored: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        """(B, T) ids and mask -> (B, logits_to_keep) log-probabilities and, if wanted, entropies of the completions."""
        counts = attention_mask[:, -logits_to_keep:].bool()
        rows = rows_of(input_ids, attention_mask, logits_to_keep)
        most_tokens = self._config.tokens_per_forward
        if batch_size is None:
            parts = [list(range(len(rows)))]  # the rows of an update's forward
        elif most_tokens is None:
            parts = by_rows(range(len(rows)), batch_size)
        else:
            parts = by_tokens(rows, range(len(rows)), most_tokens)
        pieces = [self._logprobs_of(model, [rows[n] for n in part], with_entropy=compute_entropy) for part in parts]
        order = torch.tensor([number for part in parts for number in part]).argsort()
        lengths = [len(rows[number][1]) for part in parts for number in part]
        logprobs, entropies = (
            torch.zeros(counts.shape, device=counts.device).masked_scatter(counts, reordered(column, lengths, order))
            for column in zip(*pieces, strict=True)
        )
        return logprobs, entropies if compute_entropy else None, None

    def _autocast(self) -> Any:
        """On a CPU only losses are computed in bfloat16: sampling would convert all weights again for every token."""
        if self.accelerator.device.type == "cpu":
            return torch.autocast("cpu", torch.bfloat16, enabled=uses_bfloat16(self._config.precision, "cpu"))
        return self.accelerator.autocast()

    def _logprobs_of(self, model: Any, rows: Sequence[Row], *, with_entropy: bool) -> tuple[Tensor, Tensor]:
        batch = {name: tensor.to(self.accelerator.device) for name, tensor in pack(rows).items()}
        labels = batch.pop("labels")
        then = partial(token_logprobs, labels=labels, temperature=self.temperature, with_entropy=with_entropy)
        with self._autocast():
            result: tuple[Tensor, Tensor] = model(**batch, then=then)
        return result


def rows_of(input_ids: Tensor, attention_mask: Tensor, completion_length: int) -> list[Row]:
    """Padded (B, T) ids, the last `completion_length` of them completions -> rows without padding."""
    # In one copy: from a GPU each of these small slices would be waited for.
    ids, counts = input_ids.cpu(), attention_mask.bool().cpu()
    cut = ids.shape[1] - completion_length
    return [
        (row[:cut][mask[:cut]].tolist(), row[cut:][mask[cut:]].tolist()) for row, mask in zip(ids, counts, strict=True)
    ]


def _as_long_as(batch: Batch, longest: Callable[[Tensor], Tensor]) -> list[Row]:
    """Rows of other tokens, as long as the longest of all processes; neighbours share a prompt where these do."""
    ids, mask = batch["prompt_ids"], batch["prompt_mask"]
    is_new = ((ids != ids.roll(1, 0)) | (mask != mask.roll(1, 0))).any(dim=1)
    is_new[0] = True
    lengths = torch.stack([mask.sum(dim=1), batch["completion_mask"].sum(dim=1), is_new], dim=1)
    rows: list[Row] = []
    number = 0
    for prompt, completion, starts in longest(lengths).tolist():
        number += starts
        rows.append(([number] * prompt, [0] * completion))
    return rows


def reordered(pieces: Sequence[Tensor], lengths: Sequence[int], order: Tensor) -> Tensor:
    """Values of rows of these lengths, one row behind the other, with the rows in another order."""
    rows = torch.split(torch.cat(list(pieces)), list(lengths))
    return torch.cat([rows[number] for number in order.tolist()])


def split_rows(
    batch: Batch | None,
    parts: int,
    *,
    most_tokens: int | None = None,
    longest: Callable[[Tensor], Tensor] = lambda lengths: lengths,
) -> list[Batch | None]:
    """Rows in `parts` runs, empty ones (None) first so that a device's last forward has rows.

    The runs are of like size, or as few as hold `most_tokens` tokens each; `parts` is the most there can be.
    `weight` makes the mean over a part's rows, divided by `parts`, add up to the mean over all rows.

    Args:
        longest: this process's lengths -> the largest of all processes. TRL gathers numbers in every forward, so all
            must have rows in the same forwards, and as many.
    """
    if batch is None:
        return [None] * parts
    rows = len(batch["prompt_ids"])
    runs = [run.tolist() for run in torch.arange(rows).tensor_split(parts) if len(run)]
    if most_tokens is not None:
        by_load = by_tokens(_as_long_as(batch, longest), range(rows), most_tokens)
        runs = by_load if len(by_load) <= parts else runs
    split: list[Batch | None] = [None] * (parts - len(runs))
    for run in sorted(runs, key=len):
        part = {name: tensor[run] if tensor.ndim else tensor for name, tensor in batch.items()}
        split.append(part | {"weight": torch.tensor(len(run) * parts / rows)})
    return split
