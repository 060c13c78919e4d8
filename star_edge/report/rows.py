"""What a report is made of: numbers and labels, nothing that has to be computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from star_edge.contracts import Accuracy, GateResult, Latency, Rate, Score, TokenDifference

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One model, from the untrained base to an exported file; what was not measured is null."""

    label: str
    accuracy: Accuracy | None = None
    latency: Latency | None = None


@dataclass(frozen=True, slots=True)
class ParityRow:
    """One file against torch on the same n cases; the fields are those of `star_edge.parity.compare.ParityReport`."""

    label: str
    n: int
    agreement: float
    same_calls: float
    forced_agreement: float | None = None
    differences: tuple[TokenDifference, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """Exact-call rate of one model minus another's, over the same n cases that want a call.

    points, low, high: percentage points, and their paired-bootstrap 95 % interval.
    """

    label: str
    reference: str
    n: int
    points: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class StageTime:
    stage: str
    minutes: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One checkpoint on one suite."""

    label: str
    suite: str
    cases: int
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class ReportInput:
    """One run.

    suite: what was asked, as a phrase ("60 held-out requests"); command: how to make the run again.
    machine, versions: facts by name, printed as they are.
    notes: sentences a reader must know beside the numbers.
    """

    name: str
    command: str
    suite: str
    rows: tuple[Row, ...]
    gates: tuple[GateResult, ...] = ()
    parity: tuple[ParityRow, ...] = ()
    differences: tuple[Difference, ...] = ()
    stages: tuple[StageTime, ...] = ()
    machine: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    evaluations: tuple[Evaluated, ...] = ()


def from_json(value: Mapping[str, Any]) -> ReportInput:
    """The report that `manifest.plain` turned into JSON types.

    Raises: KeyError, TypeError: a field is missing, or one is not known.
    """
    return ReportInput(
        name=value["name"],
        command=value["command"],
        suite=value["suite"],
        rows=tuple(row_from_json(row) for row in value["rows"]),
        gates=tuple(GateResult(**gate) for gate in value["gates"]),
        parity=tuple(parity_from_json(row) for row in value["parity"]),
        differences=tuple(Difference(**row) for row in value["differences"]),
        stages=tuple(StageTime(**stage) for stage in value["stages"]),
        machine=value["machine"],
        versions=value["versions"],
        notes=tuple(value["notes"]),
        evaluations=tuple(evaluated_from_json(row) for row in value["evaluations"]),
    )


def row_from_json(value: Mapping[str, Any]) -> Row:
    """A row that `manifest.plain` turned into JSON types."""
    rates, latency = value["accuracy"], value["latency"]
    accuracy = Accuracy(**{name: Rate(**rate) for name, rate in rates.items()}) if rates else None
    return Row(value["label"], accuracy, Latency(**latency) if latency else None)


def evaluated_from_json(value: Mapping[str, Any]) -> Evaluated:
    """A checkpoint's scores that `manifest.plain` turned into JSON types."""
    return Evaluated(**{**value, "scores": tuple(Score(**score) for score in value["scores"])})


def parity_from_json(value: Mapping[str, Any]) -> ParityRow:
    """A parity row that `manifest.plain` turned into JSON types."""
    differences = tuple(TokenDifference(**difference) for difference in value["differences"])
    return ParityRow(**{**value, "differences": differences})
