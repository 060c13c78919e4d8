"""Every accepted shape of a row gives the same example; every other one a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from star_edge.contracts import Example
from star_edge.data.normalise import normalise_row, read_normalised, read_prompts
from star_edge.errors import DataError

PARAMETERS = {"type": "object", "properties": {"level": {"type": "integer"}}, "required": ["level"]}
TOOL = {"name": "set_volume", "description": "Set the volume.", "parameters": PARAMETERS}
CALL = {"name": "set_volume", "arguments": {"level": 7}}
HERMES_CALL = f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>"
USER = {"role": "user", "content": "volume 7"}


def row(answer: dict[str, Any], tools: Any = (TOOL,), **more: Any) -> dict[str, Any]:
    tools = list(tools) if isinstance(tools, tuple) else tools
    return {"messages": [USER, {"role": "assistant", **answer}], "tools": tools, **more}


@pytest.mark.parametrize(
    "answer",
    [
        {"content": None, "tool_calls": [CALL]},
        {"content": "", "tool_calls": [CALL]},
        {"tool_calls": [CALL]},
        {"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": CALL}]},
        {"content": None, "tool_calls": [{"name": "set_volume", "arguments": '{"level": 7}'}]},
        {"tool_calls": [{"type": "function", "function": {"name": "set_volume", "arguments": '{"level": 7}'}}]},
        {"content": HERMES_CALL},
        {"content": f"  {HERMES_CALL}\n"},
        {"content": f"<think>\nLoud.\n</think>\n\n{HERMES_CALL}"},
        {"content": [{"type": "text", "text": HERMES_CALL}]},
    ],
)
def test_every_shape_of_a_call_becomes_the_same_message(answer: dict[str, Any]) -> None:
    assert normalise_row(row(answer), where="f.jsonl:1").target == {
        "role": "assistant",
        "content": "",
        "tool_calls": [CALL],
    }


@pytest.mark.parametrize(
    "tools", [[TOOL], [{"type": "function", "function": TOOL}], json.dumps([TOOL]), [{**TOOL, "strict": True}]]
)
def test_every_shape_of_a_tool_becomes_the_same_tool(tools: Any) -> None:
    assert normalise_row(row({"tool_calls": [CALL]}, tools), where="f.jsonl:1").tools == (TOOL,)


def test_python_style_types_become_json_schema() -> None:
    tools = [
        {"name": "f", "description": "", "parameters": {"xs": {"type": "List[int]"}, "s": {"type": "str, optional"}}}
    ]
    tool = normalise_row(row({"content": "Hello."}, tools), where="f.jsonl:1").tools[0]

    assert tool["parameters"]["properties"]["xs"] == {"type": "array", "items": {"type": "integer"}}
    assert tool["parameters"]["required"] == ["xs"]


def test_words_beside_a_hermes_call_are_kept() -> None:
    target = normalise_row(row({"content": f"One moment.\n{HERMES_CALL}"}), where="f.jsonl:1").target

    assert target == {"role": "assistant", "content": "One moment.", "tool_calls": [CALL]}


def test_hermes_calls_earlier_in_the_conversation_become_calls_too() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        USER,
        {"role": "assistant", "content": HERMES_CALL},
        {
            "role": "tool",
            "name": "set_volume",
            "tool_call_id": "c1",
            "content": "<tool_response>\nok\n</tool_response>",
        },
        {"role": "assistant", "content": " Done.\n", "refusal": None},
    ]
    example = normalise_row({"messages": messages, "tools": [TOOL]}, where="f.jsonl:1")

    assert example.messages == (
        {"role": "system", "content": "Be brief."},
        USER,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "ok", "name": "set_volume"},
        {"role": "assistant", "content": "Done."},
    )


@pytest.mark.parametrize(("content", "text"), [({"a": 1}, '{"a": 1}'), ([1, 2], "[1, 2]"), ("é", "é"), (None, "null")])
def test_tool_results_become_text(content: Any, text: str) -> None:
    messages = [USER, {"role": "tool", "content": content}, {"role": "assistant", "content": "Done."}]

    assert normalise_row({"messages": messages}, where="f:1").messages[1]["content"] == text


def test_given_names_are_kept_and_missing_ones_made_from_file_and_line() -> None:
    named = normalise_row(row({"content": "Hi."}, id=12, source="own", kind="plain"), where="/d/f.jsonl.gz:3")
    nameless = normalise_row(row({"content": "Hi."}), where="/d/f.jsonl.gz:3")

    assert (named.id, named.source, named.kind) == ("12", "own", "plain")
    assert (nameless.id, nameless.source, nameless.kind) == ("f.jsonl.gz:3", "f", "")


def test_normalising_changes_nothing_in_the_raw_row() -> None:
    raw = row({"content": None, "tool_calls": [{"function": CALL}]})
    before = json.dumps(raw)
    normalise_row(raw, where="f:1")

    assert json.dumps(raw) == before


def test_file_gives_examples_and_lines_about_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(f'{json.dumps(row({"content": "Hi."}))}\n{{"messages": 1}}\n[\n')
    (_, good), *bad = read_normalised(path)

    assert isinstance(good, Example)
    assert [str(row) for _, row in bad] == [
        f"{path}:2: 'messages' must be a list of at least a request and the assistant's answer",
        f"{path}:3: broken JSON (Expecting value: line 2 column 1 (char 2))",
    ]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({}, "'messages' must be a list"),
        ({"messages": [USER]}, "'messages' must be a list of at least"),
        ({"messages": [{"role": "assistant", "content": "Hi."}, USER]}, "last message must be the assistant's"),
        ({"messages": [USER, "Hi."]}, r"messages\[1\]: a message must be an object"),
        ({"messages": [{"role": "critic", "content": "x"}, USER]}, r"messages\[0\]: unknown role 'critic'"),
        ({"messages": [{"role": ["user"], "content": "x"}, USER]}, r"messages\[0\]: unknown role"),
        ({"messages": [{"role": "user"}, USER]}, r"messages\[0\]: a user message needs 'content'"),
        ({"messages": [{"role": "user", "content": 7}, USER]}, "must be a string or a list of text parts, not int"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, USER]},
            "a part that is not text",
        ),
        (row({"content": None}), "neither calls nor text"),
        (row({"content": " \n"}), "neither calls nor text"),
        (row({"tool_calls": {"name": "set_volume"}}), "'tool_calls' must be a list, not dict"),
        (row({"tool_calls": [{"name": "set_volume", "arguments": "{"}]}), "arguments are not JSON"),
        (row({"tool_calls": [{"name": "set_volume", "arguments": [7]}]}), "arguments must be an object"),
        (row({"tool_calls": [{"name": "mute", "arguments": {}}]}), "calls 'mute', which is not among the tools"),
        (row({"tool_calls": [CALL]}, tools=None), "calls 'set_volume', which is not among the tools"),
        (row({"content": "<tool_call>\n{oops}\n</tool_call>"}), "<tool_call> text that cannot be read"),
        (row({"content": HERMES_CALL, "tool_calls": [CALL]}), "keep one"),
        (row({"content": "Hi."}, tools=[TOOL, TOOL]), "offered twice"),
        (row({"content": "Hi."}, tools="[{"), "'tools' is a string that is not JSON"),
        (row({"content": "Hi."}, tools={"name": "f"}), "tools must be a list"),
    ],
)
def test_unusable_row_gives_its_place_and_reason_in_one_line(raw: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        normalise_row(raw, where="/d/f.jsonl:9")

    assert str(caught.value).startswith("/d/f.jsonl:9: ")
    assert "\n" not in str(caught.value)


def test_prompt_without_an_answer_gets_an_empty_last_turn(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    asked = {"role": "user", "content": "hi"}
    rows = [
        {"messages": [asked], "tools": [{"name": "f"}]},
        {"messages": [asked, {"role": "assistant", "content": "hello"}]},
        {"messages": []},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompt, answered, empty = (row for _, row in read_prompts(path))

    assert isinstance(prompt, Example)
    assert prompt.prompt == (asked,)
    assert prompt.target == {"role": "assistant", "content": ""}
    assert prompt.target_calls == ()
    assert "ends with the user's turn, not the assistant's" in str(answered)
    assert "'messages' must be a list of at least a request" in str(empty)
