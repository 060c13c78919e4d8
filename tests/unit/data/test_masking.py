"""Random names for functions and parameters."""

from __future__ import annotations

import dataclasses
import json

import pytest
from mix_rows import device, row, single, tool

from star_edge.contracts import Example, Tool
from star_edge.data.masking import masked

TOOLS = (device("light"), tool("set_volume", "Set the volume.", level="How loud.", unit="Of the level."))
LIGHT = {"name": "switch_light", "arguments": {"state": "on"}}
VOLUME = {"name": "set_volume", "arguments": {"level": "7", "unit": "percent"}}
DIALOGUE = Example(
    "talk",
    "test",
    (
        {"role": "user", "content": "Light on."},
        {"role": "assistant", "content": "", "tool_calls": [LIGHT]},
        {"role": "tool", "content": "done", "name": "switch_light"},
        {"role": "assistant", "content": "It is on."},
        {"role": "user", "content": "Volume to 7 percent, light on again."},
        {"role": "assistant", "content": "", "tool_calls": [VOLUME, LIGHT]},
    ),
    TOOLS,
    "parallel",
)


def mask(example: Example, seed: int = 1) -> Example:
    return masked(example, share=1.0, seed=seed)


def test_names_change_alike_in_tools_calls_and_earlier_turns() -> None:
    changed = mask(DIALOGUE)
    light, volume = (each["name"] for each in changed.tools)
    (state,), (level, unit) = (list(each["parameters"]["properties"]) for each in changed.tools)

    assert not {"switch_light", "set_volume", "state", "level", "unit"} & {light, volume, state, level, unit}
    assert changed.messages[1]["tool_calls"] == [{"name": light, "arguments": {state: "on"}}]
    assert changed.messages[2]["name"] == light
    assert changed.target["tool_calls"] == [
        {"name": volume, "arguments": {level: "7", unit: "percent"}},
        {"name": light, "arguments": {state: "on"}},
    ]
    assert [each["parameters"]["required"] for each in changed.tools] == [[state], [level, unit]]


def test_everything_but_the_names_stays() -> None:
    changed = mask(DIALOGUE)

    assert [each["description"] for each in changed.tools] == [each["description"] for each in TOOLS]
    schemas = [list(each["parameters"]["properties"].values()) for each in changed.tools]
    assert schemas == [list(each["parameters"]["properties"].values()) for each in TOOLS]
    assert [message["content"] for message in changed.messages] == [m["content"] for m in DIALOGUE.messages]
    assert (changed.id, changed.kind) == (DIALOGUE.id, DIALOGUE.kind)


def test_the_given_row_is_left_alone() -> None:
    before = json.dumps(dataclasses.asdict(DIALOGUE))
    mask(DIALOGUE)

    assert json.dumps(dataclasses.asdict(DIALOGUE)) == before


def test_names_differ_by_row_and_seed_and_repeat_for_the_same() -> None:
    names = {mask(single(f"row-{number}"), seed).tools[0]["name"] for number in range(20) for seed in (1, 2)}

    assert len(names) == 40
    assert all(5 <= len(name) <= 9 and name[0].isalpha() and name.isalnum() for name in names)
    assert mask(single("row-3")) == mask(single("row-3"))


def nested(**keys: object) -> Tool:
    plain = device("light")
    return {**plain, "parameters": {**plain["parameters"], **keys}}


@pytest.mark.parametrize(
    "tools",
    [
        (device("light"), tool("undescribed", "")),
        (device("light"), tool("half", "Described.", level="")),
        (device("light"), tool("other_switch", "Switch the light on or off.")),
        (device("light"), tool("half", "Described.", low="A level.", high="A level.")),
        (nested(properties={"state": {"description": ["no", "text"]}}),),
        (nested(properties={"state": "no schema"}),),
        (nested(anyOf=[{"required": ["state"]}]),),
        (),
    ],
)
def test_row_that_could_not_be_understood_keeps_its_names(tools: tuple[Tool, ...]) -> None:
    example = row("r", "Light on.", reply="No.", tools=tools)

    assert mask(example) is example


def test_row_whose_text_says_a_functions_name_keeps_its_names() -> None:
    said = row("r", "Call switch_light, please.", "switch_light", tools=(device("light"),))
    word = row("w", "Alarm at six.", "alarm", tools=(tool("alarm", "Set an alarm.", state="The time."),))

    assert mask(said) is said
    assert mask(word) is not word


def test_share_of_the_rows_is_drawn() -> None:
    rows = [single(f"row-{number}") for number in range(300)]
    count = sum(masked(example, share=0.25, seed=3) is not example for example in rows)

    assert 55 < count < 95
    assert all(masked(example, share=0.0, seed=3) is example for example in rows)
