"""A validation lists what a file does wrong; it never stops at it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from filelock import FileLock
from tiny_bundles import requests

from star_edge.contracts import Bundle, Checkpoint, ValidateConfig
from star_edge.environment import versions
from star_edge.errors import ArtifactError
from star_edge.parity.validation import RESULTS, validate_bundle, validate_run

CONFIG = ValidateConfig(cases=3, threads=1, max_new_tokens=5, rows_per_forward=3)


def test_file_of_other_weights_is_scored_and_its_differences_listed(
    tiny_student: Path, gguf_bundle: Bundle, tmp_path: Path
) -> None:
    from tiny_bundles import write_gguf_bundle
    from tiny_models import write_tiny_llama

    from star_edge.calls.template import HERMES

    wrong = write_gguf_bundle(write_tiny_llama(tmp_path / "other", HERMES, seed=1), tmp_path / "wrong" / "gguf-Q8_0")
    out, answers = tmp_path / "validate", tmp_path / "answers"

    student = Checkpoint(tiny_student, "merge")
    details = validate_run(
        CONFIG, {"student": student}, [gguf_bundle, wrong], requests(4), out, answers=answers, device="cpu"
    )

    results = json.loads((out / RESULTS).read_text())
    assert details == {"cases": 3, "labels": ["student", "gguf F16", "gguf F16"]}
    assert results["exact_calls"]["student"] == [False, False, False]
    assert results["versions"] == versions()
    right, other = results["parity"]
    assert (right["agreement"], right["differences"]) == (1.0, [])
    assert len(other["differences"]) == 3
    assert max(difference["torch_margin"] for difference in other["differences"]) > 0.2
    assert sorted(path.name for path in answers.iterdir()) == ["gguf-F16", "gguf-Q8_0", "torch-5.json"]


def test_two_validations_into_one_folder_are_refused(gguf_bundle: Bundle, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(ArtifactError, match="another star-edge is working there"):
        validate_bundle(gguf_bundle, requests(1), tmp_path, threads=1, max_new_tokens=2)
    assert not (tmp_path / "generations.jsonl").exists()
    validate_bundle(gguf_bundle, requests(1), tmp_path, threads=1, max_new_tokens=2)
    assert (tmp_path / "generations.jsonl").exists()
