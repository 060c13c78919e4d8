"""Rows for functions that have none, written by a model (`star_edge.data.written` has the prompts and the checks).

rows.jsonl is written last, behind rows.dev.jsonl with the held-out ones and rows.prompts.jsonl with requests alone.
`star_edge.answering.samples` keeps the completions beside it, those of the way back in rows.read-back.jsonl.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from star_edge.answering.samples import Drawing, Sample, SamplingConfig, drawing
from star_edge.contracts import Example, Tool
from star_edge.data.draws import draws
from star_edge.data.rows import as_prompt, json_lines, to_row, write_examples
from star_edge.data.written import (
    Shot,
    Wish,
    asking,
    read_request,
    read_written,
    reading,
    reads_back,
    rows_of,
    shots_of,
    wishes,
)
from star_edge.errors import ArtifactError, DataError
from star_edge.manifest import hash_json, write_atomic
from star_edge.progress import Progress, or_quiet

IN_THE_WAY = "is there already, and rows or prompts go there; choose another --out, or --force"


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the samples. functions: those with a row, held out or not. without_room: those whose prompt is too
    long for the model's context. kept: samples that passed the checks and came back the same. prompts: requests of
    others, which are there without an answer."""

    rows: int
    heldout_rows: int
    functions: int
    samples: int
    kept: int
    without_room: int
    prompts: int


