"""A LoRA checkpoint of a run -> an adapter that is published beside the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from star_edge import engine, manifest, recipe
from star_edge.engine import Run
from star_edge.errors import ArtifactError, ModelError

EVALUATED = {"ckd": "ckd", "sim-rl": "merge"}
"""Under which name the `evaluate` stage scores what a stage left."""


def publish(run_folder: Path, out: Path, *, stage: Literal["ckd", "sim-rl"] = "sim-rl", force: bool = False) -> int:
    """Write what a stage left as a published adapter, with the scores that its evaluation has.

    Returns: size in bytes.
    Raises: ArtifactError: no run, an unfinished stage, or `out` holds something that is not to be replaced.
        ModelError: not an adapter on the recipe's student, too large, or the student's source is gone.
    """
    from star_edge.models.publication import publish_adapter

    if not (run_folder / engine.RESOLVED).is_file():
        raise ArtifactError(f"{run_folder}: not a run of star-edge (no {engine.RESOLVED} in it)")
    loaded = recipe.load(run_folder / engine.RESOLVED)
    run = Run(loaded, run_folder, "cpu")
    checkpoint, student = run.checkpoint(stage), run.checkpoint("base", "student")
    if checkpoint.base is not None and checkpoint.base.resolve() != student.folder.resolve():
        raise ModelError(
            f"{checkpoint.folder}: sits on {checkpoint.base}, which was trained and is not published; train adapters "
            "alone (tuning.method: lora in each stage of the student)"
        )
    config = loaded.recipe
    facts = {
        "recipe": config.name,
        "recipe_hash": recipe.recorded_hash(run_folder / engine.RESOLVED),
        "stage": stage,
        "seed": config.seed,
    }
    return publish_adapter(checkpoint, config.student, facts, _scores(run_folder, stage), out, force=force)


def _scores(run_folder: Path, stage: str) -> dict[str, Any]:
    """Suite -> what the evaluation of the stage's checkpoint says, once it is finished; shares in [0, 1]."""
    from star_edge.answering.evaluation import SCORES

    found: dict[str, Any] = {}
    if not (run_folder / "evaluate" / manifest.MANIFEST).is_file():
        return found
    for path in sorted((run_folder / "evaluate" / EVALUATED[stage]).glob(f"*/{SCORES}")):
        value = manifest.read_json(path)
        kept = {name: value[name] for name in ("version", "cases", "right")}
        found[path.parent.name] = kept | {"scores": {score["label"]: score["value"] for score in value["scores"]}}
    return found
