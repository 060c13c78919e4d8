"""The tokenizer and chat template of a model, as `star_edge.models.load.prepare` leaves them, without its weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from star_edge.contracts import ModelConfig
from star_edge.models.folder import (
    CONFIG,
    GENERATION_CONFIG,
    TOKENIZER,
    TOKENIZER_CONFIG,
    TOKENIZER_FILES,
    copy_tokenizer,
    read_model_json,
)
from star_edge.models.load import choose_template
from star_edge.models.plain_text import read_as_text
from star_edge.models.sources import find_source

SMALL_HUB_FILES = (CONFIG, GENERATION_CONFIG, *TOKENIZER_FILES)


def prepare_tokenizer(config: ModelConfig, out: Path) -> None:
    """Write the folder; of a GGUF file only the header is read, from a hub only small files are fetched.

    Raises: ModelError: the source cannot be found, or its tokenizer cannot be read.
    """
    source = find_source(config, hub_files=SMALL_HUB_FILES)
    out.mkdir(parents=True, exist_ok=True)
    if source.kind == "gguf":
        _from_gguf(source.path, out)
    else:
        for name in (TOKENIZER, TOKENIZER_CONFIG):
            read_model_json(source.path, name)
        if (source.path / GENERATION_CONFIG).is_file():
            shutil.copyfile(source.path / GENERATION_CONFIG, out / GENERATION_CONFIG)
        copy_tokenizer(source.path, out)
    if config.plain_text_tokens:
        read_as_text(out, config.plain_text_tokens)
    choose_template(config, out)


def _from_gguf(path: Path, out: Path) -> None:
    # Only this branch needs the optional gguf package.
    from star_edge.models.gguf_file import GgufFile
    from star_edge.models.gguf_header import read_header
    from star_edge.models.gguf_tokenizer import write_tokenizer

    file = GgufFile(path)
    write_tokenizer(file.metadata, out, where=str(path), context_length=read_header(file).context_length)