def write_rows(
    tools: Sequence[Tool],
    examples: Sequence[Example],
    model: str,
    config: SamplingConfig,
    out: Path,
    *,
    parallel_share: float,
    heldout_share: float = 0.0,
    prompts_too: bool = False,
    limit: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Sample what is not sampled yet, read it back, and write the rows that come back the same.

    Args:
        examples: rows to show; those with one request and one call are used.
        heldout_share: of the functions, drawn by their names, whose rows are held out in a file of their own.
        prompts_too: write a file of requests whose arguments were not kept, of functions that are not held out.
        Others: as `drawing` and `rows_of` have them.
    Raises:
        DataError: no row can be shown, or none comes of it; the samples stay.
        StarEdgeError: as `drawing`, and a file of held-out rows or of prompts that is there already.
    """
    shots = shots_of(examples)
    if not shots:
        raise DataError("no row of --like has one request that one call of a short function answers; give other rows")
    dev, alone = files_beside(out)
    wanted = {dev: heldout_share > 0, alone: prompts_too}
    _look_beside(out, wanted, force=force, progress=or_quiet(progress))
    asked = {wish.id: wish for wish in wishes(tools, parallel_share=parallel_share, seed=config.seed)}
    prompts = [asking(wish, shots, seed=config.seed) for wish in asked.values()]
    with drawing(model, config, out, force=force, progress=progress) as opened:
        samples = opened.samples(prompts, limit=limit)
        found = _read_back(asked, samples, shots, config, opened, made_of=hash_json(prompts))
    trained_on, held_out = _sides(asked, found, heldout_share, config.seed)
    rows, heldout = (rows_of(side, parallel_share=parallel_share, seed=config.seed) for side in (trained_on, held_out))
    unanswered = _requests(asked, samples, trained_on) if prompts_too else []
    kept = [len(each) for each in found.values()]
    full = sum(not any(sample["tokens"] or sample["stopped"] for sample in drawn) for drawn in samples.values())
    done = Written(
        rows=len(rows),
        heldout_rows=len(heldout),
        functions=sum(map(bool, kept)),
        samples=len(found) * config.samples,
        kept=sum(kept),
        without_room=full,
        prompts=len(unanswered),
    )
    if not rows:
        raise DataError(f"{out}: {_why_no_row(done, len(found))}")
    beside = {dev: heldout, alone: [as_prompt(row) for row in unanswered]}
    _write_beside({path: beside[path] for path in beside if wanted[path]}, force=force)
    write_examples(out, rows)
    return done


def files_beside(out: Path) -> tuple[Path, Path]:
    """Where held-out rows and requests without an answer go."""
    return out.with_suffix(".dev.jsonl"), out.with_suffix(".prompts.jsonl")


def _look_beside(out: Path, wanted: Mapping[Path, bool], *, force: bool, progress: Progress) -> None:
    """Raises: ArtifactError: a file is where another will go, and no killed run of ours can have written it."""
    has_begun = out.with_suffix(".samples.jsonl").exists()
    for path in filter(Path.exists, wanted):
        if not wanted[path]:
            progress.line(f"  {path}: does not belong to the rows of this run; delete it, or ask for it too")
        elif not force and not has_begun:
            raise ArtifactError(f"{path}: {IN_THE_WAY}")


def _write_beside(rows: Mapping[Path, Sequence[Example]], *, force: bool) -> None:
    """Raises: ArtifactError: a file is there that says something else."""
    texts = {path: json_lines(map(to_row, examples)) for path, examples in rows.items()}
    for path, text in texts.items():
        if path.exists() and not force and path.read_bytes() != text.encode():
            raise ArtifactError(f"{path}: {IN_THE_WAY}")
    for path, text in texts.items():
        write_atomic(path, text)


def _why_no_row(done: Written, functions: int) -> str:
    if done.heldout_rows:
        return f"all {done.heldout_rows} rows are of functions that are held out; lower --heldout-share"
    return (
        f"none of {done.samples} samples is a call whose arguments fit its schema and can be read off the request; "
        f"{done.without_room} of {functions} functions have no room in the model's context; give a larger model"
    )


def _read_back(
    asked: Mapping[str, Wish],
    samples: Mapping[str, Sequence[Sample]],
    shots: Sequence[Shot],
    config: SamplingConfig,
    opened: Drawing,
    *,
    made_of: str,
) -> dict[str, list[Example]]:
    """For each prompt, by its id, the samples that may be right and whose arguments come back the same."""
    likely = {name: _readable(asked[name], drawn) for name, drawn in samples.items()}
    back = {row.id: reading(row, shots, seed=config.seed) for rows in likely.values() for row in rows}
    once = replace(config, samples=1, temperature=0.0)
    answers = opened.samples(list(back.values()), config=once, name="read-back", made_of=made_of)
    return {
        name: [row for row in rows if reads_back(row, answers[back[row.id].id][0]["text"])]
        for name, rows in likely.items()
    }


def _sides(
    asked: Mapping[str, Wish], found: Mapping[str, list[Example]], share: float, seed: int
) -> tuple[dict[str, list[Example]], dict[str, list[Example]]]:
    """What is trained on, and what is held out; by the tools' names, so that those of one name are on one side."""
    held = {name for name in found if draws(seed, "heldout", asked[name].tool["name"]).random() < share}
    return (
        {name: rows for name, rows in found.items() if name not in held},
        {name: rows for name, rows in found.items() if name in held},
    )


def _requests(
    asked: Mapping[str, Wish], samples: Mapping[str, Sequence[Sample]], kept: Mapping[str, Sequence[Example]]
) -> list[Example]:
    """Requests of samples that were not kept, for the functions of `kept`; of a function each once."""
    requests: list[Example] = []
    for name, rows in kept.items():
        said = {_request(row) for row in rows}
        for number, sample in enumerate(samples[name]):
            row = read_request(asked[name], sample["text"], f"{name}-{number}") if sample["stopped"] else None
            if row is not None and _request(row) not in said:
                said.add(_request(row))
                requests.append(row)
    return requests


def _request(row: Example) -> str:
    return str(row.prompt[-1]["content"]).casefold()


def _readable(wish: Wish, samples: Sequence[Sample]) -> list[Example]:
    """The samples of one function that may be right."""
    read = (
        read_written(wish, sample["text"], f"{wish.id}-{number}")
        for number, sample in enumerate(samples)
        if sample["stopped"]
    )
    return [row for row in read if row is not None]
