"""What a CHECKPOINT argument names, found before anything is loaded, and made into one plain model folder."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from star_edge.answering.backend import AnswerConfig, BackendKind, ChatTemplate
from star_edge.contracts import Checkpoint, ModelConfig
from star_edge.errors import EvaluationError, ModelError
from star_edge.manifest import MANIFEST, hash_json, read_json, sha256_file
from star_edge.models.adapter import AdapterBase, checkpoint_fingerprints, find_base, open_base
from star_edge.models.sources import ADAPTER, resolve_source
from star_edge_export.bundle import STAGE as BUNDLE_STAGE


@dataclass(frozen=True, slots=True)
class FoundCheckpoint:
    """A checkpoint's files. `label` is what a person calls it; `fingerprint` changes when its answers may.

    base: of an adapter.
    """

    kind: Literal["model", "adapter", "bundle", "gguf"]
    path: Path
    label: str
    fingerprint: str
    base: AdapterBase | None = None


def find_checkpoint(name: str, revision: str | None = None, base: str | None = None) -> FoundCheckpoint:
    """A bundle of ours, a LoRA adapter, or whatever a recipe takes as a model's source.

    Args:
        name: folder, file or hub id; a finished stage's folder of a run stands for the checkpoint that it left.
        base: the model that the adapter sits on; null for the one that it names.
    Raises:
        ModelError: nothing is there, or an adapter's base is not.
        ArtifactError: a manifest or an adapter's settings are damaged.
    """
    path = Path(name).expanduser()
    if (path / MANIFEST).is_file() and not (path / ADAPTER).is_file():
        path, base = _of_stage(path, base)
        name = str(path)
    if (path / ADAPTER).is_file():
        on = find_base(path, base)
        return FoundCheckpoint("adapter", path, path.name, hash_json(checkpoint_fingerprints(path, on)), on)
    if base is not None:
        raise ModelError(f"{name}: no LoRA adapter (no {ADAPTER} in it), so it sits on no base; leave --base out")
    if (path / MANIFEST).is_file() and read_json(path / MANIFEST).get("stage") == BUNDLE_STAGE:
        return FoundCheckpoint("bundle", path, path.name, sha256_file(path / MANIFEST))
    source = resolve_source(ModelConfig(source=name, revision=revision))
    kind: Literal["gguf", "model"] = "gguf" if source.kind == "gguf" else "model"
    return FoundCheckpoint(kind, source.path, source.label, source.fingerprint)


def _of_stage(path: Path, base: str | None) -> tuple[Path, str | None]:
    """The checkpoint that the manifest of a run's stage names, with its base; other folders as they are.

    Raises: ModelError: it names two. ArtifactError: the manifest is damaged.
    """
    details = read_json(path / MANIFEST).get("details", {})
    saved = {name: value for name, value in details.items() if isinstance(value, dict) and "folder" in value}
    run = path.parent  # where a manifest's paths begin
    if len(saved) > 1:
        places = " or ".join(str(run / value["folder"]) for value in saved.values())
        raise ModelError(f"{path}: a stage with {len(saved)} checkpoints; give {places}")
    for value in saved.values():
        own_base = value.get("base")
        return run / value["folder"], base if base or not own_base else str(run / own_base)
    return path, base


def choose_backend(found: FoundCheckpoint, config: AnswerConfig) -> tuple[BackendKind, str]:
    """The backend that was asked for, or for "auto" the fastest that can run the checkpoint here; and its device.

    Raises: EvaluationError: what was asked for cannot run this kind of checkpoint, or there is no GPU for it.
    """
    _check_plain_text(found, config)
    if found.kind == "bundle":
        if config.backend in ("vllm", "transformers"):
            raise EvaluationError(
                f"{found.path}: an exported file runs on its own runtime; give --backend file, or the checkpoint it "
                "was exported from"
            )
        _check_file_options(found, config)
        return "file", "cpu"
    if config.backend == "file":
        if found.kind != "gguf":
            raise EvaluationError(
                f"{found.path}: no bundle and no .gguf file, which is what --backend file runs; `star-edge export` "
                "makes bundles"
            )
        _check_file_options(found, config)
        return "file", "cpu"
    device = _device(config)
    if config.backend != "auto":
        return config.backend, device
    has_vllm = device == "cuda" and importlib.util.find_spec("vllm") is not None
    return ("vllm" if has_vllm else "transformers"), device


def _check_file_options(found: FoundCheckpoint, config: AnswerConfig) -> None:
    """Raises: EvaluationError: an option that would change nothing for a file on its own runtime."""
    given = {
        "--device cuda": config.device == "cuda",
        "--revision": config.revision is not None,
        "--vllm-memory-share": config.vllm_memory_share != AnswerConfig().vllm_memory_share,
    }
    if needless := [option for option, is_given in given.items() if is_given]:
        raise EvaluationError(f"{found.path}: a file is run as it is, on the CPU; leave {' and '.join(needless)} out")


def _check_plain_text(found: FoundCheckpoint, config: AnswerConfig) -> None:
    """Raises: EvaluationError: tokens as plain text, where the tokenizer is not ours to change."""
    if not config.plain_text_tokens:
        return
    if found.kind in ("adapter", "bundle"):
        raise EvaluationError(
            f"{found.path}: its tokens are as it was trained with; --plain-text-token is for a model folder, a hub id "
            "or a .gguf file"
        )
    if config.backend == "file":
        raise EvaluationError(
            f"{found.path}: --backend file reads tokens as the file has them; give vllm or transformers with "
            "--plain-text-token"
        )


def _device(config: AnswerConfig) -> Literal["cpu", "cuda"]:
    import torch  # not needed where a file runs

    has_gpu = torch.cuda.is_available()
    if config.backend == "vllm" and config.device == "cpu":
        raise EvaluationError("--backend vllm needs a GPU, and --device cpu hides it; leave out one of them")
    if config.backend == "vllm" and not has_gpu:
        raise EvaluationError("--backend vllm: torch sees no GPU here; give --backend transformers, or leave it out")
    if config.device == "cuda" and not has_gpu:
        raise EvaluationError("--device cuda: torch sees no GPU here; give --device cpu, or leave it out")
    return "cuda" if has_gpu and config.device != "cpu" else "cpu"


def plain_folder(
    found: FoundCheckpoint, chat_template: ChatTemplate, scratch: Path, *, plain_text_tokens: tuple[str, ...] = ()
) -> Path:
    """One model folder without an adapter, with the chat template and tokens that were asked for, made in `scratch`.

    Raises: ModelError: it does not load, or cannot be converted or written.
    """
    # torch comes with these.
    from star_edge.models.load import prepare
    from star_edge.models.merge import merge

    source = found.path
    if found.base is not None:
        adapter = Checkpoint(source, "adapter", open_base(found.base, scratch / "base"))
        source = merge(adapter, scratch / "merged").folder
    config = ModelConfig(source=str(source), chat_template=chat_template, plain_text_tokens=plain_text_tokens)
    return prepare(config, scratch / "model").folder
