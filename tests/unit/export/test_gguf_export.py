from __future__ import annotations

import errno
import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from star_edge.contracts import Checkpoint, TuningConfig
from star_edge.errors import ExportError, StarEdgeError
from star_edge.models.folder import CONFIG, TOKENIZER
from star_edge.models.load import load
from star_edge.models.tuning import attach
from star_edge_export.gguf import export_gguf, gguf_name, head_size, permute, rope_theta

MODELS = {"llama": "tiny_student", "qwen2": "tiny_qwen2", "qwen3": "tiny_qwen3"}


@pytest.fixture(params=list(MODELS))
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(MODELS[request.param])
    return found


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Entries and tensors of a file, by the gguf package's own reader."""
    reader = gguf.GGUFReader(path)
    return {name: field.contents() for name, field in reader.fields.items()}, {t.name: t for t in reader.tensors}


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


def change_weight(folder: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor] | None) -> None:
    weights = load_file(folder / "model.safetensors")
    old = weights.pop(name)
    if change is not None:
        weights[name] = change(old)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# ---------------------------------------------------------------------------------------------------- what is written


def test_entries_describe_the_model(folder: Path, tmp_path: Path) -> None:
    export_gguf(folder, tmp_path / "m.gguf")
    entries, _ = read(tmp_path / "m.gguf")
    config = json.loads((folder / CONFIG).read_text())
    kind = config["model_type"]
    assert entries["general.architecture"] == kind
    assert entries["general.file_type"] == 1
    assert entries[f"{kind}.block_count"] == 2
    assert entries[f"{kind}.context_length"] == 512
    assert entries[f"{kind}.embedding_length"] == 256
    assert entries[f"{kind}.feed_forward_length"] == 512
    assert entries[f"{kind}.attention.head_count"] == 4
    assert entries[f"{kind}.attention.head_count_kv"] == 2
    assert entries[f"{kind}.rope.dimension_count"] == (128 if kind == "qwen3" else 64)
    assert entries.get(f"{kind}.attention.key_length") == (128 if kind == "qwen3" else None)
    assert entries[f"{kind}.rope.freq_base"] == rope_theta(config)
    assert entries[f"{kind}.attention.layer_norm_rms_epsilon"] == pytest.approx(config["rms_norm_eps"], rel=1e-6)
    assert entries[f"{kind}.vocab_size"] == config["vocab_size"] == len(entries["tokenizer.ggml.tokens"])
    assert entries["tokenizer.chat_template"] == (folder / "chat_template.jinja").read_text()


def test_every_weight_is_there_in_its_type(folder: Path, tmp_path: Path) -> None:
    export_gguf(folder, tmp_path / "m.gguf")
    _, tensors = read(tmp_path / "m.gguf")
    weights = load_file(folder / "model.safetensors")
    config = json.loads((folder / CONFIG).read_text())
    names = {name: gguf_name(name, config["model_type"]) for name in weights}
    assert set(names.values()) == set(tensors)
    for name, weight in weights.items():
        found = tensors[names[name]]  # type: ignore[index]
        expected = weight.numpy()
        if config["model_type"] == "llama" and ("q_proj" in name or "k_proj" in name):
            expected = permute(expected, 4 if "q_proj" in name else 2)
        assert found.tensor_type.name == ("F16" if weight.ndim == 2 else "F32")
        np.testing.assert_array_equal(found.data, expected.astype(found.data.dtype))


def test_tied_head_is_left_out_and_an_untied_one_is_written(folder: Path, tmp_path: Path) -> None:
    source = copied(folder, tmp_path)
    weights = load_file(source / "model.safetensors")
    head = torch.randn(weights["model.embed_tokens.weight"].shape)
    save_file({**weights, "lm_head.weight": head}, source / "model.safetensors", metadata={"format": "pt"})
    export_gguf(source, tmp_path / "tied.gguf")
    edit(source / CONFIG, lambda config: config.update(tie_word_embeddings=False))
    export_gguf(source, tmp_path / "untied.gguf")
    assert "output.weight" not in read(tmp_path / "tied.gguf")[1]
    np.testing.assert_array_equal(read(tmp_path / "untied.gguf")[1]["output.weight"].data, head.half().numpy())


