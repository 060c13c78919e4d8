"""LoRA adapters on disk: the model each sits on, and what decides their answers. Nothing is loaded here.

An adapter of a run names the folder of its base. A published one (`star_edge.models.publication`) names a model as a
recipe does, and holds hashes by which the right one is known wherever it lies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from star_edge.contracts import ModelConfig
from star_edge.errors import ArtifactError, ModelError
from star_edge.manifest import hash_json, read_json, sha256_file
from star_edge.models.folder import read_template, tokenizer_fingerprint
from star_edge.models.sources import ADAPTER, find_source, folder_fingerprint

RECORD = "published.json"


@dataclass(frozen=True, slots=True)
class BaseRecord:
    """The base of a published adapter.

    model: the recipe's settings, with no path of the machine that published.
    weights: hash of the source's weights. prepared_weights, tokenizer: of the folder that the settings made of it.
    template: hash of the chat template.
    """

    model: ModelConfig
    weights: str
    prepared_weights: str
    tokenizer: str
    template: str


@dataclass(frozen=True, slots=True)
class AdapterBase:
    """A base that was found. settings: what makes the base's folder of `path`; null when `path` is that folder."""

    path: Path
    settings: ModelConfig | None = None


def find_base(adapter: Path, given: str | None = None) -> AdapterBase:
    """The model that an adapter sits on.

    Args:
        given: folder, `.gguf` file or hub id; null for what the adapter names itself.
    Raises: ModelError: it is not there, or not the one that a published adapter was trained on.
    """
    if (adapter / RECORD).is_file():
        return _published_base(adapter, read_base_record(adapter), given)
    if given is None:
        return AdapterBase(_named_base(adapter))
    found = find_source(ModelConfig(given))
    return AdapterBase(found.path, None if found.kind == "folder" else ModelConfig(str(found.path)))


def _named_base(adapter: Path) -> Path:
    base = Path(str(read_json(adapter / ADAPTER).get("base_model_name_or_path")))
    if not base.is_dir():
        raise ModelError(f"{adapter / ADAPTER}: its base model {base} is no local folder; say where it is with --base")
    return base


def _published_base(adapter: Path, record: BaseRecord, given: str | None) -> AdapterBase:
    wanted = record.model.source
    try:
        found = find_source(record.model if given is None else replace(record.model, source=given))
    except ModelError as error:
        if given is not None:
            raise
        raise ModelError(f"{adapter}: its base model is not here ({error}); say where it is with --base") from None
    weights = weights_hash(found.path)
    if weights == record.prepared_weights and found.path.is_dir() and _is_prepared(found.path, record):
        return AdapterBase(found.path)
    if weights == record.weights:
        return AdapterBase(found.path, replace(record.model, source=str(found.path), revision=None))
    raise ModelError(
        f"{found.path}: another model than {wanted}, which {adapter} was trained on (hash {weights[:12]}, not "
        f"{record.weights[:12]}); give that one as --base"
    )


def _is_prepared(folder: Path, record: BaseRecord) -> bool:
    """Whether a folder is what the settings make of the source already, as the one in a run is."""
    if tokenizer_fingerprint(folder) != record.tokenizer:
        return False
    try:
        return hash_json(read_template(folder)) == record.template
    except ModelError:
        return False


def read_base_record(adapter: Path) -> BaseRecord:
    """What a published adapter says of its base.

    Raises: ArtifactError: the file is damaged.
    """
    path = adapter / RECORD
    try:
        value = dict(read_json(path)["base"])
        model = dict(value.pop("model"))
        tokens = tuple(model.pop("plain_text_tokens"))
        return BaseRecord(ModelConfig(**model, plain_text_tokens=tokens), **value)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path}: does not say what the base is ({error!r}); publish the adapter again") from None


def open_base(base: AdapterBase, scratch: Path) -> Path:
    """The base's model folder, made in `scratch` where it takes making.

    Raises: ModelError: the source cannot be read, converted or pruned.
    """
    if base.settings is None:
        return base.path
    from star_edge.models.load import prepare  # torch comes with it

    return prepare(base.settings, scratch).folder


def weights_hash(source: Path) -> str:
    """Hash of a model's weights alone: of a GGUF file's bytes, or of a folder's safetensors."""
    if source.is_file():
        return sha256_file(source)
    return hash_json({file.name: sha256_file(file) for file in sorted(source.glob("*.safetensors"))})


def checkpoint_fingerprints(folder: Path, base: AdapterBase | None = None) -> dict[str, str]:
    """Hashes of all that decides a checkpoint's answers: its own files, and for an adapter its settings and base."""
    found = {"folder": folder_fingerprint(folder)}
    if base is None:
        return found
    of_base = folder_fingerprint(base.path) if base.path.is_dir() else sha256_file(base.path)
    found |= {"adapter": sha256_file(folder / ADAPTER), "base": of_base}
    return found if base.settings is None else found | {"settings": hash_json(replace(base.settings, source=""))}
