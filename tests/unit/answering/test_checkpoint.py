from __future__ import annotations

import json
import shutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
from tiny_models import TOOL_TAGS
from tokenizers import Tokenizer

from star_edge.answering.backend import AnswerConfig
from star_edge.answering.checkpoint import choose_backend, find_checkpoint, plain_folder
from star_edge.calls.template import HERMES
from star_edge.contracts import Bundle
from star_edge.errors import EvaluationError, ModelError
from star_edge.models.folder import read_template


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch says that there is a GPU."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM looks installed."""
    module = ModuleType("vllm")
    module.__spec__ = ModuleSpec("vllm", None)
    monkeypatch.setitem(sys.modules, "vllm", module)


def chosen(checkpoint: Path, **settings: str) -> tuple[str, str]:
    return choose_backend(find_checkpoint(str(checkpoint)), AnswerConfig(**settings))  # type: ignore[arg-type]


def test_every_kind_of_checkpoint_is_told_apart(tiny_student: Path, gguf_bundle: Bundle) -> None:
    kinds = {name: find_checkpoint(str(path)).kind for name, path in {
        "folder": tiny_student, "bundle": gguf_bundle.folder, "file": gguf_bundle.file,
    }.items()}  # fmt: skip
    assert kinds == {"folder": "model", "bundle": "bundle", "file": "gguf"}


def test_another_template_is_another_checkpoint(tiny_student: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_student, tmp_path / "copy")
    assert find_checkpoint(str(copy)).fingerprint == find_checkpoint(str(tiny_student)).fingerprint
    (copy / "chat_template.jinja").write_text(HERMES + " ")
    assert find_checkpoint(str(copy)).fingerprint != find_checkpoint(str(tiny_student)).fingerprint


def test_a_file_runs_itself_only_when_asked_and_a_bundle_always(gguf_bundle: Bundle) -> None:
    assert chosen(gguf_bundle.folder) == ("file", "cpu")
    assert chosen(gguf_bundle.file, backend="file") == ("file", "cpu")
    assert chosen(gguf_bundle.file, device="cpu") == ("transformers", "cpu")


def test_without_a_gpu_transformers_answers(tiny_student: Path, vllm: None) -> None:
    assert chosen(tiny_student, device="cpu") == ("transformers", "cpu")


def test_with_a_gpu_vllm_answers_where_it_is_installed(tiny_student: Path, gpu: None, vllm: None) -> None:
    assert chosen(tiny_student) == ("vllm", "cuda")
    assert chosen(tiny_student, backend="transformers") == ("transformers", "cuda")
    assert chosen(tiny_student, device="cpu") == ("transformers", "cpu")


def test_with_a_gpu_but_no_vllm_transformers_answers_there(
    tiny_student: Path, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert chosen(tiny_student) == ("transformers", "cuda")


@pytest.mark.parametrize(
    ("form", "settings", "message"),
    [
        ("folder", {"backend": "file"}, "no bundle and no .gguf file"),
        ("bundle", {"backend": "transformers"}, "an exported file runs on its own runtime; give --backend file"),
        ("bundle", {"backend": "vllm"}, "an exported file runs on its own runtime; give --backend file"),
        ("folder", {"backend": "vllm"}, "--backend vllm: torch sees no GPU here"),
        ("folder", {"backend": "vllm", "device": "cpu"}, "--device cpu hides it"),
        ("folder", {"device": "cuda"}, "--device cuda: torch sees no GPU here"),
    ],
)
def test_what_cannot_run_here_is_one_line(
    form: str,
    settings: dict[str, str],
    message: str,
    tiny_student: Path,
    gguf_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(EvaluationError, match=message) as caught:
        chosen(tiny_student if form == "folder" else gguf_bundle.folder, **settings)
    assert "\n" not in str(caught.value)


def stage(folder: Path, **details: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"stage": folder.name, "details": details, "files": {}}))
    return folder


