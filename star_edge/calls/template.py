"""Chat templates without transformers: the one renderer of training prompts and of every runtime's prompts.

It renders byte for byte what transformers' `apply_chat_template` renders, so that a phone without transformers
sees the prompt that training saw. A tokenizer detail moves scores by tens of points; this file is where that is
prevented on the text side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from star_edge.calls import strict_json
from star_edge.contracts import Message, Tool
from star_edge.errors import DataError

HERMES: str = files("star_edge.calls").joinpath("hermes.jinja").read_text(encoding="utf-8")


def render(
    template: str,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    *,
    add_generation_prompt: bool,
    bos_token: str = "",
    eos_token: str = "",
    **extra: Any,
) -> str:
    """Render messages and tools through a chat template.

    Args:
        messages: canonical or wrapped; calls reach the template wrapped, their arguments as objects.
        tools: flat or wrapped; they reach the template wrapped, an empty list as none.
        bos_token, eos_token: the tokenizer's own, when the template prints them.
        extra: further template variables. `enable_thinking` is False unless given, so that training, evaluation and
            every runtime agree: nothing here is trained or measured with a reasoning block.
    Raises: DataError: the template is not valid Jinja, or refuses these messages.
    """
    variables: dict[str, Any] = {
        "enable_thinking": False,
        **extra,
        "tools": [_wrapped(tool) for tool in tools] or None,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
        "bos_token": bos_token,
        "eos_token": eos_token,
    }
    try:
        prepared = [_prepared(message) for message in messages]
        compiled = _compiled(template)
        try:
            return compiled.render(messages=prepared, **variables)
        except TypeError:
            # Some templates join or search `content` without asking whether a turn of calls has any.
            spoken = [{**message, "content": message.get("content") or ""} for message in prepared]
            return compiled.render(messages=spoken, **variables)
    except (jinja2.TemplateError, TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"chat template refuses the messages: {reason}; use chat_template: hermes") from error


def mentions_tools(template: str) -> bool:
    """Say whether the tools, and calls in earlier turns, reach the text; a template that fails on them drops them."""
    parameters = {"type": "object", "properties": {"probe_parameter": {"type": "string"}}}
    tools = [{"name": "probe_tool", "description": "A probe.", "parameters": parameters}]
    call = {"name": "probe_tool", "arguments": {"probe_parameter": "probe_value"}}
    messages: list[Message] = [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    try:
        prompt = render(template, messages[:1], tools, add_generation_prompt=True)
        turn = render(template, messages, tools, add_generation_prompt=False)
    except DataError:
        return False
    return "probe_tool" in prompt and "probe_parameter" in prompt and "probe_value" in turn


def _prepared(message: Message) -> Message:
    """A message in the form Hugging Face templates expect; the given one is left alone."""
    prepared = dict(message)
    calls = prepared.pop("tool_calls", None)
    if calls:
        prepared["tool_calls"] = [_prepared_call(call) for call in calls]
        prepared.setdefault("content", None)
    elif prepared.get("content") is None:
        prepared["content"] = ""
    return prepared


def _prepared_call(call: Mapping[str, Any]) -> dict[str, Any]:
    wrapped = _wrapped(call)
    function = dict(wrapped["function"])
    if isinstance(function.get("arguments"), str):
        function["arguments"] = strict_json.loads(function["arguments"])
    return {**wrapped, "function": function}


def _wrapped(raw: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(raw.get("function"), Mapping):
        return dict(raw)
    return {"type": "function", "function": dict(raw)}


@lru_cache(maxsize=32)
def _compiled(template: str) -> jinja2.Template:
    return _environment().from_string(template)


def _environment() -> ImmutableSandboxedEnvironment:
    """The settings of transformers' own environment; `tojson` differs from Jinja's, which escapes HTML."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


class _GenerationTag(Extension):
    """`{% generation %}...{% endgeneration %}` marks assistant text for training masks; here its body just renders."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own class attribute

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
