"""The clock of `ckd_speed.py`: seconds and tokens of whole steps, and the phases of a few steps behind them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback


class Phases:
    """Where the time of the profiled steps goes: at every change of phase the device is waited for."""

    def __init__(self, device: str) -> None:
        self.on = False
        self.seconds: dict[str, float] = {}
        self._device = device
        self._stack: list[str] = ["other"]
        self._since = 0.0

    def synchronize(self) -> None:
        if self._device != "cpu":
            torch.cuda.synchronize()

    def _turn(self) -> None:
        self.synchronize()
        now = time.perf_counter()
        self.seconds[self._stack[-1]] = self.seconds.get(self._stack[-1], 0.0) + now - self._since
        self._since = now

    def start(self) -> None:
        self.synchronize()
        self._since, self.on = time.perf_counter(), True

    def stop(self) -> None:
        self._turn()
        self.on = False

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if not self.on:
            yield
            return
        self._turn()
        self._stack.append(name)
        try:
            yield
        finally:
            self._turn()
            self._stack.pop()

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        """Count the time of a method or function as a phase."""
        original = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self(name):
                return original(*args, **kwargs)

        setattr(owner, attribute, timed)

    def shares(self) -> dict[str, float]:
        total = sum(self.seconds.values())
        return {name: seconds / total for name, seconds in sorted(self.seconds.items())} if total else {}


WARM_SHARE, TIMED_SHARE = 0.3, 0.8
"""Of the seconds, after which warm-up and timed steps end although there are not as many as asked for."""


@dataclass
class Counts:
    """A step's tokens: computed without padding, as rows with a prompt each, counted in the loss; and its padding."""

    tokens: int = 0
    row_tokens: int = 0
    counted: int = 0
    padding: int = 0


class Meter(TrainerCallback):
    """Times the steps behind the warm-up, then profiles a few, then stops.

    When the seconds of a phase are over it ends, within a step if the Trainer accumulates one over several forwards:
    the part of the step that was done counts as far as it came.
    """

    def __init__(self, device: str, *, warmup: int, steps: int, profiled: int, seconds: float) -> None:
        self._steps, self._profiled = steps, profiled
        self._warmup = warmup
        now = time.perf_counter()
        self._warm_at, self._profile_at = now + WARM_SHARE * seconds, now + TIMED_SHARE * seconds
        self._stop_at = now + seconds
        self.phases = Phases(device)
        self.pending: list[tuple[int | Tensor, ...]] = []
        self.timed: list[tuple[float, Counts]] = []
        self.forwards = 0
        self.losses: list[float] = []
        self._began = 0.0

    def attach(self, trainer: Trainer) -> None:
        """Hook the trainer's phases; `loss` is hooked by those that can tell it from the forward."""
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(self)
        self.phases.wrap(trainer, "get_batch_samples", "data")
        self.phases.wrap(trainer, "compute_loss", "forward")
        self.phases.wrap(trainer.accelerator, "backward", "backward")
        self.phases.wrap(trainer.accelerator, "clip_grad_norm_", "optimizer")

    def count(self, *, tokens: int | Tensor, row_tokens: int | Tensor, counted: int | Tensor, size: int) -> None:
        """Note a forward; tensors are read behind the step, so that nobody waits for them."""
        self.pending.append((tokens, row_tokens, counted, size))

    def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        self.phases.wrap(optimizer, "step", "optimizer")
        self._next()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._end_lap(control)

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Behind every forward but a step's last, in trainings that accumulate."""
        if time.perf_counter() > self._due():
            self._end_lap(control)

    def _due(self) -> float:
        """When the present phase ends whatever was done."""
        if self.phases.on:
            return self._stop_at
        return self._profile_at if self._warmup == 0 else self._warm_at

    def _end_lap(self, control: Any) -> None:
        self.phases.synchronize()
        now = time.perf_counter()
        is_over = now > self._due()
        if self.phases.on:
            self._profiled -= 1
        elif self._warmup:
            self._warmup = 0 if is_over else self._warmup - 1
        else:
            tokens, row_tokens, counted, size = (
                sum(int(n) for n in column) for column in zip(*self.pending, strict=True)
            )
            self.timed.append((now - self._began, Counts(tokens, row_tokens, counted, size - tokens)))
            self.forwards += len(self.pending)
            if len(self.timed) == self._steps or is_over:
                self.phases.start()
        control.should_training_stop = self._profiled == 0 or time.perf_counter() > self._stop_at
        self._next()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def _next(self) -> None:
        self.pending = []
        self._began = time.perf_counter()
