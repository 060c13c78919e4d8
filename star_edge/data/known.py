"""What users say in an evaluation: a suite that star-edge knows, or a file of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from star_edge.contracts import Message
from star_edge.data.normalise import read_evaluation, refuse_bad

BFCL = "bfcl"
SUITES = (BFCL,)
HELDOUT = "heldout"
"""In `data.overlap_with`: the held-out rows of the same build, which nothing has to be read for."""
Texts: TypeAlias = Mapping[str, Sequence[str]]  # id of a case -> the user's messages


def known_texts(name: str, find: Callable[[str], Path]) -> Texts:
    """The user's messages of every case.

    Args:
        name: "bfcl" (fetched when it is not cached), or a file.
        find: turns the name of a file into its path.
    Raises:
        EvaluationError: BFCL cannot be had.
        DataError: no such file, or it holds a bad row.
    """
    if name == BFCL:
        # Only this branch needs the suite, and it may have to be downloaded.
        from star_edge.evaluate.bfcl import cases

        return {case.id: _said(case.messages) for case in cases.load()}
    path = find(name)
    good, bad = read_evaluation(path)
    refuse_bad(path, good, bad, remedy="mend them, for a row that cannot be read cannot be compared")
    return {example.id: _said(example.messages) for example in good}


def known_fingerprint(name: str, find: Callable[[str], Path]) -> str:
    """Changes when the texts do."""
    from star_edge.manifest import sha256_file

    if name == BFCL:
        from star_edge.evaluate.bfcl import wheel

        return wheel.SHA256
    return sha256_file(find(name))


def _said(messages: Sequence[Message]) -> tuple[str, ...]:
    return tuple(message["content"] for message in messages if message["role"] == "user")
