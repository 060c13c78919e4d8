"""Labels for prompts without an answer: a model is sampled, and where its completions agree they become a row.

rows.jsonl is written last; `star_edge.answering.samples` keeps the completions beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from star_edge.answering.samples import Sample, SamplingConfig, samples_of
from star_edge.contracts import Example
from star_edge.data.agreement import agreed
from star_edge.data.rows import write_examples
from star_edge.progress import Progress


@dataclass(frozen=True, slots=True)
class LabelConfig(SamplingConfig):
    """How prompts are labelled. agreement: share of the samples that must call alike."""

    agreement: float = 0.75


@dataclass(frozen=True, slots=True)
class Labelled:
    """What became of the prompts; `without_room` are too long for the model's context."""

    rows: int
    disagreed: int
    without_room: int


def label(
    prompts: Sequence[Example],
    model: str,
    config: LabelConfig,
    out: Path,
    *,
    limit: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Labelled:
    """Sample what is not sampled yet, then write the rows that are agreed on.

    Args and errors are those of `samples_of`.
    """
    samples = samples_of(prompts, model, config, out, limit=limit, force=force, progress=progress)
    return _write_agreed(prompts[:limit], config, samples, out)


def _write_agreed(
    prompts: Sequence[Example], config: LabelConfig, samples: Mapping[str, Sequence[Sample]], out: Path
) -> Labelled:
    needed = max(1, math.ceil(config.agreement * config.samples - 1e-9))
    rows: list[Example] = []
    without_room = 0
    for example in prompts:
        drawn = samples[example.id]
        without_room += not any(sample["tokens"] or sample["stopped"] for sample in drawn)
        row = agreed(example, [sample["text"] for sample in drawn if sample["stopped"]], needed=needed)
        rows += [row] if row is not None else []
    write_examples(out, rows)
    return Labelled(len(rows), len(prompts) - len(rows) - without_room, without_room)
