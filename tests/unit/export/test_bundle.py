from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from star_edge.contracts import Bundle
from star_edge.errors import ArtifactError, ExportError, ModelError
from star_edge_export.bundle import bundle_name, model_file, read_bundle, write_bundle

CONTENT = b"weights" * 100


@pytest.fixture
def folder(tiny_qwen2: Path, tmp_path: Path) -> Path:
    """A finished bundle whose model file is a stand-in."""
    out = tmp_path / bundle_name("gguf", "Q4_K_M")
    out.mkdir()
    model_file(out, "gguf").write_bytes(CONTENT)
    write_bundle(out, tiny_qwen2, format="gguf", quantization="Q4_K_M", seconds=1.25, details={"runtime": "x"})
    return out


def test_bundle_reads_back_as_it_was_written(folder: Path) -> None:
    assert folder.name == "gguf-Q4_K_M"
    assert read_bundle(folder) == Bundle(
        folder=folder,
        file=folder / "model.gguf",
        format="gguf",
        quantization="Q4_K_M",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size_bytes=len(CONTENT),
        context_length=512,
    )


def test_everything_a_device_needs_is_in_it(folder: Path, tiny_qwen2: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (folder / name).read_bytes() == (tiny_qwen2 / name).read_bytes()
    details = json.loads((folder / "manifest.json").read_text())["details"]
    assert details["stop_token_ids"] == [802]
    assert details["runtime"] == "x"


def test_weights_beside_an_onnx_graph_count(tiny_qwen2: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "model.onnx").write_bytes(b"12")
    (tmp_path / "b" / "model.onnx_data").write_bytes(b"345")
    assert write_bundle(tmp_path / "b", tiny_qwen2, format="onnx", quantization="int8").size_bytes == 5


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "manifest.json").unlink(), "no such file"),
        (lambda f: (f / "manifest.json").write_text("{"), "not readable as JSON"),
        (lambda f: (f / "manifest.json").write_text('{"stage": "merge", "schema": 1}'), "not a bundle"),
        (lambda f: (f / "manifest.json").write_text('{"stage": "bundle", "schema": 1, "files": {}}'), "'details' is"),
        (lambda f: (f / "model.gguf").unlink(), "model.gguf: is missing"),
        (lambda f: (f / "model.gguf").write_bytes(CONTENT[:-1]), "is 699 bytes, not 700: damaged"),
        (lambda f: flip_byte(f / "model.gguf"), "sha256 differs"),
        (lambda f: flip_byte(f / "tokenizer.json"), "tokenizer.json: its content is not what was exported"),
    ],
    ids=["no manifest", "cut manifest", "other artifact", "empty", "no model", "cut model", "bit flip", "tokenizer"],
)
def test_damaged_bundle_is_one_line(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(ArtifactError, match=message) as caught:
        read_bundle(folder)
    assert "\n" not in str(caught.value)


def test_hashes_can_be_left_unchecked_but_sizes_not(folder: Path) -> None:
    flip_byte(folder / "model.gguf")
    read_bundle(folder, check_hashes=False)
    (folder / "model.gguf").write_bytes(b"")
    with pytest.raises(ArtifactError, match="damaged"):
        read_bundle(folder, check_hashes=False)


def test_nothing_to_bundle_is_refused(tiny_student: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no model\.gguf to bundle"):
        write_bundle(tmp_path, tiny_student, format="gguf", quantization="F16")


def test_checkpoint_without_a_tokenizer_is_refused(tiny_student: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    shutil.copyfile(tiny_student / "config.json", tmp_path / "checkpoint" / "config.json")
    model_file(tmp_path, "gguf").write_bytes(CONTENT)
    with pytest.raises(ModelError, match=r"no tokenizer_config\.json"):
        write_bundle(tmp_path, tmp_path / "checkpoint", format="gguf", quantization="F16")


def test_full_disk_leaves_no_manifest(tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    model_file(tmp_path, "gguf").write_bytes(CONTENT)
    monkeypatch.setattr("star_edge_export.bundle.copy_tokenizer", full)
    with pytest.raises(ExportError, match=r"cannot be written \(No space left on device\)"):
        write_bundle(tmp_path, tiny_student, format="gguf", quantization="F16")
    with pytest.raises(ArtifactError, match="no such file"):
        read_bundle(tmp_path)
