"""Small rows of every kind for the tests of a mix."""

from __future__ import annotations

from typing import Any

from star_edge.contracts import Example, Tool

THINGS = ("light", "volume", "alarm", "window", "heating", "radio", "camera", "kettle")


def tool(name: str, description: str = "", **parameters: str) -> Tool:
    """A tool whose parameters are strings with the given descriptions."""
    properties = {key: {"type": "string", "description": text} for key, text in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": name, "description": description, "parameters": schema}


def device(thing: str) -> Tool:
    return tool(f"switch_{thing}", f"Switch the {thing} on or off.", state="Either on or off.")


def row(id: str, request: str, *called: str, reply: str = "", tools: tuple[Tool, ...] = (), kind: str = "") -> Example:
    """One turn that calls the named tools with `state: on`, or replies."""
    calls = [{"name": name, "arguments": {"state": "on"}} for name in called]
    answer: dict[str, Any] = {"role": "assistant", "content": reply}
    if calls:
        answer["tool_calls"] = calls
    return Example(id, "test", ({"role": "user", "content": request}, answer), tools, kind)


def single(id: str, thing: str = "light") -> Example:
    return row(id, f"Please switch the {thing} on, {id}.", f"switch_{thing}", tools=(device(thing),), kind="single")
