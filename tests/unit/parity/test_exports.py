"""Which folder an export goes on in, and which it leaves alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from star_edge.contracts import ExportConfig
from star_edge.errors import ArtifactError, ExportError
from star_edge.parity.exports import export_checkpoint

F16 = ExportConfig(gguf=("F16",), onnx=())


@pytest.mark.slow
def test_same_model_keeps_finished_bundles_and_another_is_refused(
    tiny_student: Path, tiny_qwen2: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundles"
    (first,) = export_checkpoint(F16, tiny_student, out)
    made = first.file.stat().st_mtime_ns
    copy = shutil.copytree(tiny_student, tmp_path / "same model elsewhere")

    assert export_checkpoint(F16, copy, out) == [first]
    assert first.file.stat().st_mtime_ns == made

    with pytest.raises(
        ArtifactError, match=r"holds the export of another model .*tiny-student.*another --out"
    ) as raised:
        export_checkpoint(F16, tiny_qwen2, out)
    assert "\n" not in str(raised.value)
    assert first.file.stat().st_mtime_ns == made


def test_changed_adapter_settings_are_another_model(tiny_student: Path, tmp_path: Path) -> None:
    from star_edge.models.adapter import checkpoint_fingerprints, find_base

    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"base_model_name_or_path": str(tiny_student), "lora_alpha": 8}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    before = checkpoint_fingerprints(adapter, find_base(adapter))
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": 16}))
    assert checkpoint_fingerprints(adapter, find_base(adapter)) != before


def test_two_exports_into_one_folder_are_refused(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(ArtifactError, match="another star-edge is working there"):
        export_checkpoint(F16, tiny_student, tmp_path)
    assert not (tmp_path / "export.json").exists()

    def exported(*_args: object, **_named: object) -> list[object]:
        with pytest.raises(ArtifactError, match="another star-edge is working there"):
            export_checkpoint(F16, tiny_student, tmp_path)
        return []

    (tmp_path / ".lock").touch()  # what a killed export leaves is nothing foreign
    monkeypatch.setattr("star_edge.parity.exports.export_all", exported)
    assert export_checkpoint(F16, tiny_student, tmp_path) == []


def test_foreign_folder_and_missing_checkpoint_are_refused_untouched(tiny_student: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="is not an export of star-edge"):
        export_checkpoint(F16, tiny_student, tmp_path)
    with pytest.raises(ExportError, match="no such folder"):
        export_checkpoint(F16, tmp_path / "nowhere", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
