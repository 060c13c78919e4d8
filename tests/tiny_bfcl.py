"""A stand-in for the bfcl-eval wheel: its layout, with a few cases of our own in every single-turn category."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from star_edge.evaluate.bfcl.cases import CATEGORIES

ROOMS = ("kitchen", "hall", "attic", "garage", "study", "cellar")
REGISTRY = """\
from bfcl_eval.model_handler.local_inference.qwen_fc import QwenFCHandler
third_party = {
    "Qwen/Qwen3-0.6B-FC": ModelConfig(model_name="Qwen/Qwen3-0.6B", model_handler=QwenFCHandler, is_fc_model=True),
    "Qwen/Qwen3-8B-FC": ModelConfig(model_name="Qwen/Qwen3-8B", model_handler=QwenFCHandler, is_fc_model=True),
    "Qwen/Qwen3-0.6B": ModelConfig(model_name="Qwen/Qwen3-0.6B", model_handler=QwenHandler, is_fc_model=False),
}
"""


def sizes() -> dict[str, int]:
    """Cases a category: different ones, so that a wrong weight shows."""
    return {category: 4 + number for number, category in enumerate(CATEGORIES)}


def _function(category: str) -> dict[str, Any]:
    kind = "String" if category in ("simple_java", "simple_javascript") else "string"
    properties = {"room": {"type": kind, "description": "Which room."}}
    parameters = {"type": "dict", "properties": properties, "required": ["room"]}
    return {"name": "house.light", "description": "Set a light.", "parameters": parameters}


def _case(category: str, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    id = f"{category}_{number}"
    room = ROOMS[number % len(ROOMS)]
    asked = {"role": "user", "content": f"Light the {room}."}
    answers = [{"house.light": {"room": [room]}}] * (2 if "parallel" in category else 1)
    return {"id": id, "question": [[asked]], "function": [_function(category)]}, {"id": id, "ground_truth": answers}


def right_text(id: str) -> str:
    """The right completion of a case."""
    category, _, number = id.rpartition("_")
    if "irrelevance" in category:
        return "I cannot do that."
    call = json.dumps({"name": "house.light", "arguments": {"room": ROOMS[int(number) % len(ROOMS)]}})
    return "\n".join([f"<tool_call>\n{call}\n</tool_call>"] * (2 if "parallel" in category else 1))


def right_texts() -> dict[str, str]:
    """The right completion of every case."""
    return {f"{c}_{number}": right_text(f"{c}_{number}") for c, size in sizes().items() for number in range(size)}


def write_wheel(path: Path) -> Path:
    """The stand-in as a file."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bfcl_eval/constants/model_config.py", REGISTRY)
        for category, size in sizes().items():
            rows = [_case(category, number) for number in range(size)]
            names = ("bfcl_eval/data/", "bfcl_eval/data/possible_answer/")
            for folder, column in zip(names, zip(*rows, strict=True), strict=True):
                lines = "".join(json.dumps(row) + "\n" for row in column)
                archive.writestr(f"{folder}BFCL_v4_{category}.json", lines)
    return path


def install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Make it the wheel that is fetched, for one test."""
    wheel = write_wheel(folder / "tiny_bfcl.whl")
    monkeypatch.setattr("star_edge.evaluate.bfcl.wheel.fetch", lambda *_: wheel)
    return wheel


def write_outputs(path: Path, texts: dict[str, str]) -> Path:
    """An outputs file."""
    path.write_text("".join(json.dumps({"id": id, "text": text}) + "\n" for id, text in texts.items()))
    return path
