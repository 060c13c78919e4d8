"""Examples <-> prompt text, token ids and the boundary between prompt and completion.

Text is rendered once, by `star_edge.calls.template.render`, so that training and every runtime see the same
bytes. The completion starts where the prompt's tokens end and stops at the token that ends the turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from star_edge.calls.template import render
from star_edge.contracts import Example, Message, ModelConfig
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
        self._cuts = _cutting_tokens(tokenizer)

    def prompt_text(self, example: Example) -> str:
        """The text up to and including the start of the assistant's turn."""
        return self._render(example, example.prompt, add_generation_prompt=True)

    def prompt_ids(self, example: Example) -> list[int]:
        """Token ids of `prompt_text`; special tokens come from the template alone."""
        return self._ids(self.prompt_text(example))

    def prompts_ids(self, examples: Sequence[Example]) -> list[list[int]]:
        """As `prompt_ids`, for many rows in one pass of the tokenizer."""
        return self._ids_of([self.prompt_text(example) for example in examples])

    def encode(self, example: Example) -> EncodedExample:
        """Ids of the prompt and its completion; the completion ends with the turn-end token.

        Raises: DataError: the template renders the prompt differently once the answer follows, the tokens of the
            prompt are not the first tokens of the whole, or the answer's turn is not ended by a special token that
            occurs nowhere else in it.
        """
        (encoded,) = self.encode_all([example])
        return encoded

    def encode_all(self, examples: Sequence[Example]) -> list[EncodedExample]:
        """As `encode`, for many rows in one pass of the tokenizer.

        Raises: DataError: as `encode`, for the first row that is refused.
        """
        encoded = []
        for row in self.encode_many(examples):
            if isinstance(row, DataError):
                raise row
            encoded.append(row)
        return encoded

    def encode_many(self, examples: Sequence[Example]) -> list[EncodedExample | DataError]:
        """As `encode`, for many rows in one pass of the tokenizer; a refused row's error stands in its place."""
        texts = [self._texts(example) for example in examples]
        ids = iter(self._ids_of([text[1].rstrip() for text in texts if not isinstance(text, DataError)]))
        return [
            text if isinstance(text, DataError) else self._encoded(example.id, text[0], next(ids))
            for example, text in zip(examples, texts, strict=True)
        ]

    def prompt_lengths(self, examples: Sequence[Example]) -> list[int | DataError]:
        """Tokens of each row's prompt, whatever its answer; an error where the template refuses the row."""
        prompts = [self._prompt_or_error(example) for example in examples]
        ids = iter(self._ids_of([prompt for prompt in prompts if isinstance(prompt, str)]))
        return [len(next(ids)) if isinstance(prompt, str) else prompt for prompt in prompts]

    def _prompt_or_error(self, example: Example) -> str | DataError:
        try:
            return self.prompt_text(example)
        except DataError as error:
            return error

    def _texts(self, example: Example) -> tuple[str, str] | DataError:
        """The prompt, and prompt and completion together."""
        prompt = self._prompt_or_error(example)
        if isinstance(prompt, DataError):
            return prompt
        try:
            whole = self._render(example, example.messages, add_generation_prompt=False)
        except DataError as error:
            return error
        if not whole.startswith(prompt):
            return DataError(f"row {example.id}: the prompt's text is not a prefix of that of prompt + completion")
        return prompt, whole

    def _encoded(self, name: str, prompt: str, input_ids: list[int]) -> EncodedExample | DataError:
        length = self._prompt_length(prompt, input_ids)
        if length is None:
            return DataError(f"row {name}: the prompt's tokens are not a prefix of those of prompt + completion")
        if len(input_ids) == length or input_ids[-1] not in self._turn_ends:
            return DataError(
                f"row {name}: the chat template does not end the assistant's turn with a special token of this "
                "tokenizer; set chat_template to 'hermes' or use the model's own tokenizer"
            )
        if input_ids[-1] in input_ids[length:-1]:
            return DataError(f"row {name}: the answer contains the token that ends the turn")
        return EncodedExample(name, tuple(input_ids), length)

    def _prompt_length(self, prompt: str, input_ids: list[int]) -> int | None:
        """How many of the whole's tokens are the prompt's; None when they are not its first ones.

        Special tokens cut the text before anything else does, so up to the prompt's last one the tokens of prompt and
        whole are the same; only the few characters behind it are tokenised for the comparison.
        """
        cut = max(self._cuts, key=prompt.rfind, default="")
        before, found, behind = prompt.rpartition(cut) if cut else ("", "", prompt)
        start = _place_behind(input_ids, self._cuts[cut], before.count(cut) + 1) if found else 0
        tail = self._ids(behind)
        return start + len(tail) if input_ids[start : start + len(tail)] == tail else None

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

    def _ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return ids


def codec_of(config: ModelConfig) -> ChatCodec:
    """The codec of a model that a recipe names; its weights are not read.

    Raises: ModelError: the model cannot be found, or its tokenizer cannot be read.
    """
    # The models package brings torch, which whoever hands a tokenizer over has loaded already.
    from star_edge.models.load import load_tokenizer, read_template
    from star_edge.models.tokenizer_folder import prepare_tokenizer

    with TemporaryDirectory(prefix="star-edge-") as name:
        folder = Path(name)
        prepare_tokenizer(config, folder)
        return ChatCodec(load_tokenizer(folder), read_template(folder))


def _special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids a turn may end with: named special tokens and added tokens marked special (never `</tool_call>`)."""
    added = (index for index, token in tokenizer.added_tokens_decoder.items() if token.special)
    return frozenset((*tokenizer.all_special_ids, *added))


def _cutting_tokens(tokenizer: Any) -> dict[str, int]:
    """Special tokens that end a piece of text wherever they stand: they take no white space with them, are looked for
    before any normalising, and are no part of another token."""
    added = {token.content: (index, token) for index, token in tokenizer.added_tokens_decoder.items()}
    return {
        text: index
        for text, (index, token) in added.items()
        if token.special
        and not (token.normalized or token.lstrip or token.rstrip or token.single_word)
        and not any(text in other for other in added if other != text)
    }


def _place_behind(ids: list[int], wanted: int, count: int) -> int:
    """The place behind the count-th occurrence of an id; the end when there are fewer."""
    place = 0
    try:
        for _ in range(count):
            place = ids.index(wanted, place) + 1
    except ValueError:
        return len(ids)
    return place
