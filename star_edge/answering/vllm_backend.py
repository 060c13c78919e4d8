"""A model folder in vLLM: our tokens in, tokens out, our text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from star_edge.answering.backend import AnswerConfig, Prompts, without_room
from star_edge.contracts import Example, Generation
from star_edge.data.chat import ChatCodec
from star_edge.models.folder import CONFIG, read_model_json, read_template
from star_edge.models.load import load_tokenizer
from star_edge.models.sampling import Sample
from star_edge.models.vllm_engine import VllmEngine

# Answers reach the disk after so many, which vLLM batches as it likes; every call waits for its longest answer.
PROMPTS_PER_CALL = 2048


class VllmBackend:
    """The engine starts with the first prompts, whose longest says how much room a sequence needs.

    Later ones that fit go to the same engine; for longer ones it starts again.
    """

    def __init__(self, folder: Path, *, memory_share: float = 0.9) -> None:
        """Read the tokenizer and the template.

        Args:
            memory_share: of the GPU's memory, for the engine.
        Raises: ModelError: the folder lacks one.
        """
        self._folder = folder
        self._memory_share = memory_share
        self._tokenizer = load_tokenizer(folder)
        self._codec = ChatCodec(self._tokenizer, read_template(folder))
        self._context_length = int(read_model_json(folder, CONFIG)["max_position_embeddings"])
        self._engine: VllmEngine | None = None
        self._room = 0
        self.start_up_s = 0.0

    @property
    def name(self) -> str:
        return f"vllm {self._engine.version}, bfloat16" if self._engine else "vllm, bfloat16"

    def prompt_text(self, example: Example) -> str:
        return self._codec.prompt_text(example)

    def answer(self, prompts: Prompts, *, max_new_tokens: int) -> Iterator[Generation]:
        """As the interface has it.

        Raises: RuntimeMissing, ModelError: vLLM is not installed, or cannot run the model here.
        """
        encoded = [list(self._tokenizer.encode(text, add_special_tokens=False)) for _, text in prompts]
        empty = without_room(prompts, map(len, encoded), self._context_length)
        yield from empty.values()
        asked = [index for index in range(len(prompts)) if index not in empty]
        if not asked:
            return
        longest = max(len(encoded[index]) for index in asked) + max_new_tokens
        engine = self._engine_with_room(min(longest, self._context_length))
        for start in range(0, len(asked), PROMPTS_PER_CALL):
            batch = asked[start : start + PROMPTS_PER_CALL]
            drawn = engine.sample(
                [encoded[index] for index in batch], copies=1, temperature=0.0, max_new_tokens=max_new_tokens, seed=0
            )
            for index, (completion,) in zip(batch, drawn, strict=True):
                yield self._generation(prompts[index][0], encoded[index], completion)

    def _engine_with_room(self, tokens: int) -> VllmEngine:
        """The engine that runs, or one for sequences of that length."""
        started = time.monotonic()
        if self._engine is None or tokens > self._room:
            self.close()
            self._engine, self._room = self._start(tokens), tokens
        self.start_up_s = time.monotonic() - started
        return self._engine

    def _start(self, tokens: int) -> VllmEngine:
        return VllmEngine(
            self._folder,
            max_model_len=tokens,
            gpu_memory_utilization=self._memory_share,
            has_neighbours=self._memory_share < AnswerConfig().vllm_memory_share,
        )

    def _generation(self, id: str, prompt: Sequence[int], completion: Sample) -> Generation:
        ids = completion.ids[:-1] if completion.stopped else completion.ids
        text = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return Generation(id, text, ids, len(prompt), completion.stopped)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None
