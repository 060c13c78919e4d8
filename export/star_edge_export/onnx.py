"""ONNX files: optimum writes the float32 graph with its key-value cache, `blockwise` rounds the weights.

One file, `model.onnx`; only a model beyond protobuf's 2 GB gets `model.onnx_data` beside it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

from star_edge.errors import ExportError, RuntimeMissing

try:
    import onnx
    from optimum.exporters.onnx import main_export

    from star_edge_export.blockwise import quantize_decoder
except ImportError as error:
    raise RuntimeMissing.for_extra("optimum-onnx", "onnx") from error

MODEL = "model.onnx"
EXTERNAL_DATA = "model.onnx_data"
TASK = "text-generation-with-past"
UNFINISHED = ".unfinished"


def export_onnx(checkpoint_folder: Path, out_dir: Path) -> Path:
    """Trace a Hugging Face folder to a float32 graph with key-value cache inputs and outputs.

    The graph appears in `out_dir` whole or not at all. Other files of the folder are left alone.

    Returns: the path of `model.onnx`.
    Raises:
        ExportError: the folder cannot be exported, or the disk is full.
        RuntimeMissing: the 'onnx' extra is not installed (raised when this module is imported).
    """
    with _written_whole(out_dir, "ONNX export") as folder, _quiet():
        main_export(
            str(checkpoint_folder),
            output=folder,
            task=TASK,
            dtype="fp32",
            device="cpu",
            library_name="transformers",
            local_files_only=True,
            do_validation=False,  # the file is compared with torch on real prompts, by star_edge.parity
        )
    return out_dir / MODEL


def quantize_int8(source: Path, out_file: Path) -> None:
    """Round the weights of a float32 graph to int8 in blocks (see `star_edge_export.blockwise`).

    Args:
        source: `model.onnx` as `export_onnx` wrote it.
        out_file: named `model.onnx`, in another folder.
    Raises: ExportError: the source is damaged, or the disk is full.
    """
    with _written_whole(out_file.parent, "int8 quantisation") as folder:
        onnx.save(quantize_decoder(onnx.load(source)), folder / out_file.name)


@contextlib.contextmanager
def _written_whole(out_dir: Path, what: str) -> Iterator[Path]:
    """A folder to write into; its model is moved to `out_dir` at the end, one-line errors come out instead."""
    folder = out_dir / UNFINISHED
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)  # a killed run may have left one
        folder.mkdir()
        yield folder
        for name in (EXTERNAL_DATA, MODEL):  # the model last: where it is, its data is
            if (folder / name).exists():
                os.replace(folder / name, out_dir / name)
    except OSError as error:
        reason = error.strerror or str(error).split("\n")[0]
        advice = "free some space" if error.errno == errno.ENOSPC else "check the source and the folder"
        raise ExportError(f"{out_dir}: {what} failed ({reason}); {advice} or choose another --out") from error
    except Exception as error:  # torch, optimum and protobuf each raise what they like
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ExportError(f"{out_dir}: {what} failed ({reason}); is the checkpoint a causal language model?") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallow the exporter's tracer warnings, log lines and progress bars."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
