"""One star-edge at a time where something is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from star_edge.errors import ArtifactError


@contextmanager
def alone(place: Path, lock: Path) -> Iterator[None]:
    """Nobody else is let in while the block lasts.

    Args:
        place: what is worked on, for the message.
        lock: the lock's file; its folder is made.
    Raises: ArtifactError: another process works there.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise ArtifactError(f"{place}: another star-edge is working there; wait for it to end") from None
    try:
        yield
    finally:
        held.release()
