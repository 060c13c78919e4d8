"""Training under watch: a slice of the dev split is scored as it goes, the best weights win, a collapse ends it.

The score is the share of rows answered right: the exact calls where calls are due, none where none is. Answers are
greedy. Each score is a line of `watch.jsonl`; the last one says why training stopped early, if it did. The best
trainable weights are in `watch-STEP.safetensors`. A run that is resumed behind a checkpoint needs the best of what the
checkpoint knows, so those weights stay until a newer checkpoint knows better ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState

from star_edge.contracts import Example, WatchConfig
from star_edge.data.chat import ChatCodec
from star_edge.evaluate.scores import CaseVerdict, judge
from star_edge.manifest import replacing
from star_edge.models.generate import greedy
from star_edge.models.load import LoadedModel
from star_edge.progress import Progress

LOG = "watch.jsonl"
STEPS_TOGETHER = 5

Prompts: TypeAlias = Sequence[tuple[str, str]]
"""Ids and rendered texts."""

Answer: TypeAlias = Callable[[Prompts, int], Sequence[str]]
"""Prompts and the most new tokens -> greedy answers, without the token that ends the turn."""

MakeWatch: TypeAlias = Callable[[LoadedModel, Path], "Watch"]
"""A stage's model and its folder -> the watch over it."""


