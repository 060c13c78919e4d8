from __future__ import annotations

import ctypes
import resource
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import pytest

from star_edge.errors import ExportError
from star_edge.models.gguf_file import GgufFile
from star_edge_export import quantize
from star_edge_export.gguf import export_gguf
from star_edge_export.quantize import FILE_TYPES, quantize_gguf


@pytest.fixture(scope="module")
def f16(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gguf") / "f16.gguf"
    export_gguf(tiny_student, out)
    return out


@pytest.mark.parametrize(
    ("quantization", "stored", "largest_error"),
    [
        ("Q8_0", "Q8_0", 0.01),
        ("Q6_K", "Q6_K", 0.03),
        ("Q5_K_M", "Q5_K", 0.06),
        ("Q4_K_M", "Q4_K", 0.12),
        ("Q4_0", "Q4_0", 0.15),
    ],
)
def test_each_quantisation_stores_its_type_within_its_error(
    f16: Path, tmp_path: Path, quantization: str, stored: str, largest_error: float
) -> None:
    quantize_gguf(f16, tmp_path / "q.gguf", quantization)
    before, after = GgufFile(f16), GgufFile(tmp_path / "q.gguf")
    assert set(after.tensors) == set(before.tensors)
    name = "blk.0.attn_k.weight"
    assert after.tensors[name].type == gguf.GGMLQuantizationType[stored]
    expected, found = before.tensor(name), after.tensor(name)
    assert 0 < np.linalg.norm(found - expected) / np.linalg.norm(expected) < largest_error
    tokenizer = {key: value for key, value in before.metadata.items() if key.startswith("tokenizer.")}
    assert tokenizer == {key: after.metadata[key] for key in tokenizer}


def test_all_of_our_names_are_llama_cpps(f16: Path) -> None:
    for name, number in FILE_TYPES.items():
        assert gguf.LlamaFileType(number).name == f"MOSTLY_{name}"


def test_llama_cpp_is_quiet_and_gets_its_log_back(f16: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[bytes] = []

    @llama_cpp.llama_log_callback
    def mine(_level: int, text: bytes, _user_data: object) -> None:
        seen.append(text)

    before, user_data = llama_cpp.llama_log_callback(), ctypes.c_void_p()
    llama_cpp.llama_log_get(ctypes.byref(before), ctypes.byref(user_data))
    llama_cpp.llama_log_set(mine, ctypes.c_void_p())
    try:
        quantize_gguf(f16, tmp_path / "q.gguf", "Q8_0")
        assert seen == []
        params = llama_cpp.llama_model_quantize_default_params()
        llama_cpp.llama_model_quantize(b"/no/such/file", b"/no/such/out", ctypes.byref(params))
        assert seen != []
    finally:
        llama_cpp.llama_log_set(before, user_data)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize(
    ("source", "message"),
    [(b"", "llama.cpp cannot write Q8_0"), (b"GGUF\x03\x00\x00\x00", "llama.cpp cannot write Q8_0")],
)
def test_damaged_source_is_one_line_and_leaves_nothing(tmp_path: Path, source: bytes, message: str) -> None:
    (tmp_path / "in.gguf").write_bytes(source)
    with pytest.raises(ExportError, match=message) as caught:
        quantize_gguf(tmp_path / "in.gguf", tmp_path / "out" / "q.gguf", "Q8_0")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_disk_that_fills_up_is_one_line_and_leaves_nothing(f16: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(ExportError, match=r"q\.gguf: llama\.cpp cannot write Q8_0 \(.+\); check the free space"):
            quantize_gguf(f16, tmp_path / "out" / "q.gguf", "Q8_0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "out").iterdir()) == []


def test_error_without_a_log_line_gives_the_code(f16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize.llama_cpp, "llama_model_quantize", lambda *_: 7)
    with pytest.raises(ExportError, match=r"cannot write Q4_0 \(code 7\)"):
        quantize_gguf(f16, tmp_path / "q.gguf", "Q4_0")


def test_unknown_quantisation_names_the_known_ones(f16: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'Q3_X' is not known; choose one of Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0"):
        quantize_gguf(f16, tmp_path / "q.gguf", "Q3_X")
