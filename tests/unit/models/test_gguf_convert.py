from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from tiny_gguf import F32, rewrite

from star_edge.contracts import Checkpoint, ModelConfig
from star_edge.errors import ModelError
from star_edge.models import gguf_convert, gguf_header
from star_edge.models.folder import CONFIG, GENERATION_CONFIG, tokenizer_fingerprint
from star_edge.models.gguf_convert import convert, unpermute
from star_edge.models.gguf_file import GgufFile
from star_edge.models.load import load, prepare
from star_edge_export.gguf import export_gguf, permute

Q8_0, Q4_0 = gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0
EMBEDDING, HEAD = "token_embd.weight", "output.weight"


@pytest.fixture(scope="session")
def llama_gguf(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gguf") / "llama.gguf"
    export_gguf(tiny_student, out)
    return out


@pytest.fixture(scope="session")
def qwen2_gguf(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gguf") / "qwen2.gguf"
    export_gguf(tiny_qwen2, out)
    return out


@pytest.fixture(scope="session")
def qwen3_gguf(tiny_qwen3: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gguf") / "qwen3.gguf"
    export_gguf(tiny_qwen3, out)
    return out


@pytest.fixture(params=["llama", "qwen2", "qwen3"])
def pair(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """(original folder, GGUF file made from it) for each architecture."""
    folder = request.getfixturevalue("tiny_student" if request.param == "llama" else f"tiny_{request.param}")
    return folder, request.getfixturevalue(f"{request.param}_gguf")


def config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    return found


def test_weights_come_back_as_float32_up_to_f16(pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder, file = pair
    convert(file, tmp_path)
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert set(after) == set(before)
    for name, weight in before.items():
        assert after[name].dtype == torch.float32
        torch.testing.assert_close(after[name], weight, atol=1e-6, rtol=1e-3)


def test_config_says_what_the_original_says(pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder, file = pair
    convert(file, tmp_path)
    before, after = config(folder), config(tmp_path)
    for name in (
        "architectures", "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings",
        "eos_token_id", "pad_token_id",
    ):  # fmt: skip
        assert after[name] == before[name], name


def test_converted_model_generates_what_the_original_does(pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder, file = pair
    ids = torch.tensor([[1, 5, 300, 40]])
    prepared = prepare(ModelConfig(str(file)), tmp_path / "base")
    with torch.inference_mode():
        before = load(Checkpoint(folder, "base"), device="cpu").model(ids).logits
        after = load(prepared, device="cpu").model(ids).logits
    torch.testing.assert_close(after, before, atol=0.02, rtol=0)
    assert torch.equal(after.argmax(-1), before.argmax(-1))
    assert tokenizer_fingerprint(prepared.folder) == tokenizer_fingerprint(folder)


def test_generation_config_ends_with_the_turn_first(llama_gguf: Path, tmp_path: Path) -> None:
    convert(llama_gguf, tmp_path)
    generation = json.loads((tmp_path / GENERATION_CONFIG).read_text())
    assert generation == {"do_sample": False, "eos_token_id": [2, 0], "pad_token_id": 0}


@pytest.mark.parametrize(("heads", "size"), [(1, 4), (3, 8), (9, 64)])
def test_unpermute_undoes_permute(heads: int, size: int) -> None:
    rows = np.arange(heads * size * 5, dtype=np.float32).reshape(heads * size, 5)
    np.testing.assert_array_equal(unpermute(permute(rows, heads), heads), rows)
    np.testing.assert_array_equal(unpermute(permute(rows[:, 0], heads), heads), rows[:, 0])


def test_permute_interleaves_the_halves_of_a_head() -> None:
    assert permute(np.arange(8.0), heads=2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


# ------------------------------------------------------------------------------------------------ tied embeddings


def test_separate_head_that_is_the_embedding_is_tied_again(llama_gguf: Path, tmp_path: Path) -> None:
    embedding = GgufFile(llama_gguf).tensor(EMBEDDING)
    file = rewrite(llama_gguf, tmp_path / "x.gguf", tensors={EMBEDDING: (embedding, Q4_0), HEAD: (embedding, Q8_0)})
    convert(file, tmp_path / "out")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert config(tmp_path / "out")["tie_word_embeddings"] is True
    assert "lm_head.weight" not in weights
    # The better copy of the two is kept.
    np.testing.assert_array_equal(weights["model.embed_tokens.weight"].numpy(), GgufFile(file).tensor(HEAD))


@pytest.mark.parametrize("kinds", [(F32, F32), (Q4_0, Q8_0), (Q8_0, Q4_0)])
def test_head_of_its_own_stays(llama_gguf: Path, tmp_path: Path, kinds: tuple[Any, Any]) -> None:
    embedding = GgufFile(llama_gguf).tensor(EMBEDDING)
    noise = np.random.default_rng(0).normal(size=embedding.shape).astype(np.float32)
    head = embedding + 0.6 * noise * embedding.std()  # trained away from the embedding, but not far
    tensors = {EMBEDDING: (embedding, kinds[0]), HEAD: (head, kinds[1])}
    file = rewrite(llama_gguf, tmp_path / "x.gguf", tensors=tensors)
    convert(file, tmp_path / "out")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert config(tmp_path / "out")["tie_word_embeddings"] is False
    np.testing.assert_array_equal(weights["lm_head.weight"].numpy(), GgufFile(file).tensor(HEAD))


def test_exact_copy_in_float32_must_be_exact(llama_gguf: Path, tmp_path: Path) -> None:
    embedding = GgufFile(llama_gguf).tensor(EMBEDDING)
    tensors = {EMBEDDING: (embedding, F32), HEAD: (embedding * 1.01, F32)}
    convert(rewrite(llama_gguf, tmp_path / "x.gguf", tensors=tensors), tmp_path / "out")
    assert config(tmp_path / "out")["tie_word_embeddings"] is False


@pytest.mark.parametrize("step", [1, 2])
def test_of_many_rows_a_sample_is_compared(
    llama_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """All of a few rows; of many every so-and-so-many-th, first and last part alike."""
    embedding = GgufFile(llama_gguf).tensor(EMBEDDING)
    monkeypatch.setattr(gguf_header, "TIE_SAMPLE", len(embedding) // step)
    compared = []
    errors = gguf_header.row_errors
    monkeypatch.setattr(gguf_header, "row_errors", lambda *rows: compared.append(len(rows[0])) or errors(*rows))
    half = embedding.copy()
    half[len(half) // 2 :] *= -1
    file = rewrite(llama_gguf, tmp_path / "x.gguf", tensors={EMBEDDING: (embedding, F32), HEAD: (half, F32)})
    assert not gguf_header.is_tied(GgufFile(file))
    assert compared == [-(-len(embedding) // step)]


# --------------------------------------------------------------------------------------------------------- shards


def test_large_model_is_written_in_shards_that_load(
    llama_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(llama_gguf, tmp_path / "whole")
    monkeypatch.setattr(gguf_convert, "SHARD_BYTES", 1_000_000)
    convert(llama_gguf, tmp_path / "shards")
    shards = sorted((tmp_path / "shards").glob("*.safetensors"))
    assert len(shards) > 2
    for shard in shards:
        with safe_open(shard, framework="np") as opened:
            sizes = [opened.get_tensor(name).nbytes for name in opened.keys()]  # noqa: SIM118
        assert sum(sizes) <= 1_000_000 or len(sizes) == 1
    load(Checkpoint(tmp_path / "shards", "base"), device="cpu")
    index = json.loads((tmp_path / "shards" / "model.safetensors.index.json").read_text())
    weights = load_file(tmp_path / "whole" / "model.safetensors")
    assert set(index["weight_map"]) == set(weights)
    for name, file in index["weight_map"].items():
        torch.testing.assert_close(load_file(tmp_path / "shards" / file)[name], weights[name])


# ------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            {"general.architecture": "gemma3"},
            r"'gemma3' cannot be converted \(known: llama, qwen2, qwen3\)",
        ),
        ({"llama.block_count": None}, "llama.block_count is missing"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type = yarn is not supported"),
        ({"llama.expert_count": 8}, "llama.expert_count = 8 is not supported"),
        ({"llama.attention.head_count_kv": [2, 1]}, "head_count_kv differs by layer"),
        ({"llama.rope.dimension_count": 32}, "rotates only a part of each head"),
        ({"tokenizer.ggml.pre": "martian"}, r"pre-tokenizer 'martian' is not known \(known: default, gpt-2,"),
        ({"tokenizer.ggml.model": "llama"}, "its tokenizer is 'llama'"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    llama_gguf: Path, tmp_path: Path, entries: dict[str, Any], message: str
) -> None:
    file = rewrite(llama_gguf, tmp_path / "x.gguf", entries=entries)
    with pytest.raises(ModelError, match=message) as caught:
        convert(file, tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"blk.0.ffn_gate_inp.weight": (np.zeros((4, 256), np.float32), F32)},
            "tensor blk.0.ffn_gate_inp.weight is not",
        ),
        ({"rope_freqs.weight": (np.ones(32, np.float32), F32)}, "tensor rope_freqs.weight is not known"),
        ({EMBEDDING: None}, "holds no token_embd.weight"),
    ],
)
def test_tensors_we_do_not_know_are_refused(
    llama_gguf: Path, tmp_path: Path, tensors: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        convert(rewrite(llama_gguf, tmp_path / "x.gguf", tensors=tensors), tmp_path / "out")


def test_lost_layer_is_noticed_when_the_model_is_loaded(llama_gguf: Path, tmp_path: Path) -> None:
    file = rewrite(llama_gguf, tmp_path / "x.gguf", tensors={"blk.1.attn_v.weight": None})
    convert(file, tmp_path / "out")
    with pytest.raises(ModelError, match=r"1 weights are missing, first model\.layers\.1\.self_attn\.v_proj\.weight"):
        load(Checkpoint(tmp_path / "out", "base"), device="cpu")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: No space")])
def test_full_disk_is_one_line(
    llama_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(gguf_convert, "save_file", full)
    with pytest.raises(ModelError, match=r"weights cannot be written \(.*No space.*\); free some space"):
        convert(llama_gguf, tmp_path / "out")
