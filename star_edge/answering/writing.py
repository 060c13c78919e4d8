"""Rows for functions that have none, written by a model (`star_edge.data.written` has the prompts and the checks).

rows.jsonl is written last; `star_edge.answering.samples` keeps the completions beside it, those of the way back in
rows.read-back.jsonl.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from star_edge.answering.samples import Sample, SamplingConfig, drawing
from star_edge.contracts import Example, Tool
from star_edge.data.rows import write_examples
from star_edge.data.written import (
    asking,
    read_written,
    reading,
    reads_back,
    rows_of,
    shots_of,
    wanted_parameters,
)
from star_edge.errors import DataError
from star_edge.manifest import hash_json
from star_edge.progress import Progress


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the samples. functions: those with a row. without_room: those whose prompt is too long for the
    model's context. kept: samples that passed the checks and came back the same."""

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
    """Sample what is not sampled yet, read it back, and write the rows that come back the same.

    Args:
        examples: rows to show; those with one request and one call are used.
        Others: as `drawing` and `rows_of` have them.
    Raises:
        DataError: no row can be shown, or none comes of it; the samples stay.
        StarEdgeError: as `drawing`.
    """
    shots = shots_of(examples)
    if not shots:
        raise DataError("no row of --like has one request that one call of a short function answers; give other rows")
    prompts = asking(tools, shots, seed=config.seed)
    with drawing(model, config, out, force=force, progress=progress) as model_drawing:
        samples = model_drawing.samples(prompts, limit=limit)
        likely = {
            prompt.id: _readable(prompt.id, tool, samples[prompt.id], config.seed)
            for prompt, tool in zip(prompts[:limit], tools[:limit], strict=True)
        }
        back = {row.id: reading(row, shots, seed=config.seed) for rows in likely.values() for row in rows}
        answers = model_drawing.samples(
            list(back.values()),
            config=replace(config, samples=1, temperature=0.0),
            name="read-back",
            made_of=hash_json(prompts),
        )
    found = {
        name: [row for row in rows if any(reads_back(row, each["text"]) for each in answers[back[row.id].id])]
        for name, rows in likely.items()
    }
    rows = rows_of(found, parallel_share=parallel_share, seed=config.seed)
    kept = [len(each) for each in found.values()]
    full = sum(not any(s["tokens"] or s["stopped"] for s in samples[prompt.id]) for prompt in prompts[:limit])
    done = Written(len(rows), sum(map(bool, kept)), len(found) * config.samples, sum(kept), full)
    if not rows:
        raise DataError(
            f"{out}: none of {done.samples} samples is a call whose arguments fit its schema and can be read off the "
            f"request; {full} of {len(found)} functions have no room in the model's context; give a larger model"
        )
    write_examples(out, rows)
    return done


def _readable(prompt: str, tool: Tool, samples: Sequence[Sample], seed: int) -> list[Example]:
    """The samples of one function that may be right."""
    wanted = wanted_parameters(tool, prompt, seed)
    read = (
        read_written(tool, sample["text"], f"{prompt}-{number}", wanted)
        for number, sample in enumerate(samples)
        if sample["stopped"]
    )
    return [row for row in read if row is not None]
