"""The lines of docs/rewards.md that put a reward into TRL's own trainer, run as they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from star_edge.calls.template import render
from star_edge.contracts import ToolCall

DOCS = Path(__file__).parents[2] / "docs" / "rewards.md"
TOOL = {"name": "stop", "description": "Stop it.", "parameters": {"type": "object", "properties": {}}}


def snippet() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 3
    return code


@pytest.mark.slow
def test_the_documented_lines_train_with_plain_trl(tiny_student: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="needs the 'train' extra")
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    template = AutoTokenizer.from_pretrained(tiny_student).chat_template
    call = ToolCall("stop", {})
    targets = [
        {"role": "assistant", "content": "Which one?"},
        {"role": "assistant", "content": None, "tool_calls": [{"name": call.name, "arguments": call.arguments}]},
    ]
    prompt = render(template, [{"role": "user", "content": "Stop!"}], [TOOL], add_generation_prompt=True)
    rows = Dataset.from_list(
        [{"prompt": prompt, "target": json.dumps(target), "tools": json.dumps([TOOL])} for target in targets]
    )
    args = GRPOConfig(
        str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=8,
        use_cpu=True,
        bf16=False,  # TRL's default, which it hands on to all that follows in this process and its children
        report_to=[],
        logging_steps=1,
        save_strategy="no",
    )
    names = {"GRPOTrainer": GRPOTrainer, "model": str(tiny_student), "args": args, "rows": rows}
    exec(compile(snippet(), str(DOCS), "exec"), names)
    trainer = names["trainer"]
    assert isinstance(trainer, GRPOTrainer)
    trainer.train()
    (logged,) = [
        entry["rewards/typed_reward/mean"]
        for entry in trainer.state.log_history
        if "rewards/typed_reward/mean" in entry
    ]
    # A random model speaks (a reply is due in half of the rows) and does not call (which is due in the others).
    assert -1.0 < logged <= 0.0
