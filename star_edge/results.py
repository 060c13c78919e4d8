"""Evaluated checkpoints and the runs they came from -> a published results file, its page and its plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from star_edge import engine, pipeline, recipe
from star_edge.contracts import Score
from star_edge.errors import ArtifactError, EvaluationError
from star_edge.manifest import MANIFEST, read_json, write_atomic
from star_edge.report.plots import CURVES, Points, new_figure, plot_curves, plot_rows
from star_edge.report.results import ResultRow, Results, results_json, results_markdown

SUITE = "bfcl"
SCORES = "scores.json"
LOGS = ("log.jsonl", "watch.jsonl")
TRAINED = {
    "base": (), "warmup": ("warmup",), "adapt": ("warmup", "adapt"), "ckd": ("ckd",), "sim-rl": ("ckd", "sim-rl"),
    "merge": ("ckd", "sim-rl"),
}  # fmt: skip
"""Stage -> the stages that trained the very model it left."""


def collect(name: str, rows: Sequence[str], *, command: str) -> Results:
    """Read evaluations, `NAME=FOLDER` or `NAME=FOLDER@RUN/STAGE` each.

    FOLDER holds a `scores.json`. In a run's `evaluate/` it says itself which stage of which run was scored.

    Raises: EvaluationError: a row cannot be understood, or rows are not of the same cases of BFCL.
        ArtifactError: a file is missing or damaged. RecipeError: the run's recipe is.
    """
    named = [_split(row) for row in rows]
    names = [row_name for row_name, _, _ in named]
    if twice := next((found for found in names if names.count(found) > 1), None):
        raise EvaluationError(f"row {twice!r} stands twice; give each its own name")
    scores = [_read_scores(folder / SCORES) for _, folder, _ in named]
    _refuse_other_cases(names, scores)
    found = [_row(row_name, value, origin) for (row_name, _, origin), value in zip(named, scores, strict=True)]
    return Results(
        name=name,
        suite=f"{SUITE}, {scores[0]['version']}",
        cases=scores[0]["cases"],
        rows=tuple(found),
        command=command,
        gpu=", ".join(dict.fromkeys(value.get("machine", "unknown") for value in scores)),
        versions=_versions(scores),
    )


def _split(row: str) -> tuple[str, Path, tuple[Path, str] | None]:
    """Name, evaluation folder, and (run, stage) of the checkpoint where one is known."""
    name, equals, place = row.partition("=")
    if not (name and equals and place):
        raise EvaluationError(f"{row}: expected NAME=FOLDER, for example CKD=runs/house/evaluate/ckd/bfcl")
    folder, at, origin = place.partition("@")
    path = Path(folder)
    if at:
        run, stage = Path(origin).parent, Path(origin).name
        if stage not in TRAINED or not (run / engine.RESOLVED).is_file() or not _is_finished(run / stage):
            raise EvaluationError(f"{row}: {origin} is no finished stage of a run; give RUN/{'|'.join(TRAINED)}")
        return name, path, (run, stage)
    parents = path.resolve().parents
    if len(parents) > 2 and parents[1].name == "evaluate" and (parents[2] / engine.RESOLVED).is_file():
        if not _is_finished(parents[1]):
            raise EvaluationError(f"{row}: its run has not finished evaluating; let `star-edge distill` go on")
        return name, path, (parents[2], parents[0].name)
    return name, path, None


def _read_scores(path: Path) -> dict[str, Any]:
    """What an evaluation found.

    Raises: ArtifactError: missing, damaged, or not an evaluation's.
    """
    value = read_json(path)
    if missing := [key for key in ("suite", "version", "cases", "scores") if key not in value]:
        raise ArtifactError(f"{path}: has no {', '.join(missing)}; evaluate the checkpoint again")
    return value


def _is_finished(stage: Path) -> bool:
    return (stage / MANIFEST).is_file()


def _refuse_other_cases(names: Sequence[str], scores: Sequence[Mapping[str, Any]]) -> None:
    first = (SUITE, scores[0].get("version"), scores[0].get("cases"))
    for name, value in zip(names, scores, strict=True):
        found = (value.get("suite"), value.get("version"), value.get("cases"))
        if found != first:
            raise EvaluationError(
                f"row {name!r}: {found[2]} cases of {found[0]}, where {first[2]} of {first[0]} are due; "
                "evaluate all rows on the same cases"
            )


def _row(name: str, value: Mapping[str, Any], origin: tuple[Path, str] | None) -> ResultRow:
    scores = tuple(Score(**score) for score in value["scores"])
    if origin is None:
        return ResultRow(name, scores)
    run, stage = origin
    resolved = recipe.load(run / engine.RESOLVED).recipe
    seconds = pipeline.stage_seconds(run)
    steps = {trained: _steps(run / trained) for trained in TRAINED[stage]}
    return ResultRow(
        name,
        scores,
        seed=resolved.seed,
        minutes=sum(seconds.get(needed, 0.0) for needed in _behind(stage)) / 60,
        steps=sum(steps.values()),
        recipe=f"{resolved.name} {recipe.recorded_hash(run / engine.RESOLVED)[:12]}",
        without_effect=tuple(
            trained for trained, kept in steps.items() if not kept and (run / trained / LOGS[1]).is_file()
        ),
    )


def _behind(stage: str) -> set[str]:
    """The stage and all whose results it uses."""
    needs = {found.name: found.needs for found in pipeline.STAGES}
    return {stage}.union(*(_behind(needed) for needed in needs[stage]))


def _steps(stage: Path) -> int:
    """Optimizer steps behind the weights that a stage left; one that trained nothing has no log.

    Where a stage was watched those are the weights of its best score, and of equals the last, as `watch` keeps them.
    """
    curves = read_curves(stage)
    if scores := curves.get("score"):
        return max(scores, key=lambda point: (point[1], point[0]))[0]
    points = curves.get("loss", [])
    return points[-1][0] if points else 0


def _versions(scores: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Package -> version, or all of them where rows differ."""
    found: dict[str, list[str]] = {}
    for value in scores:
        for package, version in value.get("versions", {}).items():
            found.setdefault(package, []).append(version)
    return {package: ", ".join(dict.fromkeys(versions)) for package, versions in found.items()}


