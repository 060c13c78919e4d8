"""What `test_processes.py` runs in each process: `sft|rl MODEL OUT`, a few steps on made-up rows."""

import sys
from pathlib import Path

import torch

from star_edge.contracts import Checkpoint, Example, OptimizerConfig, SimRlConfig, TuningConfig
from star_edge.data.chat import EncodedExample

LORA = TuningConfig(rank=4, alpha=8, last_layers=1)


def sft(student: Checkpoint, out: Path) -> None:
    from star_edge.distill.trainer import run_sft

    generator = torch.Generator().manual_seed(0)
    rows = []
    for number in range(24):
        ids = torch.randint(3, 700, (8 + number % 9,), generator=generator).tolist()
        rows.append(EncodedExample(str(number), tuple(ids), 5))
    optimizer = OptimizerConfig(
        lr=1e-3, warmup_share=0.0, rows_per_step=8, rows_per_forward=2, max_steps=3, precision="float32"
    )
    run_sft(optimizer, LORA, student, rows, out, stage="warmup", device="cpu", seed=1)


def rl(student: Checkpoint, out: Path) -> None:
    from star_edge.rl import trainer

    # A random model earns nothing from the real reward; the second process finds fewer groups worth keeping.
    def by_length(prompts, completions, target, tools):  # type: ignore[no-untyped-def]
        rank = int(trainer.torch.distributed.get_rank())
        return [1.0 if rank and place < 4 else len(text) % 8 / 8 for place, text in enumerate(completions)]

    trainer.trl_reward = lambda kind: by_length  # type: ignore[assignment]
    messages = ({"role": "user", "content": "Say it."}, {"role": "assistant", "content": "It."})
    examples = [Example(str(number), "test", messages, ()) for number in range(8)]
    config = SimRlConfig(
        steps=2, prompts_per_step=4, rollouts=4, lr=1e-3, max_new_tokens=5, rows_per_forward=4, precision="float32"
    )
    trainer.run_sim_rl(config, LORA, student, examples, out, stage="sim-rl", device="cpu", seed=1)


if __name__ == "__main__":
    {"sft": sft, "rl": rl}[sys.argv[1]](Checkpoint(Path(sys.argv[2]), "base"), Path(sys.argv[3]))
