"""What runs an exported file: one class per engine, all greedy, all timed alike, none with torch.

Engines are imported when a bundle is opened, so this package needs neither of them installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from star_edge.contracts import Bundle, Generation
from star_edge.errors import RuntimeMissing


class Runtime(Protocol):
    """An open bundle. One case at a time; the key-value cache starts empty for each."""

    @property
    def name(self) -> str:
        """Engine and version, as reports print it."""

    @property
    def bundle(self) -> Bundle: ...

    @property
    def threads(self) -> int: ...

    @property
    def load_ms(self) -> float:
        """Wall time from the closed file to a runtime that can take a prompt."""

    def tokenize(self, text: str) -> list[int]:
        """Ids of a rendered prompt as this engine reads it; special tokens in the text count as such."""

    def generate(self, id: str, prompt: str, *, max_new_tokens: int) -> Generation:
        """Greedy completion of a rendered prompt, timed.

        Raises: RuntimeFailure: the prompt does not fit the context, or the engine fails.
        """

    def follow(self, prompt_ids: Sequence[int], forced: Sequence[int]) -> list[int]:
        """The file's greedy choice before each forced token: as many ids as `forced` has."""

    def next_token_logits(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """(V,) logits of the token after `ids`."""

    def close(self) -> None:
        """Free the model."""


def open_runtime(bundle: Bundle, *, threads: int, context_length: int) -> Runtime:
    """Load a bundle into the engine its format wants: llama.cpp for GGUF, ONNX Runtime for ONNX; on the CPU.

    Args:
        threads: threads that compute.
        context_length: most tokens of one case, prompt and completion together.
    Raises:
        RuntimeMissing: the engine is not installed.
        RuntimeFailure: the file is damaged, or the engine cannot run it.
    """
    if bundle.format == "gguf":
        try:
            from star_edge_device.runtimes.llama_cpp import LlamaCppRuntime
        except ImportError as error:
            raise RuntimeMissing.for_extra("llama-cpp-python", "gguf") from error
        return LlamaCppRuntime(bundle, threads=threads, context_length=context_length)
    try:
        from star_edge_device.runtimes.onnxruntime import OnnxRuntime
    except ImportError as error:
        raise RuntimeMissing.for_extra("onnxruntime", "onnx") from error
    return OnnxRuntime(bundle, threads=threads, context_length=context_length)