def read_curves(stage: Path) -> dict[str, Points]:
    """Field -> its points, of everything that a stage logged as a number (`log.jsonl`, `watch.jsonl`).

    Raises: ArtifactError: a line that is no JSON object with a step.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    for path in (stage / name for name in LOGS if (stage / name).is_file()):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                values = json.loads(line)
                step = int(values.pop("step"))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ArtifactError(f"{path}:{number}: no line of a training log ({error!r}); remove it") from None
            for field, value in values.items():
                if isinstance(value, (int, float)):
                    curves.setdefault(field, []).append((step, value))
    return dict(curves)


def write_results(
    results: Results, out: Path, *, curves: Sequence[str], plots: bool, force: bool = False
) -> list[Path]:
    """Write OUT.json, OUT.md and, when wanted, OUT-stages.png and OUT-curves.png.

    Args:
        out: path of the JSON file.
        curves: trainings to draw, `NAME=STAGE_FOLDER` each.
        force: write over results that are there.
    Returns: what was written.
    Raises: RuntimeMissing: plots are wanted and matplotlib is not installed; nothing is written then.
        ArtifactError: `out` does not end with .json, one of the files is there, or a stage has logged nothing that is
            drawn; nothing is written then.
    """
    if out.suffix != ".json":
        raise ArtifactError(f"{out}: the page and the plots take this name with other endings; end --out with .json")
    page, pictures = out.with_suffix(".md"), _pictures(out, curves) if plots else []
    for path in (out, page, *pictures):
        if path.exists() and not force:
            raise ArtifactError(f"{path}: is there already; choose another --out, or --force")
    if plots:
        _draw(results, curves, pictures)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(page, results_markdown(results, [path.name for path in pictures]))
    write_atomic(out, json.dumps(results_json(results), indent=1, ensure_ascii=False) + "\n")
    return [out, page, *pictures]


def _pictures(out: Path, curves: Sequence[str]) -> list[Path]:
    return [out.with_name(f"{out.stem}-{name}.png") for name in ("stages", *(["curves"] if curves else []))]


def _draw(results: Results, curves: Sequence[str], pictures: Sequence[Path]) -> None:
    new_figure(1, 1)  # refuses before anything is written
    drawn = {name: _drawn(Path(folder), text) for text in curves for name, _, folder in [text.partition("=")]}
    plot_rows(results.rows, pictures[0])
    if drawn:
        plot_curves(drawn, pictures[1])


def _drawn(stage: Path, text: str) -> dict[str, Points]:
    found = {field: points for field, points in read_curves(stage).items() if field in CURVES}
    if "=" not in text or not found:
        raise ArtifactError(
            f"{text}: nothing to draw; give NAME=RUN/STAGE of a stage whose {' or '.join(LOGS)} has a reward, an "
            "entropy or a dev score"
        )
    return found
