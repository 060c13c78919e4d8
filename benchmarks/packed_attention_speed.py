"""Milliseconds of packed attention, forwards and backwards, by the tiles of `flex_attention`'s kernels.

Documents of the lengths of `lengths.json`, one completion each, in the head shapes of Qwen2.5-0.5B and 1.5B. Every
choice of tiles is compiled for all lengths, as in training; `default` is what torch chooses, `star_edge` what
`star_edge.models.packed_attention` asks for. Results must agree with those of the default to rounding.

    python benchmarks/packed_attention_speed.py --out attention.json   # one GPU
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch._functorch.config
from ckd_speed import LENGTHS, environment
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from star_edge.models.packed_attention import block_mask_of, kernel_options, padded_to_blocks
from star_edge.models.packing import pack

SHAPES = {"0.5b": (14, 64, 26_000), "1.5b": (12, 128, 13_000)}
"""Query heads, their size, and tokens of a forward; two key heads."""
MOST_APART = 0.01


def tiles(forward: tuple[int, int, int], backward: tuple[int, int, int, int, int]) -> dict[str, Any]:
    """Kernel options: queries, keys and warps forwards; M1, N1, M2, N2 and warps backwards."""
    names = ("fwd_BLOCK_M", "fwd_BLOCK_N", "fwd_num_warps")
    back = ("bwd_BLOCK_M1", "bwd_BLOCK_N1", "bwd_BLOCK_M2", "bwd_BLOCK_N2", "bwd_num_warps")
    return {"IS_DIVISIBLE": True, **dict(zip(names, forward, strict=True)), **dict(zip(back, backward, strict=True))}


def choices(head_size: int) -> dict[str, Mapping[str, Any]]:
    """What is compared."""
    return {
        "default": {},
        "default, whole blocks": {"IS_DIVISIBLE": True},
        "star_edge": kernel_options(head_size, torch.bfloat16),
        "128x64 8 warps, 64x64 4 warps": tiles((128, 64, 8), (64, 64, 64, 64, 4)),
        "128x64 4 warps, 64x128 8 warps": tiles((128, 64, 4), (64, 128, 128, 64, 8)),
        "64x64 4 warps, 32x64 4 warps": tiles((64, 64, 4), (32, 64, 64, 32, 4)),
        "128x128 8 warps, 64x64 8 warps": tiles((128, 128, 8), (64, 64, 64, 64, 8)),
    }


def documents(tokens: int) -> Tensor:
    """(3, T) `visible` of about so many tokens."""
    rows: list[tuple[list[int], list[int]]] = []
    for prompt, completions in json.loads(LENGTHS.read_text()):
        rows.append(([1] * prompt, [2] * completions[0]))
        if sum(len(prompt) + len(completion) for prompt, completion in rows) >= tokens:
            break
    batch = pack(rows)
    return padded_to_blocks(batch["input_ids"], batch["positions"], batch["visible"])[2].cuda()


def milliseconds(work: Callable[[], Any], trials: int) -> float:
    """Mean of the trials, behind one that is not counted."""
    work()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(trials):
        work()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / trials


def attend(query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, options: Mapping[str, Any]) -> Tensor:
    """What is compiled."""
    result: Tensor = flex_attention(
        query, key, value, block_mask=mask, enable_gqa=True, kernel_options=dict(options) or None
    )
    return result


def measure(shape: str, trials: int) -> list[dict[str, Any]]:
    """All choices of one shape, the default first."""
    heads, size, tokens = SHAPES[shape]
    visible = documents(tokens)
    mask, length = block_mask_of(visible), visible.shape[1]
    torch.manual_seed(0)
    draw = functools.partial(torch.randn, device="cuda", dtype=torch.bfloat16)
    states = [draw(1, count, length, size, requires_grad=True) for count in (heads, 2, 2)]
    gradient = draw(1, heads, length, size)
    expected: list[Tensor] | None = None
    lines = []
    for name, options in choices(size).items():
        torch._dynamo.reset()
        forward = functools.partial(
            torch.compile(functools.partial(attend, options=options), dynamic=True, fullgraph=True), *states, mask
        )
        output = forward()
        backward = functools.partial(torch.autograd.grad, output, states, gradient, retain_graph=True)
        found = [output.detach(), *backward()]
        expected = expected or found
        apart = max(
            float((one - other).float().norm() / other.float().norm())
            for one, other in zip(found, expected, strict=True)
        )
        if apart > MOST_APART:
            raise SystemExit(f"{shape}, {name}: differs from the default by {apart:.2%} of its norm")
        lines.append(
            {
                "shape": shape,
                "tiles": name,
                "forward_ms": milliseconds(forward, trials),
                "backward_ms": milliseconds(backward, trials),
                "apart": apart,
            }
        )
    return lines


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shapes", default=",".join(SHAPES), help="comma-separated (default: all)")
    parser.add_argument("--trials", type=int, default=10, help="timed runs of each (default 10)")
    parser.add_argument("--out", type=Path, help="write the numbers here as JSON")
    args = parser.parse_args(given)
    if not torch.cuda.is_available():
        parser.error("there is no GPU, and these are a GPU's kernels")
    torch._functorch.config.donated_buffer = False  # a backward pass is timed more than once
    lines = [line for shape in args.shapes.split(",") for line in measure(shape, args.trials)]
    print(", ".join(f"{name} {value}" for name, value in environment().items()))
    print("\n| shape | tiles | forward ms | backward ms | apart from the default |\n|---|---|---|---|---|")
    for line in lines:
        print(
            f"| {line['shape']} | {line['tiles']} | {line['forward_ms']:.3f} | {line['backward_ms']:.3f} "
            f"| {line['apart']:.5f} |"
        )
    if args.out:
        args.out.write_text(json.dumps({**environment(), "lines": lines}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
