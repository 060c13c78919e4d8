"""What answers: one interface over the engines, and the settings they share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from star_edge.contracts import Example, Generation

BackendKind: TypeAlias = Literal["vllm", "transformers", "file"]
ChatTemplate: TypeAlias = Literal["auto", "model", "hermes"]
Prompts: TypeAlias = Sequence[tuple[str, str]]  # (case id, rendered text)


@dataclass(frozen=True, slots=True)
class AnswerConfig:
    """How a checkpoint is asked.

    backend: "auto" is a file's own runtime for a bundle, else vLLM where it is installed and there is a GPU, else
        transformers.
    revision: of a hub id.
    base: of an adapter, the model it sits on; null is the one it names.
    chat_template: the model's own, ours, or ("auto") the model's own where it shows the tools.
    plain_text_tokens: added tokens that a model folder or GGUF file reads and writes as ordinary text, as in a recipe.
    device: of transformers; "auto" is the GPU where there is one.
    threads: that compute on a CPU; null is what the library takes by itself, or one for a file.
    rows_per_forward: batch size of transformers.
    vllm_memory_share: of the GPU's memory, for vLLM; less than what it has free where something else runs beside it.
    """

    backend: Literal["auto", "vllm", "transformers", "file"] = "auto"
    revision: str | None = None
    base: str | None = None
    chat_template: ChatTemplate = "auto"
    plain_text_tokens: tuple[str, ...] = ()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    rows_per_forward: int = 16
    vllm_memory_share: float = 0.9
    max_new_tokens: int = 512


class Backend(Protocol):
    """A model that is ready to answer; always the most likely token.

    start_up_s: seconds of `answer` until its engine was ready, where the engine starts with the first prompts.
    """

    start_up_s: float

    @property
    def name(self) -> str:
        """Engine, version and precision, as a report prints them."""
        ...

    def prompt_text(self, example: Example) -> str:
        """The prompt in the model's chat template.

        Raises: DataError: the template refuses the messages.
        """
        ...

    def answer(self, prompts: Prompts, *, max_new_tokens: int) -> Iterator[Generation]:
        """One generation a prompt, each as soon as it is there, in any order.

        A prompt that leaves no room in the model's context is answered by nothing, with `stopped` False.
        """
        ...

    def close(self) -> None:
        """Free the model."""
        ...


def without_room(prompts: Prompts, lengths: Iterable[int], context_length: int) -> dict[int, Generation]:
    """Empty answers for the prompts behind which not one token fits, by their index."""
    return {
        index: Generation(prompts[index][0], "", (), length, stopped=False)
        for index, length in enumerate(lengths)
        if length >= context_length
    }
