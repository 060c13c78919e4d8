"""Work in a process of its own: the GPU memory it takes, and what libraries leave in its environment, end with it.

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


def in_own_process(work: Callable[..., Result], *args: Any) -> Result:
    """`work(*args)`, computed by a fresh Python that ends before this returns, with all that it started.

    Args:
        work: found by its module and name; it, its arguments and its result are pickled.
    Raises: TrainingError: the process was killed, or ran out of memory. Otherwise what `work` raises.
    """
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_answer, args=(sender, work, args))
    process.start()
    sender.close()
    try:
        result, error = _received(receiver, process)
        process.join(SECONDS_TO_END)
    finally:
        _end(process)
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _received(receiver: Connection, process: SpawnProcess) -> Any:
    """The answer; what the process started may hold the pipe open when it is dead, so its end is looked for as well."""
    with suppress(EOFError):
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


def _answer(sender: Connection, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.setpgrp()
    # A spawned process would spawn its own too, and the worker of a trainer's data loader cannot be pickled.
    multiprocessing.set_start_method("fork", force=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    outcome: tuple[Any, Exception | None]
    try:
        outcome = (work(*args), None)
    except Exception as error:
        error.add_note(f"In its own process:\n{traceback.format_exc()}")
        outcome = (None, error if _can_travel(error) else RuntimeError(f"{type(error).__name__}: {error}"))
    sender.send(outcome)
    sender.close()


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
