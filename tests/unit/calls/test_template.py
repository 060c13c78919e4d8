"""Our renderer against transformers' own, byte for byte, and what the Hermes template says."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from star_edge.calls.parse import format_calls, parse_completion
from star_edge.calls.template import HERMES, mentions_tools, render
from star_edge.contracts import ToolCall
from star_edge.errors import DataError

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# The shape of Qwen2.5's template: wrapped tools, results gathered in a user turn, a default system message.
QWEN_STYLE = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are an assistant.' }}
    {%- endif %}
    {{- "\\n\\n# Functions\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' + tool_call.name + '", "arguments": ' }}
            {{- tool_call.arguments | tojson + '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

# Block trimming, loop control, the generation tag, special tokens, indented and sorted JSON, `tools is none`.
EVERYTHING = """{{ bos_token }}
{% for message in messages %}
    {% if message.role == 'system' %}
        {% continue %}
    {% endif %}
    {% set shout = message.role | upper %}
    {% if message.role == 'assistant' %}
        {% generation %}
{{ shout }}: {{ message.content or '-' }}
        {% set shout = 'inner' %}
        {% endgeneration %}
    {% else %}
[{{ shout }}] {{ message.content }}
    {% endif %}
    {{ shout }}
{% endfor %}
{{ 'no tools' if tools is none else tools | tojson(indent=2, sort_keys=true) }}
{{ 'no documents' if documents is none else 'documents' }}
{{ {'é': '<&>'} | tojson(ensure_ascii=true) }} {{ mood }}
{{ 'go' if add_generation_prompt }}{{ eos_token }}
"""

WEATHER = {
    "name": "wetter.abfragen",
    "description": "Wetter für <Ort> & 'Tag' – \"heute\" 天気 🌦",
    "parameters": {
        "type": "object",
        "properties": {"ort": {"type": "string", "enum": ["Köln", "東京"]}, "tage": {"type": "integer", "default": 1}},
        "required": ["ort"],
    },
}
NOTE = {"name": "note", "description": "", "parameters": {"type": "object", "properties": {}}}


def wrapped(inner: dict) -> dict:
    return {"type": "function", "function": inner}


NESTED = {"z": [1, {"b": None, "a": True}], "text": 'Zoë said "hi"\n\t<b>', "n": 1.5, "emoji": "🎉"}
CONVERSATIONS = {
    "user only": [{"role": "user", "content": "Hi <there> & “you” 你好"}],
    "system first": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " spaced \n"}],
    "reply": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}],
    "calls and results": [
        {"role": "system", "content": "Sei kürzer."},
        {"role": "user", "content": "Wetter?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                wrapped({"name": "wetter.abfragen", "arguments": {"ort": "Köln", "tage": 2}}),
                wrapped({"name": "note", "arguments": NESTED}),
            ],
        },
        {"role": "tool", "content": '{"grad": 21}'},
        {"role": "tool", "content": "ok"},
        {"role": "assistant", "content": "21 Grad."},
        {"role": "user", "content": "Danke"},
    ],
    "call with words": [
        {"role": "user", "content": "Note it"},
        {"role": "assistant", "content": "Noting.", "tool_calls": [wrapped({"name": "note", "arguments": {}})]},
        {"role": "tool", "content": "done"},
    ],
}
TEMPLATES = {"hermes": HERMES, "qwen": QWEN_STYLE, "chatml": CHATML, "everything": EVERYTHING}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1}, unk_token="<s>")),
        bos_token="<s>",
        eos_token="</s>",
    )


@pytest.mark.parametrize("add_generation_prompt", [True, False])
@pytest.mark.parametrize("tools", [[], [WEATHER], [WEATHER, NOTE]], ids=["no tools", "one tool", "two tools"])
@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_renders_byte_for_byte_as_transformers(tokenizer, template, conversation, tools, add_generation_prompt):
    messages = CONVERSATIONS[conversation]
    expected = tokenizer.apply_chat_template(
        messages,
        tools=[wrapped(tool) for tool in tools] or None,
        chat_template=TEMPLATES[template],
        add_generation_prompt=add_generation_prompt,
        tokenize=False,
        mood="fine",
    )
    ours = render(
        TEMPLATES[template],
        messages,
        tools,
        add_generation_prompt=add_generation_prompt,
        bos_token="<s>",
        eos_token="</s>",
        mood="fine",
    )
    assert ours.encode() == expected.encode()


@pytest.mark.parametrize("template", ["hermes", "qwen"])
def test_null_content_beside_calls_renders_as_transformers(tokenizer, template):
    calls = [{"name": "note", "arguments": {"ö": [1]}}]
    flat = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "ok"},
    ]
    hf = [flat[0], {**flat[1], "tool_calls": [wrapped(call) for call in calls]}, flat[2]]
    expected = tokenizer.apply_chat_template(hf, chat_template=TEMPLATES[template], tokenize=False)
    assert render(TEMPLATES[template], flat, [], add_generation_prompt=False) == expected


def test_flat_and_wrapped_input_render_alike():
    flat = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"name": "note", "arguments": '{"a": "é"}'}]},
    ]
    given = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [wrapped({"name": "note", "arguments": {"a": "é"}})]},
    ]
    for template in (HERMES, QWEN_STYLE):
        texts = {
            render(template, messages, tools, add_generation_prompt=False)
            for messages, tools in [(flat, [WEATHER]), (given, [wrapped(WEATHER)])]
        }
        assert len(texts) == 1
        assert '{"a": "é"}' in texts.pop()


def test_rendering_leaves_its_input_alone():
    messages = [{"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": '{"a": 1}'}]}]
    tools = [dict(NOTE)]
    render(HERMES, messages, tools, add_generation_prompt=True)
    assert messages == [{"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": '{"a": 1}'}]}]
    assert tools == [NOTE]


def test_a_template_that_joins_content_gets_an_empty_string_for_null():
    messages = [
        {"role": "user", "content": None},
        {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {}}]},
    ]
    assert render(CHATML, messages, [], add_generation_prompt=False).endswith("assistant\n<|im_end|>\n")


def test_hermes_prints_tools_as_compact_json_in_their_key_order():
    text = render(HERMES, [{"role": "user", "content": "x"}], [WEATHER], add_generation_prompt=True)
    line = next(line for line in text.splitlines() if line.startswith('{"name":"wetter'))
    assert line.startswith('{"name":"wetter.abfragen","description":"Wetter für <Ort> & \'Tag\'')
    assert line.endswith('"tage":{"type":"integer","default":1}},"required":["ort"]}}')


def test_hermes_without_tools_or_system_message_has_no_system_turn():
    text = render(HERMES, [{"role": "user", "content": "x"}], [], add_generation_prompt=True)
    assert text == "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"


def test_hermes_spends_few_words_on_tools():
    with_tools = render(HERMES, [{"role": "user", "content": "x"}], [NOTE], add_generation_prompt=True)
    bare = render(HERMES, [{"role": "user", "content": "x"}], [], add_generation_prompt=True)
    tool_line = '{"name":"note","description":"","parameters":{"type":"object","properties":{}}}\n'
    assert tool_line in with_tools
    # 50 tokens of SmolLM2's tokenizer; a prompt must leave room for the tools themselves.
    assert len(with_tools) - len(bare) - len(tool_line) <= 190


def test_hermes_prints_calls_as_the_parser_reads_them():
    calls = [ToolCall("f", NESTED), ToolCall("g.h", {})]
    turn = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"name": c.name, "arguments": c.arguments} for c in calls],
    }
    prompt = render(HERMES, [{"role": "user", "content": "x"}], [], add_generation_prompt=True)
    whole = render(HERMES, [{"role": "user", "content": "x"}, turn], [], add_generation_prompt=False)
    completion = whole.removeprefix(prompt)
    assert completion == format_calls(calls) + "<|im_end|>\n"
    assert parse_completion(completion).calls == tuple(calls)


def test_every_hermes_prompt_is_a_prefix_of_the_turns_that_follow():
    messages = CONVERSATIONS["calls and results"]
    whole = render(HERMES, messages, [WEATHER], add_generation_prompt=False)
    for turns in (2, 5):
        assert whole.startswith(render(HERMES, messages[:turns], [WEATHER], add_generation_prompt=True))


@pytest.mark.parametrize(
    ("template", "mentions"),
    [
        (HERMES, True),
        (QWEN_STYLE, True),
        (CHATML, False),
        ("{{ tools | tojson }}{% for m in messages %}{{ m.content }}{% endfor %}", False),
        ("{{ tools[0].function.name }}{{ messages | tojson }}", False),
        ("{% if tools %}{{ raise_exception('tools are not supported') }}{% endif %}", False),
        ("{{ tools | tojson", False),
    ],
    ids=["hermes", "qwen", "chatml", "drops calls", "drops parameters", "refuses", "broken"],
)
def test_templates_that_drop_tools_are_found_out(template, mentions):
    assert mentions_tools(template) is mentions


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% if %}", "Expected an expression"),
        ("{{ raise_exception('roles must\nalternate') }}", "roles must alternate"),
        ("{{ messages[0].content + 1 }}", "can only concatenate str"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "append"),
    ],
    ids=["syntax", "raises", "type", "sandbox", "immutable"],
)
def test_a_template_that_fails_is_reported_in_one_line(template, reason):
    with pytest.raises(DataError, match=reason) as caught:
        render(template, [{"role": "user", "content": "x"}], [], add_generation_prompt=True)
    assert "\n" not in str(caught.value)


def test_a_call_whose_arguments_are_not_json_is_refused():
    messages = [{"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": "{oops"}]}]
    with pytest.raises(DataError):
        render(HERMES, messages, [], add_generation_prompt=False)


def test_today_is_available_to_templates():
    text = render("{{ strftime_now('%Y') }}", [{"role": "user", "content": "x"}], [], add_generation_prompt=True)
    assert text.isdigit()
    assert int(text) >= 2025


ASKS_FOR_THINKING = "{% if enable_thinking is defined and not enable_thinking %}quiet{% else %}thinks{% endif %}"


@pytest.mark.parametrize(("extra", "expected"), [({}, "quiet"), ({"enable_thinking": True}, "thinks")])
def test_thinking_is_off_unless_it_is_asked_for(extra: dict[str, bool], expected: str) -> None:
    messages = [{"role": "user", "content": "Hi."}]
    assert render(ASKS_FOR_THINKING, messages, [], add_generation_prompt=True, **extra) == expected
