"""A stage that stops when its minutes are spent, with a learning rate that has run its course by then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState, TrainerControl, TrainerState

SECONDS_A_MINUTE = 60.0


class TimeBudget(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Stops training after the step in which the minutes run out; a resumed run goes on with what was left.

    Time counts from the start of training, checkpoints and start-up of a resumed run included.

    Args:
        minutes: of training, on the wall.
        agree: turns this process's seconds into seconds that are the same on all devices.
        clock: seconds from anywhere.
    """

    def __init__(
        self,
        minutes: float,
        *,
        agree: Callable[[float], float] = lambda seconds: seconds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = minutes * SECONDS_A_MINUTE
        self._agree = agree
        self._clock = clock
        self._started = clock()
        self._before = 0.0
        self._spent = 0.0
        self._first: float | None = None

    def share(self) -> float:
        """Share of the time for learning that has passed, from 0 to 1.

        It counts from the end of the first step: compiling and warming up must not eat the learning rate's warm-up.
        """
        if self._first is None or self._spent <= self._first:
            return 0.0
        return 1.0 if self._spent >= self._limit else (self._spent - self._first) / (self._limit - self._first)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock; behind the seconds of earlier runs when this one resumes."""
        stored = _attributes(state.stateful_callbacks)
        self._started, self._before, self._first = self._clock(), stored.get("spent", 0.0), stored.get("first")
        self._spent = self._before

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Read the clock once a step, so that all that follows sees one time."""
        self._spent = self._agree(self._before + self._clock() - self._started)
        self._first = self._spent if self._first is None else self._first

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop, and leave a checkpoint, when the minutes are spent."""
        if self._spent >= self._limit:
            control.should_training_stop = control.should_save = True

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"args": {}, "attributes": {"spent": self._spent, "first": self._first, "limit": self._limit}}


def keep_pace(scheduler: Any, share: Callable[[], float], steps: int) -> None:
    """Let a scheduler stand where the later of its step and the time stands, so that it ends with either.

    Args:
        scheduler: a `LambdaLR` planned for `steps` steps.
        share: of the time that has passed.
    """

    def hurried(rate: Callable[[float], float]) -> Callable[[int], float]:
        return lambda step: rate(max(step, share() * steps))

    scheduler.lr_lambdas = [hurried(rate) for rate in scheduler.lr_lambdas]


def is_spent(state: Mapping[str, Any]) -> bool:
    """Whether the run of this trainer state stopped because its time was over."""
    stored = _attributes(state.get("stateful_callbacks"))
    return bool(stored) and stored["spent"] >= stored["limit"]


def _attributes(callbacks: Mapping[str, Any] | None) -> dict[str, Any]:
    stored: dict[str, Any] = (callbacks or {}).get(TimeBudget.__name__, {}).get("attributes", {})
    return stored
