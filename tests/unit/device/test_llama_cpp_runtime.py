"""The tiny student in llama.cpp, against torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from star_edge.contracts import Bundle, Checkpoint
from star_edge.errors import RuntimeFailure, RuntimeMissing
from star_edge.models.generate import greedy, next_token_logits
from star_edge.models.load import LoadedModel, load
from star_edge_device.runtimes import Runtime, open_runtime

PROMPT = "<|im_start|>user\nSet the lights: 42 %, café ☕ 厨房\n<tool_call><|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def runtime(gguf_bundle: Bundle) -> Iterator[Runtime]:
    opened = open_runtime(gguf_bundle, threads=1, context_length=256)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def student(tiny_student: Path) -> LoadedModel:
    return load(Checkpoint(tiny_student, "base"), device="cpu")


def test_prompt_tokens_are_torchs_and_no_bos_is_added(runtime: Runtime, student: LoadedModel) -> None:
    assert runtime.tokenize(PROMPT) == student.tokenizer(PROMPT, add_special_tokens=False)["input_ids"]


def test_logits_are_torchs_to_float16(runtime: Runtime, student: LoadedModel) -> None:
    ids = runtime.tokenize(PROMPT)
    ours, theirs = runtime.next_token_logits(ids), next_token_logits(student, ids).numpy()
    assert ours.shape == theirs.shape == (student.tokenizer.vocab_size,)
    assert np.abs(ours - theirs).max() < 0.02


def test_greedy_answers_are_torchs_however_often_they_are_asked(runtime: Runtime, student: LoadedModel) -> None:
    (expected,) = greedy(student, [("a", PROMPT)], max_new_tokens=12, rows_per_forward=1)
    first = runtime.generate("a", PROMPT, max_new_tokens=12)
    runtime.generate("b", "something else", max_new_tokens=3)
    again = runtime.generate("a", PROMPT, max_new_tokens=12)
    for answer in (first, again):
        assert answer.token_ids == expected.token_ids
        assert (answer.text, answer.stopped) == (expected.text, expected.stopped)
        assert answer.prompt_tokens == expected.prompt_tokens
        assert answer.prefill_ms > 0
        assert answer.decode_ms > 0


def test_follow_on_its_own_answer_agrees(runtime: Runtime) -> None:
    answer = runtime.generate("a", PROMPT, max_new_tokens=8)
    assert runtime.follow(runtime.tokenize(PROMPT), answer.token_ids) == list(answer.token_ids)


def test_prompt_longer_than_a_batch_is_read_whole(gguf_bundle: Bundle, student: LoadedModel) -> None:
    runtime = open_runtime(gguf_bundle, threads=1, context_length=2048)
    ids = (runtime.tokenize(PROMPT) * 60)[:700]  # beyond one batch of 512, and the tail decides
    ours, theirs = runtime.next_token_logits(ids), next_token_logits(student, ids).numpy()
    runtime.close()
    assert np.abs(ours - theirs).max() < 0.05


def test_answer_ends_at_the_end_token_of_the_file(runtime: Runtime, student: LoadedModel) -> None:
    assert runtime.stop_ids == set(student.stop_token_ids)  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [0, 100, 0.5])
def test_damaged_file_is_refused_in_one_line(size: float, gguf_bundle: Bundle, tmp_path: Path) -> None:
    data = gguf_bundle.file.read_bytes()
    file = tmp_path / "model.gguf"
    file.write_bytes(data[: int(len(data) * size if size < 1 else size)])
    with pytest.raises(RuntimeFailure, match=r"llama\.cpp cannot load it .*export it again") as raised:
        open_runtime(dataclasses.replace(gguf_bundle, file=file), threads=1, context_length=64)
    assert "\n" not in str(raised.value)


def test_missing_file_is_refused(gguf_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match="no such file"):
        open_runtime(dataclasses.replace(gguf_bundle, file=tmp_path / "no.gguf"), threads=1, context_length=64)


def test_llama_cpp_writes_nothing_of_its_own(gguf_bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    runtime = open_runtime(gguf_bundle, threads=1, context_length=64)
    runtime.generate("a", "hello", max_new_tokens=2)
    runtime.close()
    runtime.close()
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize(("format", "extra"), [("gguf", "gguf"), ("onnx", "onnx")])
def test_missing_engine_names_the_extra(
    format: str, extra: str, gguf_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for engine in ("llama_cpp", "onnxruntime"):
        monkeypatch.setitem(sys.modules, engine, None)
        monkeypatch.delitem(sys.modules, f"star_edge_device.runtimes.{engine}", raising=False)
    with pytest.raises(RuntimeMissing, match=rf"pip install 'star-edge\[{extra}\]'"):
        open_runtime(dataclasses.replace(gguf_bundle, format=format), threads=1, context_length=64)
