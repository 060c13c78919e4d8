"""Numbers -> tables, as Markdown and as plain text for a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from star_edge.contracts import Accuracy, GateResult, Latency, Rate, Score, TokenDifference
from star_edge.report.rows import Difference, Evaluated, ParityRow, Row, StageTime

Table = list[list[str]]  # the first row is the head
RATES: tuple[tuple[str, Callable[[Accuracy], Rate]], ...] = (
    ("exact call", lambda accuracy: accuracy.exact_call),
    ("name", lambda accuracy: accuracy.name),
    ("argument", lambda accuracy: accuracy.argument),
    ("false call", lambda accuracy: accuracy.false_call),
    ("missed call", lambda accuracy: accuracy.missed_call),
    ("malformed", lambda accuracy: accuracy.malformed),
)
NOTHING = "–"


def accuracy_table(rows: Sequence[Row]) -> Table:
    """A line a model: every rate in percent with its 95 % interval; n in the head where all models share it."""
    accuracies = [row.accuracy for row in rows if row.accuracy is not None]
    head, shared = ["model"], []
    for name, pick in RATES:
        counts = {pick(accuracy).n for accuracy in accuracies}
        shared.append(len(counts) == 1)
        head.append(f"{name}, n={counts.pop()}" if shared[-1] else name)
    table = [head]
    for row in rows:
        cells = [NOTHING] * len(RATES)
        if row.accuracy is not None:
            rates = [pick(row.accuracy) for _, pick in RATES]
            cells = [_rate(rate, with_n=not same) for rate, same in zip(rates, shared, strict=True)]
        table.append([row.label, *cells])
    return table


def latency_table(rows: Sequence[Row]) -> Table:
    """A line a measured file: size, load, time to first token, speeds, memory. Pairs are p50 / p95."""
    table = [
        [
            "file",
            "size, MiB",
            "load, ms",
            "TTFT cold, ms",
            "TTFT, ms",
            "prefill, tok/s",
            "decode, tok/s",
            "peak RSS, MiB",
        ]
    ]
    for row in rows:
        if (speed := row.latency) is not None:
            table.append(
                [
                    row.label,
                    f"{speed.size_mib:.1f}",
                    f"{speed.load_ms:.0f}",
                    f"{speed.ttft_cold_ms:.0f}",
                    f"{speed.ttft_ms_p50:.0f} / {speed.ttft_ms_p95:.0f}",
                    f"{speed.prefill_tok_s_p50:.0f} / {speed.prefill_tok_s_p95:.0f}",
                    f"{speed.decode_tok_s_p50:.1f} / {speed.decode_tok_s_p95:.1f}",
                    f"{speed.peak_rss_mib:.0f}",
                ]
            )
    return table


def gate_table(gates: Sequence[GateResult]) -> Table:
    """A line a gate."""
    lines = [
        [gate.gate, gate.subject, measured(gate), f"{gate.limit:g}", "pass" if gate.passed else "FAIL"]
        for gate in gates
    ]
    return [["gate", "of", "measured", "limit", ""], *lines]


def measured(gate: GateResult) -> str:
    """What was measured, to the digits that its limit calls for."""
    return f"{gate.measured:.{3 if 0 < abs(gate.limit) < 1 else 1}f}"


def suite_table(evaluations: Sequence[Evaluated]) -> Table:
    """A line a score, a column a checkpoint; all on one suite."""
    by_label = [{score.label: score for score in row.scores} for row in evaluations]
    table = [["score", "n", *(row.label for row in evaluations)]]
    for score in evaluations[0].scores:
        cells = [share_text(scores[score.label]) if score.label in scores else NOTHING for scores in by_label]
        table.append([score.label, str(score.n), *cells])
    return table


def share_text(score: Score) -> str:
    """A share in percent with its interval."""
    return f"{score.value * 100:.1f} ({score.low * 100:.1f}–{score.high * 100:.1f})"


def comparison_table(differences: Sequence[Difference]) -> Table:
    """A line a difference between two models' exact-call rates, in points."""
    lines = [
        [row.label, row.reference, str(row.n), f"{row.points:+.1f} ({row.low:+.1f} to {row.high:+.1f})"]
        for row in differences
    ]
    return [["model", "compared with", "n", "exact call, points"], *lines]


