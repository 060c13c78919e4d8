from dataclasses import replace

import pytest

from star_edge.contracts import Checkpoint, Example
from star_edge.data.chat import ChatCodec
from star_edge.models.load import load

TOOL = {
    "name": "set_light",
    "description": "Set a light.",
    "parameters": {"type": "object", "properties": {"room": {"type": "string"}, "level": {"type": "integer"}}},
}


@pytest.fixture(scope="session")
def chatty(tiny_student):
    """The tiny student, made to end its turns early: every third token does."""
    loaded = load(Checkpoint(tiny_student, "base"), device="cpu")
    return replace(loaded, stop_token_ids=tuple(range(0, 800, 3)))


@pytest.fixture(scope="session")
def codec(chatty):
    return ChatCodec(chatty.tokenizer, chatty.template)


@pytest.fixture(scope="session")
def examples():
    requests = ["Light on.", "Set the kitchen light to 3.", "Bedroom 5", "What time is it?", "Dim the hall, please."]
    return [
        Example(
            id=f"row-{number}",
            source="test",
            messages=(
                {"role": "user", "content": text},
                {"role": "assistant", "content": "", "tool_calls": [{"name": "set_light", "arguments": {"level": 3}}]},
            ),
            tools=(TOOL,),
        )
        for number, text in enumerate(requests)
    ]
