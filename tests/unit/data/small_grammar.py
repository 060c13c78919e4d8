"""A grammar of three tools whose verbs differ, small enough to read at a glance."""

from __future__ import annotations

from typing import Any

import yaml

SMALL = """
name: small
rows: {train: 60, heldout: 20}
shares: {irrelevant: 0.2, parallel: 0.1, missing: 0.1}
tools_offered: [2]
wrapped_share: 0.5
wrappers: {train: ["please {request}", "{Request}."], heldout: ["kindly {request}", "{request}, thanks"]}
joins: {train: ["{first} and {second}"], heldout: ["{first} plus {second}"]}
values:
  room: {train: [kitchen, bedroom, hall, garage], heldout: [attic, porch]}
  level: {train: [1, 2, 3, 4, 5, 6, 7], heldout: [8, 9, 10]}
  note: {free_text: true, train: [buy milk, call home, pay rent, eat], heldout: [sleep, run, read]}
tools:
  light:
    description: Switch a light.
    parameters: {state: {enum: ["on", "off"]}, room: {type: string}}
    required: [state, room]
    values: {room: room}
    phrases:
      train: [{say: "light the {room}", with: {state: "on"}}, {say: "darken the {room}", with: {state: "off"}}]
      heldout: [{say: "lighten the {room}", with: {state: "on"}}]
  volume:
    description: Set the volume.
    parameters: {level: {type: integer}, loud: {type: boolean}}
    required: [level]
    values: {level: level}
    repeats: false
    phrases:
      train: ["volume to {level}", {say: "volume up to {level}", with: {loud: true}}, "Volume {level}"]
      heldout: ["volume at {level}"]
  note:
    description: Take a note.
    parameters: {text: {type: string}, room: {type: string}}
    required: [text]
    values: {text: note, room: room}
    phrases:
      train: ["note {text}", "note in the {room}: {text}", "note {text} down"]
      heldout: ["note it: {text}", "note {text} for me"]
    missing:
      - parameter: text
        ask: What should I note?
        phrases:
          train: ["note", "note for the {room}", "note this"]
          heldout: ["note it down", "note one for the {room}"]
irrelevant:
  answer: No tool for that.
  not_offered: 0.5
  phrases: {train: ["sing in the {room}", "dance {level} times"], heldout: ["jump {level} times"]}
"""


def small_spec() -> dict[str, Any]:
    """A fresh copy of the spec."""
    spec: dict[str, Any] = yaml.safe_load(SMALL)
    return spec
