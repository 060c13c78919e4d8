"""Work in a process of its own: the GPU memory it takes, and what libraries leave in its environment, end with it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import psutil  # type: ignore[import-untyped]

from star_edge.errors import TrainingError

Result = TypeVar("Result")
SECONDS_TO_END = 20.0
"""For the process to end by itself behind its result; engines with threads of their own may hang there."""


def in_own_process(work: Callable[..., Result], *args: Any) -> Result:
    """`work(*args)`, computed by a fresh Python that ends before this returns.

    The process ends with this one, whatever ends it.

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
        result, error = receiver.recv()
    except EOFError:
        process.join()
        raise TrainingError(
            f"its process ended with status {process.exitcode} and no result; was it killed, or out of memory? "
            "The same command goes on"
        ) from None
    finally:
        process.join(SECONDS_TO_END)
        if process.is_alive():
            process.kill()
            process.join()
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _answer(sender: Connection, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    outcome: tuple[Any, Exception | None]
    try:
        outcome = (work(*args), None)
    except KeyboardInterrupt:  # the parent got it too, and says so
        os._exit(130)
    except Exception as error:
        error.add_note(f"In its own process:\n{traceback.format_exc()}")
        outcome = (None, error if _can_travel(error) else RuntimeError(f"{type(error).__name__}: {error}"))
    sender.send(outcome)
    sender.close()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        # An engine's process outlives the one that started it, and keeps the GPU's memory from the next run.
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os._exit(1)


def _can_travel(error: Exception) -> bool:
    """Exceptions of libraries may need arguments that pickle does not keep."""
    try:
        return isinstance(pickle.loads(pickle.dumps(error)), type(error))
    except Exception:
        return False