def parity_table(rows: Sequence[ParityRow]) -> Table:
    """A line a file: how many of its answers are torch's."""
    table = [["file", "cases", "same tokens, %", "same calls, %", "teacher-forced tokens, %", "largest margin, nats"]]
    for row in rows:
        forced = NOTHING if row.forced_agreement is None else f"{row.forced_agreement * 100:.1f}"
        margins = [difference.torch_margin for difference in row.differences]
        largest = f"{max(margins):.3f}" if margins else NOTHING
        same = [f"{row.agreement * 100:.1f}", f"{row.same_calls * 100:.1f}"]
        table.append([row.label, str(row.n), *same, forced, largest])
    return table


def difference_table(differences: Sequence[TokenDifference]) -> Table:
    """A line a case whose greedy answer is not torch's."""
    lines = [
        [
            difference.id,
            str(difference.position),
            _token(difference.torch_text, difference.torch_token),
            _token(difference.file_text, difference.file_token),
            f"{difference.torch_margin:.4f}",
            "yes" if difference.same_calls else "no",
        ]
        for difference in differences
    ]
    return [["case", "token no.", "torch says", "the file says", "margin, nats", "same calls"], *lines]


def stage_table(stages: Sequence[StageTime]) -> Table:
    """A line a stage, and their sum."""
    lines = [[stage.stage, f"{stage.minutes:.1f}"] for stage in stages]
    return [["stage", "minutes"], *lines, ["all", f"{sum(stage.minutes for stage in stages):.1f}"]]


def terminal(rows: Sequence[Row]) -> str:
    """One compact plain-text table: accuracy in percent, and speed where it was measured."""
    measured = any(row.latency is not None for row in rows)
    head = ["model", "exact call (95 %)", *(name for name, _ in RATES[1:])]
    table = [head + (["MiB", "TTFT ms", "tok/s", "RSS MiB"] if measured else [])]
    for row in rows:
        cells = [row.label]
        if row.accuracy is None:
            cells += [NOTHING] * len(RATES)
        else:
            rates = [pick(row.accuracy) for _, pick in RATES]
            cells += [_rate(rates[0], with_n=False), *(f"{rate.value * 100:.1f}" for rate in rates[1:])]
        table.append(cells + (_speed_cells(row.latency) if measured else []))
    return plain_table(table)


def _speed_cells(speed: Latency | None) -> list[str]:
    if speed is None:
        return [NOTHING] * 4
    shown = (speed.size_mib, speed.ttft_ms_p50, speed.decode_tok_s_p50, speed.peak_rss_mib)
    return [f"{value:.0f}" for value in shown]


def plain_table(table: Table) -> str:
    """Columns padded to their widest cell, the first to the left and the others to the right."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = []
    for line in table:
        cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        lines.append("  ".join([line[0].ljust(widths[0]), *cells]).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def markdown_table(table: Table) -> str:
    """A Markdown table; cells' pipes are escaped."""
    head, *lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in table]
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def _rate(rate: Rate, *, with_n: bool) -> str:
    if rate.n == 0:
        return NOTHING
    text = f"{rate.value * 100:.1f} ({rate.low * 100:.1f}–{rate.high * 100:.1f})"
    return f"{text}, n={rate.n}" if with_n else text


def _token(text: str, token: int) -> str:
    """A token as a JSON string in code marks, or its id when it has no text; a negative id is none at all."""
    if token < 0:
        return "nothing (no room)"
    if not text:
        return f"#{token}"
    quoted = json.dumps(text, ensure_ascii=False)
    return f"`` {quoted} ``" if "`" in quoted else f"`{quoted}`"
