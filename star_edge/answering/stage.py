"""A run's `evaluate` stage: its checkpoints on suites.

OUT/<checkpoint>/<suite>/   what `star_edge.answering.evaluation` leaves; a stopped stage goes on there
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from star_edge.answering.backend import AnswerConfig
from star_edge.answering.evaluation import evaluate_suites
from star_edge.contracts import Checkpoint, EvaluateConfig
from star_edge.data.reading import find_file
from star_edge.evaluate.bfcl.suite import NAME as BFCL
from star_edge.evaluate.bfcl.suite import BfclSuite
from star_edge.evaluate.measures import SuiteScores
from star_edge.evaluate.suites import open_suite
from star_edge.manifest import sha256_file
from star_edge.progress import Progress, or_quiet

HELDOUT = "heldout"
"""The run's own held-out rows, as a suite."""
MOST_SHOWN = 5


def suite_versions(config: EvaluateConfig, recipe_folder: Path) -> dict[str, str]:
    """Suite -> what tells its data from other data; the held-out rows are told by the data stage.

    Raises: DataError: a file that is not there.
    """
    versions = {BFCL: BfclSuite.version, HELDOUT: HELDOUT}
    return {
        label: versions.get(name) or sha256_file(find_file(name, recipe_folder))
        for label, name in zip(config.labels, config.suites, strict=True)
    }


def evaluate_checkpoints(
    config: EvaluateConfig,
    checkpoints: Mapping[str, Checkpoint],
    heldout: Path,
    out: Path,
    *,
    recipe_folder: Path,
    device: str,
    progress: Progress | None = None,
) -> None:
    """Answer and score every suite with every checkpoint; a checkpoint is loaded once.

    Args:
        heldout: file of the run's held-out rows.
        device: "cpu" or "cuda".
    Raises: StarEdgeError: a suite cannot be had, or a checkpoint cannot be run; answers so far stay.
    """
    progress = or_quiet(progress)
    suites = {
        label: open_suite(_source(name, heldout, recipe_folder), limit=config.limit)
        for label, name in zip(config.labels, config.suites, strict=True)
    }
    for name, checkpoint in checkpoints.items():
        answering = AnswerConfig(
            backend=config.backend,
            base=None if checkpoint.base is None else str(checkpoint.base),
            chat_template="model",  # the run has chosen one, and trained with it
            device="cpu" if device == "cpu" else "cuda",
            rows_per_forward=config.rows_per_forward,
            vllm_memory_share=config.vllm_memory_share,
            max_new_tokens=config.max_new_tokens,
        )
        places = {out / name / label: suite for label, suite in suites.items()}
        found = evaluate_suites(str(checkpoint.folder), places, answering, progress=progress)
        for folder, evaluation in found.items():
            progress.line(f"  {name}, {folder.name}: {_line(evaluation.scores)}")


def _source(name: str, heldout: Path, recipe_folder: Path) -> str:
    if name == BFCL:
        return name
    return str(heldout if name == HELDOUT else find_file(name, recipe_folder))


def _line(scores: SuiteScores) -> str:
    """The aggregates, or where there is none the first scores, in percent."""
    shown = [score for score in scores.scores if score.is_aggregate] or scores.scores[:MOST_SHOWN]
    without_room = [f"{scores.without_room} prompts had no room in the context"] if scores.without_room else []
    return ", ".join([*(f"{score.label} {score.value:.1%}" for score in shown), *without_room])
