"""Errors, each named for the border it crossed.

StarEdgeError            exit 1   one line: what, where, what to do
├── RecipeError          exit 1   the recipe cannot be read, or says something impossible
├── DataError            exit 1   too many bad rows, or a template the data cannot pass through
├── ModelError           exit 1   weights or a tokenizer cannot be loaded
├── TeacherCacheError    exit 1   the cache does not belong to this teacher, student or template
├── TrainingError        exit 1   a training stage cannot start or has nothing to learn from
├── EvaluationError      exit 1   a suite cannot be had, or outputs to score cannot be read
├── ExportError          exit 1   a file could not be written, or differs from the checkpoint
├── RuntimeMissing       exit 1   an optional package is not installed
├── RuntimeFailure       exit 1   a runtime cannot open or run an exported file
├── ArtifactError        exit 1   an artifact folder is damaged, foreign, or would be overwritten
└── GateFailed           exit 3   everything ran, but a gate did not pass
"""

from __future__ import annotations


class StarEdgeError(Exception):
    """Expected failure: its text is one line that says what, where and what to do."""

    exit_code = 1


class RecipeError(StarEdgeError):
    """A recipe cannot be read, or asks for something impossible."""


class DataError(StarEdgeError):
    """Training or evaluation rows cannot be used."""


class ModelError(StarEdgeError):
    """Weights or a tokenizer cannot be loaded."""


class TeacherCacheError(StarEdgeError):
    """A teacher cache is damaged or belongs to another teacher, student or template."""


class TrainingError(StarEdgeError):
    """A training stage cannot start, or has nothing to learn from."""


class EvaluationError(StarEdgeError):
    """An evaluation suite cannot be had, or outputs to score cannot be read."""


class ExportError(StarEdgeError):
    """An exported file could not be written, or does not agree with its checkpoint."""


class RuntimeMissing(StarEdgeError):
    """An optional package is not installed."""

    @classmethod
    def for_extra(cls, package: str, extra: str) -> RuntimeMissing:
        """The one line every missing extra is reported with."""
        return cls(f"{package} is not installed: needs the '{extra}' extra: pip install 'star-edge[{extra}]'")


class RuntimeFailure(StarEdgeError):
    """A runtime cannot open or run an exported file."""


class ArtifactError(StarEdgeError):
    """An artifact folder is damaged, foreign, or would be overwritten."""


class GateFailed(StarEdgeError):
    """Everything ran, but accuracy, latency or size missed a gate of the recipe."""

    exit_code = 3
