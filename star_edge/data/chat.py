"""Examples <-> prompt text, token ids and the boundary between prompt and completion.

Text is rendered once, by `star_edge.calls.template.render`, so that training and every runtime see the same
bytes. The completion starts where the prompt's tokens end and stops at the token that ends the turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from star_edge.calls.template import render
from star_edge.contracts import Example, Message
from star_edge.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Prompt and completion as one sequence of ids; `input_ids[prompt_length:]` is what is learnt."""

    id: str
    input_ids: tuple[int, ...]
    prompt_length: int

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        return self.input_ids[: self.prompt_length]

    @property
    def completion_ids(self) -> tuple[int, ...]:
        """The completion's ids; the last one is the token that ends the turn."""
        return self.input_ids[self.prompt_length :]


class ChatCodec:
    """One tokenizer with one chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self._turn_ends = _special_ids(tokenizer)

    def prompt_text(self, example: Example) -> str:
        """The text up to and including the start of the assistant's turn."""
        return self._render(example, example.prompt, add_generation_prompt=True)

    def prompt_ids(self, example: Example) -> list[int]:
        """Token ids of `prompt_text`; special tokens come from the template alone."""
        return self._ids(self.prompt_text(example))

    def encode(self, example: Example) -> EncodedExample:
        """Ids of the prompt and its completion; the completion ends with the turn-end token.

        Raises: DataError: the template renders the prompt differently once the answer follows, the tokens of the
            prompt are not the first tokens of the whole, or the answer's turn is not ended by a special token that
            occurs nowhere else in it.
        """
        prompt = self.prompt_text(example)
        whole = self._render(example, example.messages, add_generation_prompt=False)
        if not whole.startswith(prompt):
            raise DataError(f"row {example.id}: the prompt's text is not a prefix of that of prompt + completion")
        prompt_ids = self._ids(prompt)
        input_ids = self._ids(whole.rstrip())
        if input_ids[: len(prompt_ids)] != prompt_ids:
            raise DataError(f"row {example.id}: the prompt's tokens are not a prefix of those of prompt + completion")
        if len(input_ids) == len(prompt_ids) or input_ids[-1] not in self._turn_ends:
            raise DataError(
                f"row {example.id}: the chat template does not end the assistant's turn with a special token of this "
                "tokenizer; set chat_template to 'hermes' or use the model's own tokenizer"
            )
        if input_ids[-1] in input_ids[len(prompt_ids) : -1]:
            raise DataError(f"row {example.id}: the answer contains the token that ends the turn")
        return EncodedExample(example.id, tuple(input_ids), len(prompt_ids))

    def _render(self, example: Example, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        return render(
            self.template,
            messages,
            example.tools,
            add_generation_prompt=add_generation_prompt,
            bos_token=self.tokenizer.bos_token or "",
            eos_token=self.tokenizer.eos_token or "",
        )

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))


def _special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids a turn may end with: named special tokens and added tokens marked special (never `</tool_call>`)."""
    added = (index for index, token in tokenizer.added_tokens_decoder.items() if token.special)
    return frozenset((*tokenizer.all_special_ids, *added))
