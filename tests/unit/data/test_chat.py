"""Prompt and completion as tokens: where one ends, where the other stops, and what is refused."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from star_edge.calls.template import HERMES
from star_edge.contracts import Example
from star_edge.data.chat import ChatCodec, EncodedExample
from star_edge.errors import DataError

TOOL = {"name": "set_alarm", "description": "Set an alarm.", "parameters": {"type": "object", "properties": {}}}
CALL = {"name": "set_alarm", "arguments": {"time": "7 am"}}
CALL_TEXT = '<tool_call>\n{"name": "set_alarm", "arguments": {"time": "7 am"}}\n</tool_call>'


def example(answer: dict[str, object]) -> Example:
    messages = ({"role": "user", "content": "wake me at 7 am"}, {"role": "assistant", **answer})
    return Example("row-1", "test", messages, (TOOL,))


REPLY = example({"content": "I can't do that."})
ONE_CALL = example({"content": "", "tool_calls": [CALL]})
TWO_CALLS = example({"content": "", "tool_calls": [CALL, CALL]})


@lru_cache
def codec_of(folder: Path) -> ChatCodec:
    return ChatCodec(AutoTokenizer.from_pretrained(folder), HERMES)


@pytest.fixture(scope="module")
def codec(tiny_student: Path) -> ChatCodec:
    return codec_of(tiny_student)


@pytest.mark.parametrize(
    ("row", "text"), [(REPLY, "I can't do that."), (ONE_CALL, CALL_TEXT), (TWO_CALLS, f"{CALL_TEXT}\n{CALL_TEXT}")]
)
def test_completion_is_the_answer_and_the_turn_end(codec: ChatCodec, row: Example, text: str) -> None:
    encoded = codec.encode(row)

    assert codec.tokenizer.decode(list(codec.encode(row).completion_ids[:-1])) == text
    assert codec.tokenizer.decode(encoded.completion_ids) == f"{text}<|im_end|>"


@pytest.mark.parametrize("row", [REPLY, ONE_CALL, TWO_CALLS])
def test_prompt_and_completion_make_the_whole(codec: ChatCodec, row: Example) -> None:
    encoded = codec.encode(row)

    assert list(encoded.prompt_ids) == codec.prompt_ids(row)
    assert encoded.prompt_ids + encoded.completion_ids == encoded.input_ids
    assert codec.tokenizer.decode(encoded.prompt_ids) == codec.prompt_text(row)


def test_prompt_shows_tools_and_request_but_not_the_answer(codec: ChatCodec) -> None:
    text = codec.prompt_text(ONE_CALL)

    assert '{"name":"set_alarm","description":"Set an alarm."' in text
    assert text.endswith("wake me at 7 am<|im_end|>\n<|im_start|>assistant\n")
    assert '"7 am"' not in text


def test_template_that_changes_the_prompt_is_refused(codec: ChatCodec) -> None:
    template = "{{ messages | length }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"

    with pytest.raises(DataError, match="row row-1: the prompt's text is not a prefix"):
        ChatCodec(codec.tokenizer, template).encode(REPLY)


def test_answer_that_merges_into_the_prompts_last_token_is_refused(codec: ChatCodec) -> None:
    template = "{% for m in messages %}{% if m.role == 'assistant' %}ar{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    template += "{% if add_generation_prompt %}ar{% endif %}"
    assert codec.tokenizer.encode("arguments")[0] != codec.tokenizer.encode("ar")[0]

    with pytest.raises(DataError, match="tokens are not a prefix"):
        ChatCodec(codec.tokenizer, template).encode(example({"content": "guments"}))


@pytest.mark.parametrize("end", ["", "</tool_call>", "END"])
def test_turn_without_a_special_end_token_is_refused(codec: ChatCodec, end: str) -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}" + end + "\n{% endfor %}"
    template += "{% if add_generation_prompt %}assistant:{% endif %}"

    with pytest.raises(DataError, match="does not end the assistant's turn"):
        ChatCodec(codec.tokenizer, template).encode(REPLY)


def test_answer_holding_the_turn_end_is_refused(codec: ChatCodec) -> None:
    with pytest.raises(DataError, match="contains the token that ends the turn"):
        codec.encode(example({"content": "One.<|im_end|>Two."}))


def test_thinking_is_switched_off_in_templates_that_ask(codec: ChatCodec) -> None:
    template = "{% if enable_thinking is defined and not enable_thinking %}quiet{% endif %}"

    assert ChatCodec(codec.tokenizer, template).prompt_text(REPLY) == "quiet"


@pytest.mark.parametrize("row", [REPLY, ONE_CALL], ids=["reply", "call"])
def test_qwen3s_own_template_closes_the_thinking_in_the_prompt(codec: ChatCodec, row: Example) -> None:
    """Its prompt ends with an empty block, which the answer must not hold again."""
    trl = importlib.util.find_spec("trl")
    if (
        trl is None
        or trl.origin is None
        or not (own := Path(trl.origin).parent / "chat_templates/qwen3.jinja").is_file()
    ):
        pytest.skip("needs Qwen3's template, which the package trl carries: pip install 'star-edge[train]'")
    qwen3 = ChatCodec(codec.tokenizer, own.read_text(encoding="utf-8"))
    encoded = qwen3.encode(row)

    assert qwen3.prompt_text(row).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert codec.tokenizer.decode(encoded.completion_ids) == codec.tokenizer.decode(codec.encode(row).completion_ids)


def test_calls_tag_token_ends_no_turn(tiny_qwen2: Path) -> None:
    """`</tool_call>` is an added token there, but not a special one."""
    codec = ChatCodec(AutoTokenizer.from_pretrained(tiny_qwen2), HERMES)
    encoded = codec.encode(ONE_CALL)

    assert codec.tokenizer.decode(encoded.completion_ids) == f"{CALL_TEXT}<|im_end|>"
    without_end = "{{ messages[0].content }}:{% if messages | length > 1 %}</tool_call>{% endif %}"
    with pytest.raises(DataError, match="does not end the assistant's turn"):
        ChatCodec(codec.tokenizer, without_end).encode(ONE_CALL)


def test_row_id_does_not_change_the_tokens(codec: ChatCodec) -> None:
    assert codec.encode(replace(REPLY, id="other")).input_ids == codec.encode(REPLY).input_ids


WORDS = st.sampled_from(["wake me", "<|im_start|>", "<|im_end|>", "<tool_call>", "assistant\n", " ", "\n\n", "é", "7"])


@given(st.lists(WORDS, max_size=6), st.lists(WORDS, min_size=1, max_size=6))
def test_prompt_is_counted_as_the_tokenizer_counts_it_alone(
    tiny_student: Path, tiny_qwen2: Path, request: list[str], answer: list[str]
) -> None:
    messages = ({"role": "user", "content": "".join(request)}, {"role": "assistant", "content": "".join(answer)})
    row = Example("row", "test", messages, (TOOL,))
    for folder in (tiny_student, tiny_qwen2):
        codec = codec_of(folder)
        (encoded,) = codec.encode_many([row])
        prompt = codec.tokenizer.encode(codec.prompt_text(row), add_special_tokens=False)
        whole = codec.tokenizer.encode(
            codec.prompt_text(row) + "".join(answer) + "<|im_end|>", add_special_tokens=False
        )

        if "<|im_end|>" in answer:
            assert "contains the token that ends the turn" in str(encoded)
        elif whole[: len(prompt)] != prompt:
            assert "tokens are not a prefix" in str(encoded)
        else:
            assert isinstance(encoded, EncodedExample)
            assert encoded.input_ids == tuple(whole)
            assert list(encoded.prompt_ids) == prompt
        assert codec.prompt_lengths([row]) == [len(prompt)]


def test_many_rows_are_encoded_as_one_by_one_and_refused_in_their_place(codec: ChatCodec) -> None:
    broken = example({"content": "One.<|im_end|>Two."})
    encoded = codec.encode_many([REPLY, broken, TWO_CALLS])

    assert [encoded[0], encoded[2]] == [codec.encode(REPLY), codec.encode(TWO_CALLS)]
    assert "contains the token that ends the turn" in str(encoded[1])
    assert codec.encode_many([]) == []


def test_prompt_without_any_special_token_is_compared_whole(codec: ChatCodec) -> None:
    template = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}:{% endif %}"
    template += "{% if m.role == 'assistant' %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    plain = ChatCodec(codec.tokenizer, template)

    assert codec.tokenizer.decode(plain.encode(REPLY).prompt_ids) == "wake me at 7 am:"


def test_prompt_the_template_refuses_has_no_length(codec: ChatCodec) -> None:
    refusing = ChatCodec(codec.tokenizer, "{{ raise_exception('no tools') }}")
    (length,) = refusing.prompt_lengths([REPLY])

    assert isinstance(length, DataError)
    assert "no tools" in str(length)
