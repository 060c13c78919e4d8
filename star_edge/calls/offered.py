"""Whether calls name only what was offered: functions of the tools, and parameters of their schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from star_edge.contracts import ToolCall


def all_offered(calls: Sequence[ToolCall], tools: Sequence[Mapping[str, Any]]) -> bool:
    """True when every call names an offered function and only parameters of its schema; tools flat or wrapped."""
    offered = dict(map(_offer, tools)) if calls else {}
    return all(call.name in offered and call.arguments.keys() <= offered[call.name] for call in calls)


def _offer(tool: Mapping[str, Any]) -> tuple[Any, frozenset[str]]:
    """A tool's name and its parameters' names; a schema without `properties` is a bare mapping of parameters."""
    flat = tool.get("function") or tool
    schema = flat.get("parameters") or {}
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        properties = {} if schema.get("type") == "object" else schema
    return flat.get("name"), frozenset(properties)
