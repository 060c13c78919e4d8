"""Rows for functions that have none, written by a model (`star_edge.data.written` has the prompts and the checks).

rows.jsonl is written last; `star_edge.answering.samples` keeps the completions beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from star_edge.answering.samples import SamplingConfig, samples_of
from star_edge.contracts import Example, Tool
from star_edge.data.rows import write_examples
from star_edge.data.written import asking, read_written, rows_of, shots_of
from star_edge.errors import DataError
from star_edge.progress import Progress


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the samples. functions: those with a row. kept: samples that passed the checks.
    without_room: functions whose prompt is too long for the model's context."""

    rows: int
    functions: int
    samples: int
    kept: int
    without_room: int


def write_rows(
    tools: Sequence[Tool],
    examples: Sequence[Example],
    model: str,
    config: SamplingConfig,
    out: Path,
    *,
    parallel_share: float,
    limit: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Sample what is not sampled yet, then write the rows that can be checked.

    Args:
        examples: rows to show; those with one request and one call are used.
        Others: as `samples_of` and `rows_of` have them.
    Raises:
        DataError: no row can be shown, or none comes of it; the samples stay.
        StarEdgeError: as `samples_of`.
    """
    shots = shots_of(examples)
    if not shots:
        raise DataError("no row of --like has one request that one call of a short function answers; give other rows")
    prompts = asking(tools, shots, seed=config.seed)
    samples = samples_of(prompts, model, config, out, limit=limit, force=force, progress=progress)
    found = {
        prompt.id: [
            row
            for number, sample in enumerate(samples[prompt.id])
            if sample["stopped"] and (row := read_written(tool, sample["text"], f"{prompt.id}-{number}"))
        ]
        for prompt, tool in zip(prompts[:limit], tools[:limit], strict=True)
    }
    rows = rows_of(found, parallel_share=parallel_share, seed=config.seed)
    kept = [len(each) for each in found.values()]
    full = sum(not any(s["tokens"] or s["stopped"] for s in samples[prompt.id]) for prompt in prompts[:limit])
    done = Written(len(rows), sum(map(bool, kept)), len(found) * config.samples, sum(kept), full)
    if not rows:
        raise DataError(
            f"{out}: none of {done.samples} samples is a call whose arguments fit its schema and stand in the request; "
            f"{full} of {len(found)} functions have no room in the model's context; give a larger model"
        )
    write_examples(out, rows)
    return done
