"""Limits of the recipe against what was measured; a null limit makes no gate."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from star_edge.contracts import Accuracy, GateConfig, GateResult, Latency

EXACT_CALL_DROP = "exact-call drop (points)"
EXACT_CALL_GAIN = "exact-call gain over base (points)"
SIZE = "file size (MiB)"
TTFT = "time to first token p95 (ms)"
DECODE = "decode speed p50 (tokens/s)"
STUDENT = "student (torch)"
MARGIN = "largest overturned margin (nats)"
# Largest margin, in nats, that a format may overturn by rounding alone. Measured on SmolLM2-135M-Instruct over
# 280 greedy positions, as the largest error of the gap between torch's first and second token: fp32 below 0.001,
# F16 0.043, Q8_0 1.04 (largest overturned: none, none, 0.42). The limits are at least twice that. A wrong rope, norm or
# tokenizer overturns margins of 5 nats and more within a few tokens.
LARGEST_OVERTURNED_MARGIN = {"fp32": 0.02, "F16": 0.2, "Q8_0": 2.0}
TOLERANCE = 1e-9  # points: 2 of 100 cases are 2 points, whatever binary fractions make of it


def check(
    accuracies: Mapping[str, Accuracy],
    latencies: Mapping[str, Latency],
    config: GateConfig,
    *,
    reference: Accuracy,
    base: Accuracy | None = None,
    lossless: Collection[str] = (),
) -> list[GateResult]:
    """Every gate of the recipe, file by file.

    Args:
        accuracies, latencies: by the file's label; scored on the same cases as the reference.
        reference: the merged checkpoint in torch. base: the untrained student; its gate needs it.
        lossless: labels of the files held to `lossless_drop` instead of `exact_call_drop`.
    Returns: gain first, then each file's gates. An accuracy gate over no case at all does not pass.
    """
    results = [_gain(reference, base, config.exact_call_gain)] if base and config.exact_call_gain is not None else []
    for label, accuracy in accuracies.items():
        limit = config.lossless_drop if label in lossless else config.exact_call_drop
        if limit is not None:
            results.append(_drop(label, reference, accuracy, limit))
    for label, latency in latencies.items():
        results += _speed_and_size(label, latency, config)
    return results


def check_margins(margins: Mapping[str, float], quantizations: Mapping[str, str]) -> list[GateResult]:
    """A gate for each lossless file: rounding overturns near-ties, and nothing that torch was sure of.

    Args:
        margins: by the file's label, torch's clearest decision that the file overturned, in nats; 0.0 for none.
        quantizations: by the file's label; those that `LARGEST_OVERTURNED_MARGIN` does not name make no gate.
    """
    return [
        GateResult(MARGIN, label, margin, limit, margin <= limit)
        for label, margin in margins.items()
        if (limit := LARGEST_OVERTURNED_MARGIN.get(quantizations.get(label, ""))) is not None
    ]


def _points(a: Accuracy, b: Accuracy) -> float:
    return (a.exact_call.value - b.exact_call.value) * 100


def _gain(reference: Accuracy, base: Accuracy, limit: float) -> GateResult:
    gain = _points(reference, base)
    passed = reference.exact_call.n > 0 and gain >= limit - TOLERANCE
    return GateResult(EXACT_CALL_GAIN, STUDENT, gain, limit, passed)


def _drop(label: str, reference: Accuracy, accuracy: Accuracy, limit: float) -> GateResult:
    drop = _points(reference, accuracy)
    passed = min(reference.exact_call.n, accuracy.exact_call.n) > 0 and drop <= limit + TOLERANCE
    return GateResult(EXACT_CALL_DROP, label, drop, limit, passed)


def _speed_and_size(label: str, latency: Latency, config: GateConfig) -> list[GateResult]:
    results = []
    for gate, measured, most in (
        (SIZE, latency.size_mib, config.size_mib),
        (TTFT, latency.ttft_ms_p95, config.ttft_ms),
    ):
        if most is not None:
            results.append(GateResult(gate, label, measured, most, measured <= most))
    if config.decode_tok_s is not None:
        speed = latency.decode_tok_s_p50
        results.append(GateResult(DECODE, label, speed, config.decode_tok_s, speed >= config.decode_tok_s))
    return results
