"""What a launcher (torchrun, accelerate) says in the environment about the processes that it started."""

from __future__ import annotations

import os

from star_edge.errors import TrainingError


def processes() -> int:
    """How many processes run this command; 1 outside a launch."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process in the launch; 0 outside one."""
    return int(os.environ.get("RANK", "0"))


def is_launched() -> bool:
    """Whether this process is one of several."""
    return processes() > 1


def check_share(key: str, rows: int) -> None:
    """Raises: TrainingError: the processes cannot share that many rows evenly; `key` names them in the recipe."""
    if rows % processes():
        raise TrainingError(f"{key} is {rows}, which {processes()} processes cannot share evenly; change one")


def is_sharded() -> bool:
    """Whether this launch shards weights over its processes (FSDP, as accelerate's launcher announces it)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
