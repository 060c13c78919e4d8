"""What a model can be evaluated on: BFCL, or any file of rows, behind one small interface.

A suite is requests and a judge of the answers. Another one is a class and a line in `open_suite`
(docs/evaluation.md shows one).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from star_edge.contracts import Example
from star_edge.errors import EvaluationError
from star_edge.evaluate.bfcl.suite import NAME as BFCL
from star_edge.evaluate.bfcl.suite import BfclSuite
from star_edge.evaluate.measures import SuiteScores, compare
from star_edge.evaluate.rows import RowsSuite
from star_edge.evaluate.selection import Missing

__all__ = ["Missing", "Suite", "SuiteScores", "compare", "open_suite"]


class Suite(Protocol):
    """Cases to answer, and how to judge the answers."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """Names the data: suites of one version ask the same."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """The cases, in the order of `examples`."""
        ...

    @property
    def examples(self) -> Sequence[Example]:
        """The cases as rows; what their last message says is the suite's business."""
        ...

    def judge(self, texts: Mapping[str, str | None], *, missing: Missing = "refuse") -> SuiteScores:
        """Score completions by case id; those of cases that a narrowed suite leaves out are passed over.

        None instead of a completion: the prompt had no room in the model's context. That is wrong everywhere, also
        where no call is due, since nothing was asked.

        Raises: EvaluationError: an id that is no case, or a case without an output where `missing` is "refuse".
        """
        ...


def open_suite(name_or_path: str, *, categories: Sequence[str] = (), limit: int | None = None) -> Suite:
    """A suite by its name (`bfcl`), or a JSONL file of rows with answers.

    Args:
        categories: only these, for a suite that has some.
        limit: most cases of a category, evenly spread over it in the published order.
    Raises: EvaluationError, DataError: no such suite, file or category, or a row that cannot be read.
    """
    if name_or_path == BFCL:
        return BfclSuite(categories, limit)
    path = Path(name_or_path)
    if not path.is_file():
        raise EvaluationError(f"{name_or_path}: no such suite or file; give {BFCL}, or a JSONL file of rows")
    if categories:
        raise EvaluationError(f"{name_or_path}: rows have no categories; leave --category {categories[0]} out")
    return RowsSuite(path, limit)
