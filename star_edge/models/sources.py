"""From what a recipe calls a model to files on this machine."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from star_edge.contracts import ModelConfig
from star_edge.errors import ModelError
from star_edge.manifest import hash_json, sha256_file
from star_edge.models.folder import CONFIG, GENERATION_CONFIG, TOKENIZER_FILES

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
HUB_FILES = ("*.safetensors", "model.safetensors.index.json", CONFIG, GENERATION_CONFIG, *TOKENIZER_FILES)
PACKAGE = "package:"
ADAPTER = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class FoundSource:
    """A model's files, found. `label` is what a person calls it."""

    kind: Literal["hub", "folder", "gguf"]
    path: Path
    label: str


@dataclass(frozen=True, slots=True)
class ResolvedSource(FoundSource):
    """A model's files with a `fingerprint` that changes when the weights do."""

    fingerprint: str


def resolve_source(config: ModelConfig) -> ResolvedSource:
    """Find a model as `find_source` does, and fingerprint it.

    Raises: ModelError: nothing is there, or a hub id has no revision.
    """
    found = find_source(config)
    if found.kind == "hub":
        # A snapshot's folder is named after its commit, which a tag is not.
        fingerprint = hash_json({"hub": config.source, "commit": found.path.name})
    else:
        fingerprint = sha256_file(found.path) if found.kind == "gguf" else folder_fingerprint(found.path)
    return ResolvedSource(found.kind, found.path, found.label, fingerprint)


def find_source(config: ModelConfig, *, hub_files: Sequence[str] = HUB_FILES) -> FoundSource:
    """Find a model: `package:NAME`, a `.gguf` file, a folder, or a hub id (fetched when it is not cached).

    Args:
        hub_files: patterns of the files that are fetched from a hub.
    Raises: ModelError: nothing is there, or a hub id has no revision.
    """
    source = config.source
    path = Path(source).expanduser()
    if source.startswith(PACKAGE):
        file = packaged_gguf(source.removeprefix(PACKAGE))
        return FoundSource("gguf", file, f"{file.stem} ({source})")
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"{source}: no such file; give the path of a GGUF file")
        return FoundSource("gguf", path, path.stem)
    if path.is_dir():
        return FoundSource("folder", path, path.name)
    if HUB_ID.fullmatch(source):
        return _from_hub(source, config.revision, hub_files)
    raise ModelError(f"{source}: not found; give a folder, a .gguf file, package:NAME, or a hub id with a revision")


def packaged_gguf(package: str) -> Path:
    """The one GGUF file inside an installed Python package, which is not imported.

    Raises: ModelError: not installed, or it holds none or several.
    """
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        pip_name = package.replace("_", "-")
        raise ModelError(f"package:{package}: no such package is installed; pip install {pip_name}")
    files = [file for place in spec.submodule_search_locations for file in sorted(Path(place).glob("*.gguf"))]
    if len(files) != 1:
        raise ModelError(f"package:{package}: holds {len(files)} .gguf files, not one; give the path of a file instead")
    return files[0]


def folder_fingerprint(folder: Path) -> str:
    """Hash over the weights, config and tokenizer files of a model folder."""
    files = sorted(folder.glob("*.safetensors"))
    files += [folder / name for name in (CONFIG, GENERATION_CONFIG, *TOKENIZER_FILES) if (folder / name).is_file()]
    return hash_json({file.name: sha256_file(file) for file in files})


def _from_hub(repository: str, revision: str | None, files: Sequence[str]) -> FoundSource:
    if revision is None:
        raise ModelError(
            f"{repository}: a hub id needs a revision, as it may change under a run; pin a commit or tag: "
            "`revision:` in a recipe, --revision in a command"
        )
    # The hub client is wanted by this branch alone, and takes a while to import.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(repository, revision=revision, allow_patterns=list(files)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{repository}@{revision}: cannot be fetched ({reason}); check id, revision and network, or give a folder"
        ) from error
    return FoundSource("hub", path, f"{repository}@{revision}")
