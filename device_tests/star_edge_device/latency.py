"""Measurements of single cases -> the speed of a file.

All figures are over whole cases, each with an empty key-value cache. Time to first token runs from the prompt's
text to the choice of the first token. A decode step is one evaluation after that, the end token's included.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from star_edge.contracts import Generation, Latency
from star_edge.errors import RuntimeFailure
from star_edge_device.machine import MIB, cpu_name
from star_edge_device.runtimes.greedy import clock_kind
from star_edge_device.store import Measurement


def decode_steps(generation: Generation) -> int:
    """Evaluations after the first token: the end token costs one, the last token of a cut completion none."""
    return max(len(generation.token_ids) - (0 if generation.stopped else 1), 0)


def summarise(measurements: Sequence[Measurement], *, runtime: str, threads: int, size_bytes: int) -> Latency:
    """Load time, time to first token and speeds with their slow tails, peak memory, size.

    Args:
        measurements: in the order they ran; those after a resume come from another process, which opened the file
            again: the first cold one counts as the cold start, and no cold one counts as warm.
        runtime: engine and version.
    Raises: RuntimeFailure: there is nothing to summarise.
    """
    cold = [entry for entry in measurements if entry.is_cold]
    if not cold:
        raise RuntimeFailure("no case was measured; give the validation at least one")
    warm = [entry.generation for entry in measurements if not entry.is_cold] or [cold[0].generation]
    ttft = [generation.prefill_ms for generation in warm]
    prefill = [_per_second(generation.prompt_tokens, generation.prefill_ms) for generation in warm]
    decode = [
        _per_second(steps, generation.decode_ms) for generation in warm if (steps := decode_steps(generation)) > 0
    ]
    return Latency(
        runtime=runtime,
        device=cpu_name(),
        threads=threads,
        n=len(warm),
        load_ms=cold[0].load_ms,
        ttft_cold_ms=cold[0].generation.prefill_ms,
        ttft_ms_p50=_percentile(ttft, 50),
        ttft_ms_p95=_percentile(ttft, 95),
        prefill_tok_s_p50=_percentile(prefill, 50),
        prefill_tok_s_p95=_percentile(prefill, 5),
        decode_tok_s_p50=_percentile(decode, 50),
        decode_tok_s_p95=_percentile(decode, 5),
        peak_rss_mib=max(entry.peak_rss_mib for entry in measurements),
        size_mib=size_bytes / MIB,
        clock=clock_kind(threads),
    )


def _per_second(count: int, milliseconds: float) -> float:
    return count * 1000 / milliseconds if milliseconds > 0 else 0.0


def _percentile(values: Sequence[float], percent: float) -> float:
    """Linear between neighbours; 0.0 of nothing."""
    return float(np.percentile(values, percent)) if values else 0.0
