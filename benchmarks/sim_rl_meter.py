"""The clock of `sim_rl_speed.py`: seconds of whole steps behind the first, and their phases."""

from __future__ import annotations

import time
from typing import Any

import torch
from speed_meter import Phases
from transformers import TrainerCallback


class StepMeter(TrainerCallback):
    """Times every step behind the first, and stops the training when its seconds are over."""

    def __init__(self, device: str, *, seconds: float) -> None:
        self.phases = Phases(device)
        self.began = 0.0
        self._stop_at = time.perf_counter() + seconds
        self._since = 0.0
        self._seconds: list[float] = []
        self._sampled = self._trained = 0

    def watching(self, kind: type) -> type:
        """A subclass of the trainer whose phases this meter times."""
        meter, phases = self, self.phases

        class Watched(kind):  # type: ignore[misc, valid-type]
            def __init__(self, *args: Any, **given: Any) -> None:
                super().__init__(*args, **given)
                self.add_callback(meter)
                self.reward_funcs = [_timed(phases, "reward", self.reward_funcs[0])]
                phases.wrap(self, "compute_loss", "update")
                phases.wrap(self.accelerator, "backward", "update")
                if hasattr(self, "vllm_generation"):
                    phases.wrap(self.vllm_generation, "sync_weights", "weight sync")

            def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **given: Any) -> Any:
                meter._sampled += len(prompt_ids) * phases.on
                with phases("rollout"):
                    return super()._generate_single_turn(prompt_ids, *args, **given)

            def _generate_and_score_completions(self, inputs: Any) -> Any:
                batch = super()._generate_and_score_completions(inputs)
                meter._trained += phases.on * (0 if batch is None else len(batch["prompt_ids"]))
                return batch

            def _get_per_token_logps_and_entropies(self, *args: Any, **given: Any) -> Any:
                if torch.is_grad_enabled():
                    return super()._get_per_token_logps_and_entropies(*args, **given)
                with phases("log-probabilities"):
                    return super()._get_per_token_logps_and_entropies(*args, **given)

        return Watched

    def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        self.began = time.perf_counter()
        self.phases.wrap(optimizer, "step", "update")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.phases.synchronize()
        now = time.perf_counter()
        if self.phases.on:
            self._seconds.append(now - self._since)
        else:
            self.phases.start()
        self._since = now
        control.should_training_stop = control.should_training_stop or now > self._stop_at

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.phases.on:
            self.phases.stop()

    def numbers(self) -> dict[str, Any]:
        """Means over the timed steps; null seconds when there are none."""
        steps = len(self._seconds)
        rollout = self.phases.seconds.get("rollout", 0.0)
        return {
            "mean_seconds": sum(self._seconds) / steps if steps else None,
            "seconds_a_step": [round(seconds, 3) for seconds in self._seconds],
            "sampled_a_step": self._sampled / max(1, steps),
            "trained_a_step": self._trained / max(1, steps),
            "completions_per_s": self._sampled / rollout if rollout else 0.0,
            "shares": self.phases.shares(),
        }


def _timed(phases: Phases, name: str, function: Any) -> Any:
    def call(*args: Any, **given: Any) -> Any:
        with phases(name):
            return function(*args, **given)

    return call
