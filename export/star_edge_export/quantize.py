"""GGUF F16 -> a smaller GGUF, by llama.cpp's own quantiser."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from star_edge.errors import ExportError, RuntimeMissing
from star_edge_export.files import whole_file

try:
    import llama_cpp
except ImportError:
    raise RuntimeMissing.for_extra("llama-cpp-python", "gguf") from None

# Names as in ExportConfig.gguf; numbers are llama_ftype, and those of K-quants differ from ggml's tensor types.
FILE_TYPES = {
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q6_K": llama_cpp.LLAMA_FTYPE_MOSTLY_Q6_K,
    "Q5_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
}
LOG_LEVEL_ERROR = 4


def quantize_gguf(source: Path, out_file: Path, quantization: str, *, threads: int = 1) -> None:
    """Write one quantised file, whole or not at all.

    A row whose length is no multiple of 256 cannot be packed by a K-quant; llama.cpp then takes Q5_0 or Q8_0 for that
    matrix, so a Q4_K_M of a narrow model is larger than its name says.

    Args:
        source: an F16 GGUF file.
        quantization: a key of FILE_TYPES.
    Raises: ExportError: an unknown quantisation, or llama.cpp refused (no space, damaged source).
    """
    if quantization not in FILE_TYPES:
        raise ExportError(f"quantisation '{quantization}' is not known; choose one of {', '.join(FILE_TYPES)}")
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = FILE_TYPES[quantization]
    params.nthread = threads
    with whole_file(out_file) as partial, log_errors_only() as errors:
        code = llama_cpp.llama_model_quantize(str(source).encode(), str(partial).encode(), ctypes.byref(params))
        if code != 0:
            reason = errors[-1] if errors else f"code {code}"
            raise ExportError(
                f"{out_file}: llama.cpp cannot write {quantization} ({reason}); check the free space and {source}"
            )


@contextmanager
def log_errors_only() -> Iterator[list[str]]:
    """Collect llama.cpp's error lines and drop the hundreds of others, then give its log back to whoever had it."""
    errors: list[str] = []

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def keep(level: int, text: bytes, _user_data: object) -> None:
        if level == LOG_LEVEL_ERROR and text.strip():
            errors.append(" ".join(text.decode("utf-8", errors="replace").split()))

    before, user_data = llama_cpp.llama_log_callback(), ctypes.c_void_p()
    llama_cpp.llama_log_get(ctypes.byref(before), ctypes.byref(user_data))
    llama_cpp.llama_log_set(keep, ctypes.c_void_p())
    try:
        yield errors
    finally:
        llama_cpp.llama_log_set(before, user_data)
