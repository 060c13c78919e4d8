"""Work in a process of its own: the GPU memory it takes, and what libraries leave in its environment, end with it.

A process can be started before its work is known, and import what that will need meanwhile: torch, TRL and vLLM take a
third of a minute, in which a GPU would wait.

The process leads a group, and whatever it starts (an engine, loaders) is in it. The group ends with the process, and
with the one that started it, whatever ends either: an engine that lives on would keep the GPU from the next run.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from star_edge.errors import TrainingError

Result = TypeVar("Result")
SECONDS_TO_END = 20.0
"""For the process to end by itself behind its result; engines with threads of their own may hang there."""
SECONDS_BETWEEN_LOOKS = 1.0


class OwnProcess:
    """A fresh Python that waits for one piece of work. `run` or `end` it, or this Python waits for it when it exits."""

    def __init__(self, prepare: Callable[[], object] | None = None) -> None:
        """Start it.

        Args:
            prepare: called there at once, for what it imports. What it raises is told if the work fails, too. Pickled
                as `work` is.
        """
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_answer, args=(theirs, prepare))
        self._process.start()
        self._has_ended = False
        theirs.close()

    def run(self, work: Callable[..., Result], *args: Any) -> Result:
        """`work(*args)`, computed there; the process has ended when this returns, with all that it started.

        Args:
            work: found by its module and name; it, its arguments and its result are pickled.
        Raises: TrainingError: the process was killed, or ran out of memory. Otherwise what `work` raises.
        """
        try:
            with suppress(OSError):  # of a process that is dead, which is found out below
                self._pipe.send((work, args))
            result, error = _received(self._pipe, self._process)
            self._process.join(SECONDS_TO_END)
        finally:
            self.end()
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def is_alive(self) -> bool:
        """Whether work can still be given to it."""
        return not self._has_ended and self._process.is_alive()

    def end(self) -> None:
        """End it with all that it started, whatever it does; safe to call twice."""
        if not self._has_ended:  # its number may be another's by then
            self._has_ended = True
            _end(self._process)
            self._pipe.close()


def _received(receiver: Connection, process: SpawnProcess) -> Any:
    """The answer; what the process started may hold the pipe open when it is dead, so its end is looked for as well."""
    with suppress(EOFError, ConnectionResetError):
        while receiver.poll(SECONDS_BETWEEN_LOOKS) or process.is_alive():
            if receiver.poll(0):
                return receiver.recv()
    process.join()
    raise TrainingError(
        f"its process ended with status {process.exitcode} and no result; was it killed, or out of memory? "
        "The same command goes on"
    )


def _end(process: SpawnProcess) -> None:
    assert process.pid is not None  # it was started; and group 0 would be our own
    with suppress(ProcessLookupError, PermissionError):  # nobody of the group is left, or it never came to be
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _answer(pipe: Connection, prepare: Callable[[], object] | None) -> None:
    os.setpgrp()
    # A spawned process would spawn its own too, and the worker of a trainer's data loader cannot be pickled.
    multiprocessing.set_start_method("fork", force=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    early: Exception | None = None
    try:
        if prepare is not None:
            prepare()
    except Exception as error:
        early = error
    try:
        work, args = pipe.recv()
    except EOFError:  # nobody wants it any more
        return
    outcome: tuple[Any, Exception | None]
    try:
        outcome = (work(*args), None)
    except Exception as error:
        told = error if _can_travel(error) else RuntimeError(f"{type(error).__name__}: {error}")
        if early is not None:  # what failed in the middle of an import may fail otherwise the second time
            told.add_note(f"Importing ahead had failed: {early!r}")
        told.add_note(f"In its own process:\n{traceback.format_exc()}")
        outcome = (None, told)
    pipe.send(outcome)
    pipe.close()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(0, signal.SIGKILL)


def _can_travel(error: Exception) -> bool:
    """Exceptions of libraries may need arguments that pickle does not keep."""
    try:
        return isinstance(pickle.loads(pickle.dumps(error)), type(error))
    except Exception:
        return False
