from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import fake_vllm
import pytest
from filelock import FileLock
from tiny_bundles import requests

from star_edge.answering import torch_backend
from star_edge.answering.backend import AnswerConfig, Prompts, without_room
from star_edge.answering.evaluation import default_out, evaluate
from star_edge.calls.template import HERMES
from star_edge.contracts import Bundle, Generation
from star_edge.errors import ArtifactError, ModelError
from star_edge.evaluate.outputs import read_outputs
from star_edge.evaluate.suites import open_suite

CONFIG = AnswerConfig(device="cpu", rows_per_forward=2, max_new_tokens=8)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids in the order in which they are generated."""
    seen: list[str] = []
    answer = torch_backend.TransformersBackend.answer

    def watched(
        self: torch_backend.TransformersBackend, prompts: Prompts, *, max_new_tokens: int
    ) -> Iterator[Generation]:
        for generation in answer(self, prompts, max_new_tokens=max_new_tokens):
            seen.append(generation.id)
            yield generation

    monkeypatch.setattr(torch_backend.TransformersBackend, "answer", watched)
    return seen


def test_an_evaluation_leaves_answers_and_scores(tiny_student: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = evaluate(str(tiny_student), open_suite(str(rows)), CONFIG, out)
    saved = json.loads((out / "scores.json").read_text())
    assert sorted(read_outputs(found.outputs)) == [example.id for example in requests(6)]
    assert saved["suite"] == str(rows)
    assert saved["cases"] == 6
    assert saved["cut"] == found.cut == 6
    assert [score["label"] for score in saved["scores"]] == [score.label for score in found.scores.scores]
    assert saved["key"]["max_new_tokens"] == "8"
    seconds = saved["seconds"]
    assert seconds.pop("answered") == 6
    assert set(seconds) == {"start_up", "generation", "scoring"}
    assert min(seconds.values()) > 0


def test_a_killed_run_asks_nothing_twice(
    tiny_student: Path, rows: Path, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, out = open_suite(str(rows)), tmp_path / "out"
    whole = evaluate(str(tiny_student), suite, CONFIG, tmp_path / "whole").outputs.read_bytes()
    asked.clear()
    evaluate(str(tiny_student), suite, CONFIG, out)
    content = (out / "outputs.jsonl").read_bytes()
    assert content == whole
    lines = content.splitlines(keepends=True)
    (out / "outputs.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:20])
    (out / "scores.json").unlink()
    asked.clear()

    evaluate(str(tiny_student), suite, CONFIG, out)
    assert asked == [json.loads(line)["id"] for line in lines[3:]]
    assert (out / "outputs.jsonl").read_bytes() == whole
    assert (out / "scores.json").is_file()

    # With every answer there, nothing is loaded at all.
    monkeypatch.setattr("star_edge.models.load.prepare", None)
    asked.clear()
    assert evaluate(str(tiny_student), suite, CONFIG, out).cut == 6
    assert asked == []


def test_answers_before_a_failure_are_kept(
    tiny_student: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = torch_backend.TransformersBackend.answer

    def failing(
        self: torch_backend.TransformersBackend, prompts: Prompts, *, max_new_tokens: int
    ) -> Iterator[Generation]:
        with closing(answer(self, prompts, max_new_tokens=max_new_tokens)) as stream:  # type: ignore[type-var]
            yield next(stream)
        raise ModelError("out of memory")

    monkeypatch.setattr(torch_backend.TransformersBackend, "answer", failing)
    with pytest.raises(ModelError):
        evaluate(str(tiny_student), open_suite(str(rows)), CONFIG, tmp_path / "out")
    assert len(read_outputs(tmp_path / "out" / "outputs.jsonl")) == 1
    assert not (tmp_path / "out" / "scores.json").exists()


def test_a_wider_choice_of_cases_asks_only_the_new_ones(
    tiny_student: Path, rows: Path, tmp_path: Path, asked: list[str]
) -> None:
    narrow = evaluate(str(tiny_student), open_suite(str(rows), limit=2), CONFIG, tmp_path / "out")
    assert list(narrow.scores.verdicts) == ["request-0", "request-3"]
    asked.clear()
    assert len(evaluate(str(tiny_student), open_suite(str(rows)), CONFIG, tmp_path / "out").scores.verdicts) == 6
    assert sorted(asked) == ["request-1", "request-2", "request-4", "request-5"]
    asked.clear()
    assert (
        len(evaluate(str(tiny_student), open_suite(str(rows), limit=2), CONFIG, tmp_path / "out").scores.verdicts) == 2
    )
    assert asked == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_new_tokens": 9}, "another max_new_tokens (8, not 9)"),
        ({"chat_template": "hermes"}, "another chat_template (auto, not hermes)"),
        ({"backend": "file"}, "another backend (transformers, not file)"),
        ({"plain_text_tokens": ("<|im_start|>",)}, "another plain_text_tokens (, not <|im_start|>)"),
        ({}, "another checkpoint"),
    ],
)
def test_answers_of_something_else_are_refused_and_forced_away(
    change: dict[str, object], message: str, gguf_bundle: Bundle, tiny_qwen2: Path, rows: Path, tmp_path: Path
) -> None:
    out, suite = tmp_path / "out", open_suite(str(rows), limit=1)
    settings = {"device": "cpu", "max_new_tokens": 8}
    first = evaluate(str(gguf_bundle.file), suite, AnswerConfig(**settings), out)  # type: ignore[arg-type]
    before = first.outputs.read_bytes()
    config = AnswerConfig(**{**settings, **change})  # type: ignore[arg-type]
    checkpoint = str(gguf_bundle.file if change else tiny_qwen2)
    with pytest.raises(ArtifactError) as caught:
        evaluate(checkpoint, suite, config, out)
    assert message in str(caught.value)
    assert first.outputs.read_bytes() == before
    forced = evaluate(checkpoint, suite, config, out, force=True)
    assert json.loads((out / "outputs.key.json").read_text()) == json.loads((out / "scores.json").read_text())["key"]
    assert len(read_outputs(forced.outputs)) == 1


def test_answers_to_prompts_that_were_rendered_otherwise_are_refused(
    tiny_student: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    out = tmp_path / "out"
    evaluate(str(tiny_student), open_suite(str(rows), limit=2), CONFIG, out)
    asked.clear()
    monkeypatch.setattr("star_edge.answering.evaluation.HERMES", "Read on. " + HERMES)
    with pytest.raises(ArtifactError, match="another prompt for 'request-0'"):
        evaluate(str(tiny_student), open_suite(str(rows), limit=2), CONFIG, out)
    evaluate(str(tiny_student), open_suite(str(rows), limit=2), CONFIG, out, force=True)
    assert sorted(asked) == ["request-0", "request-3"]


def test_a_prompt_without_room_is_wrong_and_not_counted_as_cut(
    tiny_student: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(
        self: torch_backend.TransformersBackend, prompts: Prompts, *, max_new_tokens: int
    ) -> Iterator[Generation]:
        lengths = [9999, *[1] * (len(prompts) - 1)]
        yield from without_room(prompts, lengths, 512).values()
        yield from (Generation(id, "No.", (1,), 1, stopped=False) for id, _ in prompts[1:])

    monkeypatch.setattr(torch_backend.TransformersBackend, "answer", answer)
    found = evaluate(str(tiny_student), open_suite(str(rows)), CONFIG, tmp_path / "out")
    assert (found.cut, found.scores.without_room) == (5, 1)
    assert found.scores.reasons["request-0"] == "its prompt has no room in the context"
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["without_room"] == 1


def test_on_a_gpu_with_vllm_a_temporary_folder_is_answered_there(
    tiny_student: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = fake_vllm.install(monkeypatch, lambda *_: [5, 6])
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "Some GPU")
    found = evaluate(str(tiny_student), open_suite(str(rows)), AnswerConfig(max_new_tokens=8), tmp_path / "out")
    (line, *_) = found.outputs.read_text().splitlines()
    assert (json.loads(line)["tokens"], found.cut) == (2, 0)
    assert json.loads((tmp_path / "out" / "outputs.key.json").read_text())["backend"] == "vllm"
    assert not Path(fake.loaded["model"]).exists()
    assert fake.shutdowns == 1


def test_two_processes_do_not_write_one_file(tiny_student: Path, rows: Path, tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / ".lock", timeout=0),
        pytest.raises(ArtifactError, match="another star-edge is working there"),
    ):
        evaluate(str(tiny_student), open_suite(str(rows)), CONFIG, tmp_path)


@pytest.mark.parametrize(
    ("checkpoint", "suite", "folder"),
    [
        ("runs/quickstart/merge/model", "bfcl", "quickstart-merge-model-bfcl"),
        ("Qwen/Qwen3-0.6B", "data/dev.jsonl.gz", "Qwen-Qwen3-0.6B-dev"),
        ("/models/tiny.gguf", "bfcl", "models-tiny.gguf-bfcl"),
        ("../model", "bfcl", "model-bfcl"),
    ],
)
def test_a_folder_is_named_after_checkpoint_and_suite(checkpoint: str, suite: str, folder: str) -> None:
    assert default_out(checkpoint, suite) == Path("evaluations") / folder
