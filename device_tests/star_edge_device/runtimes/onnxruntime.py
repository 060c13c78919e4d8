"""ONNX files on ONNX Runtime's CPU provider: numpy and tokenizers, no torch, no optimum.

The graph is what optimum writes for `text-generation-with-past`: `input_ids` (1, T), `attention_mask`
(1, past + T), `position_ids` (1, T) where the graph has it, `past_key_values.N.key|value` (1, heads, past,
width) in; `logits` (1, T, V) and `present.N.key|value` out. Only the last position's logits are read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime

from star_edge.contracts import Bundle
from star_edge.errors import RuntimeFailure
from star_edge_device.bundle_files import read_tokenizer, stop_tokens
from star_edge_device.runtimes.greedy import GreedyRuntime, Logits

PAST, PRESENT = "past_key_values.", "present."
FLOAT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
LOG_FATAL_ONLY = 4


class OnnxRuntime(GreedyRuntime):
    """An ONNX decoder with its key-value cache, on the CPU."""

    def __init__(self, bundle: Bundle, *, threads: int, context_length: int) -> None:
        """Load the file and the bundle's tokenizer.

        Raises: RuntimeFailure: damaged file, a graph with other inputs, or no tokenizer or end token beside it.
        """
        super().__init__(bundle, threads=threads, context_length=context_length)
        self._cache: dict[str, Any] = {}
        self._length = 0
        started = time.perf_counter()
        self._tokenizer = read_tokenizer(bundle.folder)
        self.stop_ids = stop_tokens(bundle.folder, self._tokenizer)
        self._session: Any = _open_session(bundle, threads)
        self._inputs = {entry.name: entry for entry in self._session.get_inputs()}
        self._outputs = [entry.name for entry in self._session.get_outputs()]
        self._refuse_other_graphs()
        self.load_ms = (time.perf_counter() - started) * 1000

    def _refuse_other_graphs(self) -> None:
        known = {"input_ids", "attention_mask", "position_ids"}
        strange = [name for name in self._inputs if name not in known and not name.startswith(PAST)]
        if strange or "input_ids" not in self._inputs or self._outputs[:1] != ["logits"]:
            raise RuntimeFailure(
                f"{self.bundle.file}: not a text-generation-with-past graph"
                f"{f' (input {strange[0]})' if strange else ''}; export it with star-edge export"
            )

    @property
    def name(self) -> str:
        return f"onnxruntime {onnxruntime.__version__}"

    def tokenize(self, text: str) -> list[int]:
        """Ids as the bundle's tokenizer.json gives them, nothing added."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def _prefill(self, ids: Sequence[int]) -> Logits:
        self._cache = {name: self._empty(entry) for name, entry in self._inputs.items() if name.startswith(PAST)}
        self._length = 0
        return self._run(ids)

    def _advance(self, token: int) -> Logits:
        return self._run((token,))

    def _empty(self, entry: Any) -> Any:
        _, heads, _, width = entry.shape
        return _on_cpu(np.zeros((1, heads, 0, width), dtype=FLOAT_TYPES[entry.type]))

    def _run(self, ids: Sequence[int]) -> Logits:
        """Feed ids after those already in the cache; the cache stays in ONNX Runtime's own tensors, uncopied."""
        total = self._length + len(ids)
        arrays = {
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, total), dtype=np.int64),
            "position_ids": np.arange(self._length, total, dtype=np.int64)[None],
        }
        feeds = {name: _on_cpu(array) for name, array in arrays.items() if name in self._inputs} | self._cache
        try:
            values = self._session.run_with_ort_values(self._outputs, feeds)
        except Exception as error:  # its exception classes share no base below Exception
            raise RuntimeFailure(f"{self.bundle.file}: onnxruntime failed to run it ({_first_line(error)})") from error
        outputs = dict(zip(self._outputs, values, strict=True))
        self._cache = {name: outputs[name.replace(PAST, PRESENT)] for name in self._cache}
        self._length = total
        logits: Logits = outputs["logits"].numpy()[0, -1]
        return logits

    def close(self) -> None:
        """Free the session; safe to call twice."""
        self._cache = {}
        self._session = None


def _on_cpu(array: Any) -> Any:
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


def _open_session(bundle: Bundle, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = LOG_FATAL_ONLY
    try:
        return onnxruntime.InferenceSession(str(bundle.file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise RuntimeFailure(
            f"{bundle.file}: onnxruntime cannot load it ({_first_line(error)}); export it again"
        ) from error