def test_bfloat16_and_shards_give_the_same_file(tiny_student: Path, tmp_path: Path) -> None:
    rounded = {name: w.bfloat16() for name, w in load_file(tiny_student / "model.safetensors").items()}
    whole, shards = copied(tiny_student, tmp_path / "a"), copied(tiny_student, tmp_path / "b")
    save_file({name: w.float() for name, w in rounded.items()}, whole / "model.safetensors")
    (shards / "model.safetensors").unlink()
    for number, (name, weight) in enumerate(rounded.items()):
        save_file({name: weight}, shards / f"model-{number}.safetensors")
    export_gguf(whole, tmp_path / "a.gguf")
    export_gguf(shards, tmp_path / "b.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


@pytest.mark.parametrize(
    ("config", "theta", "size"),
    [
        ({"rope_theta": 5e5, "hidden_size": 64, "num_attention_heads": 4}, 5e5, 16),
        ({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}, "head_dim": 128}, 1e6, 128),
        ({"rope_parameters": None, "head_dim": None, "hidden_size": 64, "num_attention_heads": 2}, 1e4, 32),
    ],
)
def test_rope_and_head_size_are_read_from_either_spelling(config: dict[str, Any], theta: float, size: int) -> None:
    assert (rope_theta(config), head_size(config)) == (theta, size)


@pytest.mark.parametrize(
    ("name", "architecture", "expected"),
    [
        ("model.layers.12.self_attn.q_proj.weight", "llama", "blk.12.attn_q.weight"),
        ("model.layers.0.self_attn.v_proj.bias", "qwen2", "blk.0.attn_v.bias"),
        ("model.layers.3.self_attn.k_norm.weight", "qwen3", "blk.3.attn_k_norm.weight"),
        ("model.layers.3.self_attn.k_norm.weight", "llama", None),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", "llama", None),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "llama", None),
        ("visual.patch_embed.weight", "qwen2", None),
    ],
)
def test_names(name: str, architecture: str, expected: str | None) -> None:
    assert gguf_name(name, architecture) == expected


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: edit(f / CONFIG, lambda c: c.update(model_type="gemma3")),
            "architecture 'gemma3' cannot be written",
        ),
        (
            lambda f: edit(f / CONFIG, lambda c: c.update(rope_scaling={"rope_type": "yarn"})),
            "scaled rotary embeddings",
        ),
        (lambda f: edit(f / CONFIG, lambda c: c.update(use_sliding_window=True)), "sliding-window attention"),
        (lambda f: edit(f / CONFIG, lambda c: c.update(num_hidden_layers=3)), "weights are missing, first blk.2."),
        (lambda f: change_weight(f, "model.norm.weight", None), "1 weights are missing, first output_norm.weight"),
        (lambda f: change_weight(f, "model.norm.weight", lambda w: w * torch.nan), "values F16 cannot hold"),
        (lambda f: change_weight(f, "model.layers.0.mlp.up_proj.weight", lambda w: w * 1e7), "values F16 cannot hold"),
        (lambda f: (f / TOKENIZER).unlink(), "no tokenizer.json"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), "not readable"),
    ],
    ids=["architecture", "rope", "window", "layers", "norm", "nan", "overflow", "tokenizer", "damaged"],
)
def test_what_gguf_cannot_take_is_refused_and_leaves_nothing(
    tiny_student: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    source = copied(tiny_student, tmp_path)
    damage(source)
    out = tmp_path / "out" / "m.gguf"
    with pytest.raises(StarEdgeError, match=message) as caught:
        export_gguf(source, out)
    assert "\n" not in str(caught.value)
    assert not out.parent.exists() or list(out.parent.iterdir()) == []


def test_adapter_is_to_be_merged_first(tiny_student: Path, tmp_path: Path) -> None:
    model = attach(load(Checkpoint(tiny_student, "base"), device="cpu").model, TuningConfig(rank=2), None)
    model.save_pretrained(tmp_path)
    shutil.copyfile(tiny_student / CONFIG, tmp_path / CONFIG)
    with pytest.raises(ExportError, match="merge an adapter before exporting"):
        export_gguf(tmp_path, tmp_path / "m.gguf")


# ------------------------------------------------------------------------------------------------------------ full disk


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """The kernel refuses to write further into any file, as a full disk does (EFBIG instead of ENOSPC)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit_bytes", [1_000, 100_000, 2_000_000])
def test_disk_that_fills_up_is_one_line_and_leaves_nothing(
    tiny_student: Path, tmp_path: Path, limit_bytes: int
) -> None:
    with file_size_limit(limit_bytes), pytest.raises(ExportError, match=r"m\.gguf: cannot be written") as caught:
        export_gguf(tiny_student, tmp_path / "m.gguf")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.rglob("*gguf*")) == []


def test_no_space_keeps_the_file_that_was_there(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_gguf(tiny_student, tmp_path / "m.gguf")
    before = (tmp_path / "m.gguf").read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", full)
    with pytest.raises(ExportError, match=r"\(No space left on device\); free some space"):
        export_gguf(tiny_student, tmp_path / "m.gguf")
    assert (tmp_path / "m.gguf").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["m.gguf"]
