"""A few requests to compare a file with torch where no held-out rows are at hand.

What is compared is two executions of the same weights, so the requests need not suit the model; they differ in
length, script and tool schemas so that tokenizer, template and long prompts are all exercised.
"""

from __future__ import annotations

from typing import Any

from star_edge.contracts import Example, Tool

REQUESTS = (
    "Wake me at 6:45 tomorrow, please.",
    "Convert 1,250.75 EUR to USD and round to 2 places.",
    "Grüße an Zoë: wir treffen uns um 19:30 im Café. 🎉",
    "明日の東京の天気を教えてください。",
    'Search the log for "ERROR\\t0x1F" and send me the first 3 hits.',
    "What can you do for me?",
)


def _tool(name: str, description: str, **properties: Any) -> Tool:
    return {
        "name": name,
        "description": description,
        "parameters": {"type": "object", "properties": properties, "required": list(properties)[:1]},
    }


TOOLS = (
    _tool("set_alarm", "Set an alarm.", time={"type": "string"}, label={"type": "string"}),
    _tool(
        "convert_currency", "Convert money.", amount={"type": "number"}, to={"type": "string", "enum": ["USD", "EUR"]}
    ),
    _tool("search_log", "Search log lines.", text={"type": "string"}, limit={"type": "integer", "minimum": 1}),
)


def probe_examples() -> list[Example]:
    """One example a request, every tool offered; the targets are empty, as nothing is scored."""
    return [
        Example(
            id=f"probe-{number}",
            source="probe",
            messages=({"role": "user", "content": request}, {"role": "assistant", "content": ""}),
            tools=TOOLS,
        )
        for number, request in enumerate(REQUESTS, start=1)
    ]
