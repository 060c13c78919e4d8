"""The tokenizer alone is the one that the whole model comes with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from star_edge.calls.template import HERMES
from star_edge.contracts import ModelConfig
from star_edge.errors import ModelError
from star_edge.models.load import load_tokenizer, prepare, read_template
from star_edge.models.sources import HUB_FILES
from star_edge.models.tokenizer_folder import prepare_tokenizer
from star_edge_export.gguf import export_gguf


@pytest.fixture(params=["folder", "gguf"])
def source(request: pytest.FixtureRequest, tiny_folder: Path, tmp_path: Path) -> str:
    """Each tiny model as a folder and as a GGUF file."""
    if request.param == "folder":
        return str(tiny_folder)
    export_gguf(tiny_folder, tmp_path / "tiny.gguf")
    return str(tmp_path / "tiny.gguf")


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("tokenizer") or path.suffix == ".jinja":
            yield path.name, path.read_bytes()


@pytest.mark.parametrize("template", ["auto", "hermes"])
def test_files_are_those_of_the_prepared_model(source: str, template: str, tmp_path: Path) -> None:
    config = ModelConfig(source, chat_template=template)  # type: ignore[arg-type]
    prepare(config, tmp_path / "whole")
    prepare_tokenizer(config, tmp_path / "alone")

    assert dict(files(tmp_path / "alone")) == dict(files(tmp_path / "whole"))
    assert not list((tmp_path / "alone").glob("*.safetensors"))
    assert load_tokenizer(tmp_path / "alone").encode("<|im_end|>", add_special_tokens=False)


def test_tokens_as_plain_text_are_plain_here_too(tiny_qwen2: Path, tmp_path: Path) -> None:
    config = ModelConfig(str(tiny_qwen2), plain_text_tokens=("<tool_call>",))
    prepare_tokenizer(config, tmp_path)

    assert len(load_tokenizer(tmp_path).encode("<tool_call>", add_special_tokens=False)) > 1
    assert read_template(tmp_path) == HERMES


def test_only_small_files_are_fetched_from_a_hub(
    monkeypatch: pytest.MonkeyPatch, tiny_student: Path, tmp_path: Path
) -> None:
    asked: list[str] = []

    def fetch(_: str, *, allow_patterns: list[str], **__: object) -> str:
        asked.extend(allow_patterns)
        return str(tiny_student)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    prepare_tokenizer(ModelConfig("someone/some-model", revision="v1"), tmp_path)

    assert "tokenizer.json" in asked
    assert set(HUB_FILES) - set(asked) == {"*.safetensors", "model.safetensors.index.json"}


def test_folder_without_a_tokenizer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        prepare_tokenizer(ModelConfig(str(tmp_path)), tmp_path / "out")