def test_a_stage_folder_stands_for_its_checkpoint(tiny_student: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_student, tmp_path / "run" / "base" / "student")
    saved = {"folder": "base/student", "stage": "merge", "base": None}
    found = find_checkpoint(str(stage(tmp_path / "run" / "merge", checkpoint=saved)))
    assert (found.kind, found.path) == ("model", model)
    assert found.fingerprint == find_checkpoint(str(tiny_student)).fingerprint


def test_a_stage_with_two_checkpoints_says_which_folders_to_give(tmp_path: Path) -> None:
    saved = {name: {"folder": f"base/{name}", "stage": "base", "base": None} for name in ("teacher", "student")}
    with pytest.raises(ModelError, match=r"2 checkpoints; give .*/base/teacher or .*/base/student"):
        find_checkpoint(str(stage(tmp_path / "base", **saved)))


def test_tokens_become_plain_text_in_a_model_folder_and_a_gguf_file(
    tiny_qwen2: Path, gguf_bundle: Bundle, tmp_path: Path
) -> None:
    folder = plain_folder(find_checkpoint(str(tiny_qwen2)), "auto", tmp_path, plain_text_tokens=TOOL_TAGS)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert len(tokenizer.encode("<tool_call>").ids) > 1
    config = AnswerConfig(device="cpu", plain_text_tokens=TOOL_TAGS)
    assert choose_backend(find_checkpoint(str(gguf_bundle.file)), config) == ("transformers", "cpu")


@pytest.mark.parametrize(
    ("form", "backend", "message"),
    [
        ("bundle", "auto", "--plain-text-token is for a model folder, a hub id or a .gguf file"),
        ("file", "file", "--backend file reads tokens as the file has them"),
    ],
)
def test_tokens_that_cannot_become_plain_text_are_one_line(
    form: str, backend: Literal["auto", "file"], message: str, gguf_bundle: Bundle
) -> None:
    found = find_checkpoint(str(gguf_bundle.file if form == "file" else gguf_bundle.folder))
    with pytest.raises(EvaluationError, match=message):
        choose_backend(found, AnswerConfig(backend=backend, plain_text_tokens=TOOL_TAGS))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"device": "cuda"}, "leave --device cuda out"),
        ({"revision": "main"}, "leave --revision out"),
        ({"vllm_memory_share": 0.5, "device": "cuda"}, "leave --device cuda and --vllm-memory-share out"),
    ],
    ids=["device", "revision", "two"],
)
@pytest.mark.parametrize("form", ["bundle", "file"])
def test_options_that_a_file_has_no_use_for_are_one_line(
    settings: dict[str, Any], named: str, form: str, gguf_bundle: Bundle
) -> None:
    found = find_checkpoint(str(gguf_bundle.file if form == "file" else gguf_bundle.folder))
    with pytest.raises(EvaluationError, match=named) as raised:
        choose_backend(found, AnswerConfig(backend="file", **settings))
    assert "\n" not in str(raised.value)
    assert choose_backend(found, AnswerConfig(backend="file", device="cpu")) == ("file", "cpu")


def test_an_adapter_is_merged_into_its_base(tiny_student: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file

    from star_edge.contracts import Checkpoint
    from star_edge.models.load import load

    model = get_peft_model(
        load(Checkpoint(tiny_student, "base"), device="cpu").model, LoraConfig(r=2, target_modules=["q_proj"])
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.5)
    adapter = tmp_path / "adapter"
    model.save_pretrained(adapter)
    settings = json.loads((adapter / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(tiny_student)
    (adapter / "adapter_config.json").write_text(json.dumps(settings))

    found = find_checkpoint(str(adapter))
    folder = plain_folder(found, "auto", tmp_path / "scratch")
    assert found.kind == "adapter"
    assert read_template(folder) == HERMES
    name = "model.layers.0.self_attn.q_proj.weight"
    before, after = (load_file(place / "model.safetensors")[name] for place in (tiny_student, folder))
    assert not torch.equal(before, after)

    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": "elsewhere"}))
    with pytest.raises(ModelError, match="its base model elsewhere is no local folder"):
        find_checkpoint(str(adapter))
