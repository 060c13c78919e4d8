"""What measurements leave: rates with intervals, latencies, gates, differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EvaluatedCheckpoint = Literal["base", "adapt", "ckd", "merge"]


@dataclass(frozen=True, slots=True)
class Rate:
    """A share in [0, 1] of n cases with its 95 % interval; value is NaN-free: 0.0 when n is 0."""

    value: float
    n: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The scores of one model on one suite; `star_edge.evaluate.scores` defines them."""

    exact_call: Rate
    name: Rate
    argument: Rate
    false_call: Rate
    missed_call: Rate
    malformed: Rate


@dataclass(frozen=True, slots=True)
class Score:
    """One line of a suite's result: a share in [0, 1] with its 95 % interval.

    n: cases, or whatever the share counts; is_aggregate: it is a weighted mean of other lines.
    """

    label: str
    value: float
    n: int
    low: float
    high: float
    is_aggregate: bool = False


@dataclass(frozen=True, slots=True)
class ScoreDifference:
    """`value` of one model minus `reference` of another over the same cases, with its paired 95 % interval."""

    label: str
    n: int
    value: float
    reference: float
    difference: float
    low: float
    high: float
    is_aggregate: bool = False


@dataclass(frozen=True, slots=True)
class Latency:
    """Speed of one file on one runtime. Cold TTFT is the first prompt after loading; warm ones are all after it.

    p95 is the slow tail everywhere: 95 % of the cases had a TTFT at most that long, or a speed at least that high.
    clock: "cpu" when one thread was timed by its CPU time, which a busy neighbour does not change; else "wall".
    Loading is always wall time.
    """

    runtime: str
    device: str
    threads: int
    n: int
    load_ms: float
    ttft_cold_ms: float
    ttft_ms_p50: float
    ttft_ms_p95: float
    prefill_tok_s_p50: float
    prefill_tok_s_p95: float
    decode_tok_s_p50: float
    decode_tok_s_p95: float
    peak_rss_mib: float
    size_mib: float
    clock: Literal["cpu", "wall"] = "wall"


@dataclass(frozen=True, slots=True)
class GateResult:
    """One limit of the recipe against one measurement."""

    gate: str
    subject: str
    measured: float
    limit: float
    passed: bool


@dataclass(frozen=True, slots=True)
class TokenDifference:
    """First token at which an exported file parts from torch on one case, and how close the race was.

    `torch_margin`: torch's logit of its own token minus its logit of the file's token, in nats (>= 0).
    `torch_text`, `file_text`: the two tokens as text, for the report.
    A file whose context had no room for the rest of its answer chose no token there: `file_token` is -1, the margin 0.
    """

    id: str
    position: int
    torch_token: int
    file_token: int
    torch_margin: float
    same_calls: bool
    torch_text: str = ""
    file_text: str = ""
