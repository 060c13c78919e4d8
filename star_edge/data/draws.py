"""Choices that depend on the seed and a row's id alone: not on the order of rows, other rows or PYTHONHASHSEED."""

from __future__ import annotations

import hashlib
import random


def draws(seed: int, what: str, row_id: str) -> random.Random:
    """A stream of random numbers of its own for one decision about one row."""
    return random.Random(f"{seed}/{what}/{row_id}")


def place(seed: int, row_id: str) -> bytes:
    """Where a row stands when rows are drawn: sorted by it, they are in random order."""
    return hashlib.sha256(f"{seed}/place/{row_id}".encode()).digest()
