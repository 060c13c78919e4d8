"""A recipe that takes the tiny model through every stage in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOMS = ("kitchen", "hall", "attic", "garage", "study", "cellar")
RECIPE = """\
name: tiny
seed: 3
teacher:
  source: {model}
student:
  source: {model}
data:
  train:
    - path: train.jsonl
  heldout:
    - path: heldout.jsonl
  max_prompt_tokens: 384
  max_completion_tokens: 128
adapt:
  tuning: &all {{method: full}}
  warmup: {{lr: 3.0e-3, rows_per_step: 8, rows_per_forward: 8, epochs: 10, save_every: 15}}
  sim_rl: &rl
    {{steps: 2, prompts_per_step: 2, rollouts: 4, lr: 1.0e-5, max_new_tokens: 64, rows_per_forward: 8, save_every: 1}}
cache: {{prompts: 12, rollouts: 2, max_new_tokens: 64, top_k: 16, rows_per_forward: 8, rows_per_shard: 8}}
distill:
  tuning: {{method: lora, rank: 4, alpha: 8}}
  optimizer: {{lr: 1.0e-3, rows_per_step: 4, rows_per_forward: 4, save_every: 1}}
  tail_top_m: 16
sim_rl:
  tuning: {{method: lora, rank: 4, alpha: 8}}
  sim_rl: *rl
evaluate: {{suites: [heldout], checkpoints: [base, merge], max_new_tokens: 16}}
export: {{gguf: [F16, Q8_0], onnx: [fp32], parity_cases: 2}}
validate: {{cases: 4, threads: 1, max_new_tokens: 64}}
"""


def row(number: int, room: str, *, wants_call: bool) -> dict[str, Any]:
    """One request about a light; without a call it is answered with a refusal."""
    tool = {
        "name": "set_light",
        "description": "Set a light.",
        "parameters": {"type": "object", "properties": {"room": {"type": "string"}}, "required": ["room"]},
    }
    answer: dict[str, Any] = {"role": "assistant", "content": "No tool for that."}
    if wants_call:
        answer = {"role": "assistant", "tool_calls": [{"name": "set_light", "arguments": {"room": room}}]}
    asked = f"Light the {room}" if wants_call else f"Paint the {room}"
    return {"id": f"row-{number}", "messages": [{"role": "user", "content": asked}, answer], "tools": [tool]}


def write_tiny_recipe(folder: Path, model: Path) -> Path:
    """The recipe and its rows in `folder`; returns the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    train = [row(n, ROOMS[n % 4], wants_call=n % 3 != 0) for n in range(24)]
    heldout = [row(100 + n, ROOMS[4 + n % 2], wants_call=n % 3 != 0) for n in range(6)]
    for name, rows in (("train", train), ("heldout", heldout)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    path = folder / "tiny.yaml"
    path.write_text(RECIPE.format(model=model))
    return path