class Watch(TrainerCallback):  # type: ignore[misc]
    """Scores the model every few steps.

    `answer` may be replaced by something faster that has the model's present weights.

    Args:
        config: how often and how much; with `every_steps` null at the end alone.
        examples: the dev split; an even slice of `config.rows` of them is asked, always the same.
        loaded: the model in training, with its tokenizer and template.
        out: the stage's folder.
        scores_start: the model as it came, which training then has to beat.
    """

    def __init__(
        self,
        config: WatchConfig,
        examples: Sequence[Example],
        progress: Progress,
        loaded: LoadedModel,
        out: Path,
        *,
        scores_start: bool = True,
    ) -> None:
        self._config = config
        self._loaded = loaded
        self._examples = even_slice(examples, config.rows)
        codec = ChatCodec(loaded.tokenizer, loaded.template)
        self._prompts = [(example.id, codec.prompt_text(example)) for example in self._examples]
        self._out = out
        self._progress = progress
        self._history: list[dict[str, Any]] = []
        self._scores_start = scores_start
        self._reason: str | None = None
        self._saved_best: int | None = None  # the best step that the last checkpoint knows
        self.answer: Answer = self._decoded

    @property
    def best(self) -> Mapping[str, Any]:
        """The line of the best score; of equals the last, which has learnt most."""
        return max(self._history, key=lambda line: (line["score"], line["step"]))

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Read what an interrupted run knew, or score the model as it came."""
        log = self._out / LOG
        if state.global_step and log.exists():
            lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
            self._history = [line for line in lines if line["step"] <= state.global_step]
            if self._history:
                self._saved_best = self.best["step"]
            if state.is_world_process_zero:  # steps behind the checkpoint are done again, and may come out otherwise
                self._keep_only(self._saved_best)
        if not self._history and self._scores_start:
            self._score(state)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Stop on what the trainer's own numbers give away.

        A policy without entropy has stopped exploring; one whose reward has fallen for some steps, or that mostly
        writes calls which cannot be read, more than it did at first, has lost what it knew.
        """
        config, entropy = self._config, (logs or {}).get("entropy")
        if config.min_entropy is not None and entropy is not None and entropy < config.min_entropy:
            self._stop(control, f"entropy {entropy:.3g} nats is below min_entropy {config.min_entropy:g}")
        rewards, malformed = (_running_means(state, name) for name in ("reward", "malformed"))
        if config.max_reward_drop is not None and rewards and max(rewards) - rewards[-1] > config.max_reward_drop:
            self._stop(control, f"reward {rewards[-1]:.3g} is more than max_reward_drop below {max(rewards):.3g}")
        if config.max_malformed is not None and malformed and malformed[-1] > max(config.max_malformed, malformed[0]):
            self._stop(control, f"{malformed[-1]:.0%} of the samples are malformed, more than max_malformed allows")

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Score when it is time, and stop on a collapse."""
        if self._config.every_steps is not None and state.global_step % self._config.every_steps == 0:
            self._score(state)
            if reason := self._collapse():
                self._stop(control, reason)

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Forget what no resumed run will go back to."""
        if state.is_world_process_zero and self._history:
            self._saved_best = self.best["step"]
            self._keep_only(self._saved_best)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Score the last step, and put the best weights back when they are others."""
        if not self._history or self._history[-1]["step"] != state.global_step:
            self._score(state)
        if self._reason is not None and state.is_world_process_zero:
            self._history[-1]["stopped_early"] = self._reason
            self._write_log()
        best = self.best
        if best["step"] != self._history[-1]["step"]:
            restore(self._loaded.model, best_weights(self._out, best["step"]))
        if state.is_world_process_zero:
            self._keep_only(best["step"])
        kept = "the weights of step" if best["step"] else "the weights as they came, step"
        self._progress.line(
            f"  kept {kept} {best['step']}: dev score {best['score']:.1%}, best of {len(self._history)}"
        )

    def _score(self, state: TrainerState) -> None:
        """The first process scores and keeps; the others are told, for all must take the same decision."""
        line: dict[str, Any] = {"step": state.global_step}
        if state.is_world_process_zero:
            line |= self._answered()
            if not self._history or line["score"] >= self.best["score"]:
                keep(self._loaded.model, best_weights(self._out, state.global_step))
                self._keep_only(state.global_step, self._saved_best)
        told = [line]
        if dist.is_initialized():
            dist.broadcast_object_list(told)
        line = told[0]
        self._history.append(line)
        if state.is_world_process_zero:
            self._write_log()
        self._progress.line(f"  step {line['step']}: dev score {line['score']:.1%}, malformed {line['malformed']:.1%}")

    def _answered(self) -> dict[str, float]:
        texts = self.answer(self._prompts, self._config.max_new_tokens)
        return summary([judge(example, text) for example, text in zip(self._examples, texts, strict=True)])

    def _decoded(self, prompts: Prompts, max_new_tokens: int) -> list[str]:
        """Greedy answers of the model in training; a GPU multiplies in bfloat16."""
        model, device = self._loaded.model, self._loaded.device.type
        was_training = model.training
        model.eval()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            answers = greedy(
                self._loaded, prompts, max_new_tokens=max_new_tokens, rows_per_forward=self._config.rows_per_forward
            )
        model.train(was_training)
        return [answer.text for answer in answers]

    def _collapse(self) -> str | None:
        """Why training should not go on, or None."""
        config, last, best = self._config, self._history[-1], self.best
        limit = config.max_malformed
        # Who is still learning to write calls writes many that cannot be read; who could do it and does not collapses.
        if limit is not None and last["malformed"] > limit >= min(line["malformed"] for line in self._history):
            return f"{last['malformed']:.0%} of the answers are malformed, more than max_malformed allows"
        if config.max_drop is not None and best["score"] - last["score"] > config.max_drop:
            return f"dev score {last['score']:.1%} is more than max_drop below the best, {best['score']:.1%}"
        return None

    def _stop(self, control: TrainerControl, reason: str) -> None:
        control.should_training_stop = True
        self._reason = reason
        self._progress.line(f"  stops early: {reason}")

    def _keep_only(self, *steps: int | None) -> None:
        kept = [best_weights(self._out, step) for step in steps if step is not None]
        for path in self._out.glob("watch-*.safetensors"):
            if path not in kept:
                path.unlink()

    def _write_log(self) -> None:
        with replacing(self._out / LOG) as passing:
            passing.write_text("".join(json.dumps(line) + "\n" for line in self._history), encoding="utf-8")


def _running_means(state: TrainerState, name: str) -> list[float]:
    """Means of a metric over every `STEPS_TOGETHER` neighbouring steps, those before a resume too; one is noisy."""
    values = [line[name] for line in state.log_history if line.get(name) is not None]
    spans = range(len(values) - STEPS_TOGETHER + 1)
    return [sum(values[start : start + STEPS_TOGETHER]) / STEPS_TOGETHER for start in spans]


def summary(verdicts: Sequence[CaseVerdict]) -> dict[str, float]:
    """Shares of all rows: right, malformed, called for nothing, not called though due."""
    n = len(verdicts)
    right = sum(v.exact_call if v.has_target_calls else not v.false_call and not v.malformed for v in verdicts)
    return {
        "score": right / n,
        "malformed": sum(v.malformed for v in verdicts) / n,
        "false_call": sum(v.false_call for v in verdicts) / n,
        "missed_call": sum(v.missed_call for v in verdicts) / n,
    }


def even_slice(examples: Sequence[Example], count: int) -> list[Example]:
    """`count` examples at even distances, all when there are fewer."""
    count = min(count, len(examples))
    return [examples[place * len(examples) // count] for place in range(count)]


def best_weights(folder: Path, step: int) -> Path:
    """Where the trainable weights of a step are, if they were the best when it was scored."""
    return folder / f"watch-{step}.safetensors"


def keep(model: nn.Module, path: Path) -> None:
    """Write the trainable weights."""
    weights = {name: weight.detach().cpu().contiguous() for name, weight in trainable(model).items()}
    with replacing(path) as passing:
        save_file(weights, passing)


@torch.no_grad()
def restore(model: nn.Module, path: Path) -> None:
    """Read the trainable weights back into the model."""
    kept = load_file(path)
    for name, weight in trainable(model).items():
        weight.copy_(kept[name])


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Weights with a gradient, by name; a tied weight once."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
