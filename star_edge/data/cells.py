"""Drawing rows from cells, each of which holds the rows of one source and one kind, until enough of them fit.

A row is rendered and tokenised when its turn has come, not before: most rows of a large source are never needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from star_edge.contracts import Example
from star_edge.data.lengths import Lengths, Ruler, chunks
from star_edge.data.quota import share_out
from star_edge.data.reading import Candidate
from star_edge.errors import DataError
from star_edge.progress import Bar


@dataclass(frozen=True, slots=True)
class Version:
    """A row as it would be written; `added` counts the tools from the pool among its own."""

    example: Example
    added: int = 0
    is_masked: bool = False
    is_stringified: bool = False
    is_formatted: bool = False


Make: TypeAlias = Callable[[Example], Sequence[Version]]
"""A row's versions, the wanted one first: the first that is not too long is written. No version: the row is unfit."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A row that fits. `is_second` says that its first version was too long."""

    candidate: Candidate
    version: Version
    lengths: Lengths
    is_second: bool


@dataclass(slots=True)
class Cell:
    """Rows in drawing order, of which the first `tried` are done; of the `usable` ones the first `taken` are taken.

    is_derived: the rows are made into others, so that one which does not fit is no loss of its source. lost: other rows
    that do not fit, with the template's refusal, or None for too long.
    """

    rows: list[Candidate]
    weight: float
    make: Make
    is_derived: bool = False
    tried: int = 0
    taken: int = 0
    usable: list[Drawn] = field(default_factory=list)
    lost: list[tuple[Candidate, DataError | None]] = field(default_factory=list)

    @property
    def available(self) -> int:
        """Further rows it can give at most."""
        return len(self.usable) - self.taken + len(self.rows) - self.tried

    @property
    def drawn(self) -> list[Drawn]:
        return self.usable[: self.taken]

    @property
    def untried(self) -> list[Candidate]:
        return self.rows[self.tried :]

    def leave_out(self, ids: set[str]) -> None:
        """Drop rows that are not tried yet."""
        self.rows = [*self.rows[: self.tried], *(row for row in self.untried if row.example.id not in ids)]


class Drawer:
    """Draws from cells.

    Args:
        bar: counts the rows that fit.
    """

    def __init__(self, ruler: Ruler, bar: Bar) -> None:
        self.ruler = ruler
        self._bar = bar
        self._fit = 0

    def draw(self, cells: Sequence[Cell], wanted: int) -> None:
        """Take that many further rows in all, shared out by weight.

        Where a row does not fit, the next of its cell is tried; what a cell lacks the others give.
        """
        weights = [cell.weight for cell in cells]
        while True:
            counts = share_out(max(wanted, 0), weights, [cell.available for cell in cells])
            missing = [cell.taken + count - len(cell.usable) for cell, count in zip(cells, counts, strict=True)]
            if max(missing, default=0) <= 0:
                break
            for cell, count in zip(cells, missing, strict=True):
                self._try(cell, max(count, 0))
        for cell, count in zip(cells, counts, strict=True):
            cell.taken += count

    def _try(self, cell: Cell, count: int) -> None:
        for rows in chunks(cell.untried[:count]):
            versions = [cell.make(row.example) for row in rows]
            fits = self._fitting(versions)
            for row, choices, fit in zip(rows, versions, fits, strict=True):
                if isinstance(fit, tuple):
                    number, lengths = fit
                    cell.usable.append(Drawn(row, choices[number], lengths, number > 0))
                elif not cell.is_derived:
                    cell.lost.append((row, fit))
            cell.tried += len(rows)
            self._fit += sum(isinstance(fit, tuple) for fit in fits)
            self._bar.update(self._fit)

    def _fitting(self, versions: Sequence[Sequence[Version]]) -> list[tuple[int, Lengths] | DataError | None]:
        """For each row the number of the first version that fits and its lengths, an error, or None."""
        found: list[tuple[int, Lengths] | DataError | None] = [None] * len(versions)
        for number in range(max(map(len, versions), default=0)):
            open_rows = [row for row, choices in enumerate(versions) if found[row] is None and len(choices) > number]
            measured = self.ruler.rows([versions[row][number].example for row in open_rows])
            for row, lengths in zip(open_rows, measured, strict=True):
                found[row] = (number, lengths) if isinstance(lengths, tuple) else lengths
        return found
