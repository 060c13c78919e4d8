"""GGUF files on llama.cpp, through the C interface of llama-cpp-python."""

from __future__ import annotations

import ctypes
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np

from star_edge.contracts import Bundle
from star_edge.errors import RuntimeFailure
from star_edge_device.bundle_files import manifest_stop_tokens
from star_edge_device.runtimes.greedy import GreedyRuntime, Logits

TOKENS_PER_BATCH = 512
LOG_LEVEL_ERROR = 4
# llama.cpp has one log for the whole process; its last errors explain why a file did not open.
_last_errors: deque[str] = deque(maxlen=4)


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _keep_errors(level: int, text: bytes, _user_data: object) -> None:
    if level == LOG_LEVEL_ERROR and text.strip():
        _last_errors.append(" ".join(text.decode("utf-8", errors="replace").split()))


class LlamaCppRuntime(GreedyRuntime):
    """A GGUF file in llama.cpp on the CPU; weights are mapped, not copied, and the KV cache is float16."""

    def __init__(self, bundle: Bundle, *, threads: int, context_length: int) -> None:
        """Load the file.

        Raises: RuntimeFailure: not a GGUF file, cut short, or of an architecture llama.cpp does not know.
        """
        super().__init__(bundle, threads=threads, context_length=context_length)
        self._model: Any = None
        self._context: Any = None
        started = time.perf_counter()
        self._open()
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._vocabulary_size = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))
        self.stop_ids = self._end_tokens()
        self.load_ms = (time.perf_counter() - started) * 1000

    def _open(self) -> None:
        _last_errors.clear()
        llama_cpp.llama_log_set(_keep_errors, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        file = self.bundle.file
        self._model = llama_cpp.llama_model_load_from_file(str(file).encode(), model_params) if file.is_file() else None
        if not self._model:
            reason = _last_errors[0] if _last_errors else "no such file"
            raise RuntimeFailure(f"{file}: llama.cpp cannot load it ({reason}); export it again")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = self.context_length
        params.n_batch = params.n_ubatch = min(TOKENS_PER_BATCH, self.context_length)
        params.n_threads = params.n_threads_batch = self.threads
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            self.close()
            raise RuntimeFailure(
                f"{file}: llama.cpp cannot make a context of {self.context_length} tokens; choose a shorter context"
            )

    def _end_tokens(self) -> frozenset[int]:
        """The end tokens that the file states, and those of torch's that llama.cpp recognises by itself.

        An end token that only the manifest knows is left out: no other program would stop there. One that only
        llama.cpp guesses is left out too, as torch goes on there.
        """
        buffer = ctypes.create_string_buffer(32)
        ids = set()
        for key in (b"tokenizer.ggml.eos_token_id", b"tokenizer.ggml.eot_token_id"):
            if llama_cpp.llama_model_meta_val_str(self._model, key, buffer, len(buffer)) > 0:
                ids.add(int(buffer.value))
        if not ids:
            raise RuntimeFailure(f"{self.bundle.file}: states no end token; export it again")
        known = manifest_stop_tokens(self.bundle.folder)
        return frozenset(ids | {id for id in known if llama_cpp.llama_vocab_is_eog(self._vocabulary, id)})

    @property
    def name(self) -> str:
        return f"llama.cpp (llama-cpp-python {llama_cpp.__version__})"

    def tokenize(self, text: str) -> list[int]:
        """Ids without a BOS token of llama.cpp's own: the template has written it where the model wants one."""
        data = text.encode()
        size = len(data) + 8
        buffer = (llama_cpp.llama_token * size)()
        count = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), buffer, size, False, True)
        if count < 0:
            raise RuntimeFailure(f"{self.bundle.file}: llama.cpp cannot tokenise a prompt of {len(data)} bytes")
        return list(buffer[:count])

    def _text(self, ids: Sequence[int]) -> str:
        return b"".join(self._piece(token) for token in ids).decode("utf-8", errors="replace")

    def _piece(self, token: int) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            written = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, size, 0, True)
            if written >= 0:
                return buffer.raw[:written]
            size = -written  # a negative answer is the size that it needs

    def _prefill(self, ids: Sequence[int]) -> Logits:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        for start in range(0, len(ids), TOKENS_PER_BATCH):
            self._decode(ids[start : start + TOKENS_PER_BATCH])
        return self._last_logits()

    def _advance(self, token: int) -> Logits:
        self._decode((token,))
        return self._last_logits()

    def _decode(self, ids: Sequence[int]) -> None:
        tokens = (llama_cpp.llama_token * len(ids))(*ids)  # the batch only points at it: it must outlive the call
        code = llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(tokens, len(ids)))
        if code != 0:
            raise RuntimeFailure(f"{self.bundle.file}: llama.cpp failed to evaluate {len(ids)} tokens (code {code})")

    def _last_logits(self) -> Logits:
        pointer = llama_cpp.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(pointer, shape=(self._vocabulary_size,))

    def close(self) -> None:
        """Free the context and the model; safe to call twice."""
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None
        if self._model:
            llama_cpp.llama_model_free(self._model)
            self._model = None
