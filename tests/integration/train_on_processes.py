"""What `test_processes.py` runs in each process: `sft|rl|sharded MODEL OUT`, a few steps on made-up rows."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from star_edge.contracts import Checkpoint, Example, OptimizerConfig, SimRlConfig, TuningConfig
from star_edge.data.chat import EncodedExample
from star_edge.distill.ckd_loss import chunked_ckd_loss
from star_edge.models.packing import add_counted_forward, pack

LORA = TuningConfig(rank=4, alpha=8, last_layers=1)


def sft(student: Checkpoint, out: Path) -> None:
    from star_edge.distill.trainer import run_sft

    generator = torch.Generator().manual_seed(0)
    rows = []
    for number in range(24):
        ids = torch.randint(3, 700, (8 + number % 9,), generator=generator).tolist()
        rows.append(EncodedExample(str(number), tuple(ids), 5))
    # Rows of a dozen tokens each: a device's four rows make two or three forwards.
    optimizer = OptimizerConfig(
        lr=1e-3, warmup_share=0.0, rows_per_step=8, tokens_per_forward=25, max_steps=3, precision="float32"
    )
    run_sft(optimizer, LORA, student, rows, out, stage="warmup", device="cpu", seed=1)


def rl(student: Checkpoint, out: Path) -> None:
    from torch import distributed

    from star_edge.rl import trainer

    # A random model earns nothing from the real reward; the second process finds fewer groups worth keeping.
    def by_length(prompts, completions, target, tools):  # type: ignore[no-untyped-def]
        rank = distributed.get_rank()
        return [1.0 if rank and place < 4 else len(text) % 8 / 8 for place, text in enumerate(completions)]

    trainer.trl_reward = lambda kind: by_length  # type: ignore[assignment]
    messages = ({"role": "user", "content": "Say it."}, {"role": "assistant", "content": "It."})
    examples = [Example(str(number), "test", messages, ()) for number in range(8)]
    config = SimRlConfig(
        steps=2, prompts_per_step=4, rollouts=4, lr=1e-3, max_new_tokens=5, rows_per_forward=4, precision="float32"
    )
    trainer.run_sim_rl(config, LORA, student, examples, out, stage="sim-rl", device="cpu", seed=1)


def sharded(student: Checkpoint, out: Path) -> None:
    """A model sharded layer by layer (FSDP2) has the loss and the gradients of a whole one."""
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from star_edge.models.load import load

    distributed.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    whole, parts = (load(student, device="cpu", trainable=True).model for _ in range(2))
    expected = packed_loss(whole)
    for layer in parts.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(parts, mesh=mesh)
    loss = packed_loss(parts)
    torch.testing.assert_close(loss, expected)
    wanted = dict(whole.named_parameters())
    for name, weight in parts.named_parameters():
        torch.testing.assert_close(weight.grad.full_tensor(), wanted[name].grad)
    distributed.destroy_process_group()
    out.mkdir(exist_ok=True)
    (out / "agrees").touch()


def packed_loss(model: Any) -> torch.Tensor:
    """CKD of two prompts, one with two completions, differentiated."""
    add_counted_forward(model)
    batch = pack([((5, 6, 7), (1, 2)), ((5, 6, 7), (8,)), ((9,), (4, 3, 2))])
    logits = torch.randn(6, 800, generator=torch.Generator().manual_seed(1))
    logprobs, ids = logits.log_softmax(-1).topk(9)
    objective = partial(
        chunked_ckd_loss, teacher_ids=ids, teacher_logprobs=logprobs, tail_weight=10.0, tail_top_m=9, chunk=4
    )
    del batch["labels"]
    loss: torch.Tensor = model(**batch, then=objective)
    loss.backward()
    return loss.detach()


if __name__ == "__main__":
    {"sft": sft, "rl": rl, "sharded": sharded}[sys.argv[1]](Checkpoint(Path(sys.argv[2]), "base"), Path(sys.argv[3]))
