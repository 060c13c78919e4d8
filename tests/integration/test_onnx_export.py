"""ONNX files of the tiny models: written whole, read without torch, equal to torch."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_bundles import write_onnx_bundle

from star_edge.contracts import Bundle, Checkpoint
from star_edge.errors import ExportError, RuntimeFailure, RuntimeMissing
from star_edge.models.generate import greedy, next_token_logits
from star_edge.models.load import LoadedModel, load
from star_edge_device.runtimes import Runtime, open_runtime
from star_edge_export import onnx as exporter
from star_edge_export.blockwise import block_size, quantize_rows

PROMPT = "<|im_start|>user\nSet the lights: 42 %, café ☕ 厨房\n<tool_call><|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def fp32(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_onnx_bundle(tiny_student, tmp_path_factory.mktemp("onnx") / "onnx-fp32")


@pytest.fixture(scope="module")
def int8(fp32: Bundle, tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    from star_edge_export.bundle import write_bundle

    folder = tmp_path_factory.mktemp("onnx") / "onnx-int8"
    exporter.quantize_int8(fp32.file, folder / "model.onnx")
    return write_bundle(folder, tiny_student, format="onnx", quantization="int8")


@pytest.fixture(scope="module")
def student(tiny_student: Path) -> LoadedModel:
    return load(Checkpoint(tiny_student, "base"), device="cpu")


@pytest.fixture
def runtime(fp32: Bundle) -> Iterator[Runtime]:
    opened = open_runtime(fp32, threads=1, context_length=256)
    yield opened
    opened.close()


def test_export_leaves_one_file_and_says_nothing(
    tiny_student: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = exporter.export_onnx(tiny_student, tmp_path / "out")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["model.onnx"]
    assert path == tmp_path / "out" / "model.onnx"
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_prompt_tokens_and_logits_are_torchs(runtime: Runtime, student: LoadedModel) -> None:
    ids = runtime.tokenize(PROMPT)
    assert ids == student.tokenizer(PROMPT, add_special_tokens=False)["input_ids"]
    ours, theirs = runtime.next_token_logits(ids), next_token_logits(student, ids).numpy()
    assert np.abs(ours - theirs).max() < 1e-3


def test_greedy_answers_are_torchs_however_often_they_are_asked(runtime: Runtime, student: LoadedModel) -> None:
    (expected,) = greedy(student, [("a", PROMPT)], max_new_tokens=12, rows_per_forward=1)
    first = runtime.generate("a", PROMPT, max_new_tokens=12)
    runtime.generate("b", "something else", max_new_tokens=3)
    again = runtime.generate("a", PROMPT, max_new_tokens=12)
    for answer in (first, again):
        assert (answer.token_ids, answer.text) == (expected.token_ids, expected.text)
        assert (answer.prompt_tokens, answer.stopped) == (expected.prompt_tokens, expected.stopped)
    assert runtime.follow(runtime.tokenize(PROMPT), expected.token_ids) == list(expected.token_ids)
    assert runtime.stop_ids == set(student.stop_token_ids)  # type: ignore[attr-defined]


def test_int8_is_a_quarter_of_the_size_and_close_to_torch(int8: Bundle, fp32: Bundle, student: LoadedModel) -> None:
    assert int8.size_bytes < 0.35 * fp32.size_bytes
    runtime = open_runtime(int8, threads=1, context_length=256)
    ids = runtime.tokenize(PROMPT)
    ours, theirs = runtime.next_token_logits(ids), next_token_logits(student, ids).numpy()
    runtime.close()
    assert np.corrcoef(ours, theirs)[0, 1] > 0.995


def test_int8_leaves_no_constant_float_matrix(int8: Bundle) -> None:
    graph = onnx.load(str(int8.file)).graph
    large = [entry.name for entry in graph.initializer if entry.data_type == 1 and np.prod(entry.dims) > 100_000]
    assert large == []
    # q, k, v, o, gate, up, down of two layers, and the head; the tied embedding is stored once.
    assert sum(node.op_type == "MatMulNBits" for node in graph.node) == 15
    assert sum(entry.name.startswith("model.embed_tokens") and entry.data_type == 2 for entry in graph.initializer) == 1


@pytest.mark.parametrize("fixture", ["tiny_qwen2", "tiny_qwen3"])
def test_biases_and_norms_of_heads_agree_as_well(fixture: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(fixture)
    student = load(Checkpoint(folder, "base"), device="cpu")
    runtime = open_runtime(write_onnx_bundle(folder, tmp_path / "onnx-fp32"), threads=1, context_length=256)
    ids = runtime.tokenize(PROMPT)
    ours, theirs = runtime.next_token_logits(ids), next_token_logits(student, ids).numpy()
    runtime.close()
    assert np.abs(ours - theirs).max() < 1e-3


@pytest.mark.parametrize(("width", "block"), [(576, 64), (96, 32), (48, 16), (24, None)])
def test_block_divides_the_row(width: int, block: int | None) -> None:
    assert block_size(width) == block


def test_quantised_rows_are_within_half_a_step() -> None:
    weight = np.random.default_rng(0).normal(size=(5, 128)).astype(np.float32)
    weight[0, :64] = 0.0
    weight[1, 3] = 50.0  # an outlier spoils its own block only
    data, scales = quantize_rows(weight, 64)
    back = ((data.astype(np.float32) - 128) * scales[..., None]).reshape(5, 128)
    assert (data.shape, scales.shape) == ((5, 2, 64), (5, 2))
    assert (np.abs(back - weight) <= np.repeat(scales, 64, axis=1) / 2 + 1e-6).all()
    assert scales[1, 1] < 0.05


def full_disk(*_args: object, **_more: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("stage", ["export", "int8"])
def test_full_disk_leaves_nothing_and_says_so(
    stage: str, tiny_student: Path, fp32: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "main_export", full_disk)
    monkeypatch.setattr(exporter.onnx, "save", full_disk)
    out = tmp_path / "out"
    write = {
        "export": lambda: exporter.export_onnx(tiny_student, out),
        "int8": lambda: exporter.quantize_int8(fp32.file, out / "model.onnx"),
    }[stage]
    with pytest.raises(ExportError, match=r"No space left on device\); free some space") as raised:
        write()
    assert "\n" not in str(raised.value)
    assert list(out.iterdir()) == []


def test_folder_that_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ExportError, match="ONNX export failed") as raised:
        exporter.export_onnx(tmp_path / "in", tmp_path / "out")
    assert "\n" not in str(raised.value)


def test_damaged_graph_is_refused_in_one_line(fp32: Bundle, tmp_path: Path) -> None:
    cut = tmp_path / "model.onnx"
    cut.write_bytes(fp32.file.read_bytes()[:100_000])
    with pytest.raises(RuntimeFailure, match="onnxruntime cannot load it") as raised:
        open_runtime(dataclasses.replace(fp32, file=cut), threads=1, context_length=64)
    assert "\n" not in str(raised.value)
    with pytest.raises(ExportError, match="int8 quantisation failed"):
        exporter.quantize_int8(cut, tmp_path / "out" / "model.onnx")


def test_graph_of_another_kind_is_refused(fp32: Bundle, tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [shape], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(RuntimeFailure, match=r"not a text-generation-with-past graph \(input x\)"):
        open_runtime(dataclasses.replace(fp32, file=tmp_path / "model.onnx"), threads=1, context_length=64)


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optimum.exporters.onnx", None)
    monkeypatch.delitem(sys.modules, "star_edge_export.onnx")
    with pytest.raises(RuntimeMissing, match=r"pip install 'star-edge\[onnx\]'"):
        importlib.import_module("star_edge_export.onnx")


def test_leftovers_of_a_killed_export_are_cleared(fp32: Bundle, tmp_path: Path) -> None:
    leftover = tmp_path / "out" / exporter.UNFINISHED / "half.bin"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    exporter.quantize_int8(fp32.file, tmp_path / "out" / "model.onnx")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["model.onnx"]
