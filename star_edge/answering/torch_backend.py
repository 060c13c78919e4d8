"""A model folder in transformers: batches of similar prompts, on a CPU or one GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import transformers

from star_edge.answering.backend import Prompts, without_room
from star_edge.contracts import Checkpoint, Example, Generation
from star_edge.data.chat import ChatCodec
from star_edge.models.folder import CONFIG, read_model_json
from star_edge.models.generate import greedy_batches
from star_edge.models.load import load


class TransformersBackend:
    """bfloat16 on a GPU that has it, else float32."""

    def __init__(self, folder: Path, *, device: str, rows_per_forward: int, threads: int | None = None) -> None:
        """Load the model.

        Raises: ModelError: the folder does not load.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self._dtype = "bfloat16" if device != "cpu" and torch.cuda.is_bf16_supported() else "float32"
        self._device = device
        self._loaded = load(Checkpoint(folder, "evaluate"), device=device, dtype=self._dtype)
        self._codec = ChatCodec(self._loaded.tokenizer, self._loaded.template)
        self._context_length = int(read_model_json(folder, CONFIG)["max_position_embeddings"])
        self._rows_per_forward = rows_per_forward
        self.start_up_s = 0.0  # the model is loaded already

    @property
    def name(self) -> str:
        return f"transformers {transformers.__version__}, {self._dtype} on {self._device}"

    def prompt_text(self, example: Example) -> str:
        return self._codec.prompt_text(example)

    def answer(self, prompts: Prompts, *, max_new_tokens: int) -> Iterator[Generation]:
        lengths = [len(self._loaded.tokenizer(text, add_special_tokens=False)["input_ids"]) for _, text in prompts]
        empty = without_room(prompts, lengths, self._context_length)
        yield from empty.values()
        asked = [prompt for index, prompt in enumerate(prompts) if index not in empty]
        for batch in greedy_batches(
            self._loaded, asked, max_new_tokens=max_new_tokens, rows_per_forward=self._rows_per_forward
        ):
            yield from batch.values()

    def close(self) -> None:
        del self._loaded
        if self._device != "cpu":
            torch.cuda.empty_cache()
