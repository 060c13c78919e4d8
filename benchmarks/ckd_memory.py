"""Peak memory of one CKD step from hidden states: chunked against full logits.

Each variant runs in a process of its own; on a CPU its peak resident size is read from the operating system, on a
GPU the allocator's peak. Both compute loss and gradients for hidden states and head.

    python benchmarks/ckd_memory.py                 # CPU, about 14 GiB free memory for the full-logit variant
    python benchmarks/ckd_memory.py --device cuda
    python benchmarks/ckd_memory.py --positions 512 # a small machine
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time

import torch

from star_edge.distill.ckd_loss import chunked_ckd_loss, ckd_loss

LIMIT = 1 / 3
MIB = 2**20


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--hidden", type=int, default=896)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--positions", type=int, default=4096)
    parser.add_argument("--top-k", type=int, default=100)
    parser.add_argument("--chunk", type=int, default=1024)
    parser.add_argument("--variant", choices=["chunked", "full"], help=argparse.SUPPRESS)
    return parser.parse_args()


def peak_mib(device: str) -> float:
    """Most memory this process has held so far."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step(args: argparse.Namespace) -> dict[str, float]:
    """One step of a variant in this process."""
    torch.manual_seed(0)
    hidden = torch.randn(args.positions, args.hidden, device=args.device).requires_grad_()
    head = torch.randn(args.vocabulary, args.hidden, device=args.device).mul_(0.02).requires_grad_()
    ids = torch.randint(args.vocabulary, (args.positions, args.top_k), device=args.device)
    logprobs = torch.randn(args.positions, args.top_k, device=args.device).log_softmax(-1)
    before, started = peak_mib(args.device), time.process_time()
    if args.variant == "chunked":
        loss = chunked_ckd_loss(hidden, head, ids, logprobs, chunk=args.chunk)
    else:
        loss = ckd_loss(hidden @ head.T, ids, logprobs)
    torch.autograd.backward(loss)
    seconds = time.process_time() - started
    assert hidden.grad is not None
    return {
        "peak_mib": peak_mib(args.device),
        "inputs_mib": before,
        "cpu_seconds": seconds,
        "loss": loss.item(),
        "gradient": hidden.grad.norm().item(),
    }


def measured(variant: str) -> dict[str, float]:
    """A variant's numbers from a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--variant", variant]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> int:
    args = arguments()
    if args.variant:
        print(json.dumps(step(args)))
        return 0
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    print(f"command: python benchmarks/ckd_memory.py {' '.join(sys.argv[1:])}".rstrip())
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, device {args.device}")
    print(f"OMP_NUM_THREADS={threads}; no warm-up, 1 trial: a peak does not vary")
    print(
        f"hidden {args.hidden}, vocabulary {args.vocabulary}, {args.positions} counted positions, k = m = {args.top_k}"
    )
    print(f"float32, head trained, chunk {args.chunk}\n")
    results = {variant: measured(variant) for variant in ("full", "chunked")}
    print("| variant | peak MiB | of it before the step | CPU seconds | loss | gradient norm |")
    print("|---|---|---|---|---|---|")
    for variant, r in results.items():
        print(
            f"| {variant} | {r['peak_mib']:.0f} | {r['inputs_mib']:.0f} | {r['cpu_seconds']:.1f} | {r['loss']:.6f} "
            f"| {r['gradient']:.6e} |"
        )
    ratio = results["chunked"]["peak_mib"] / results["full"]["peak_mib"]
    print(f"\nratio of the peaks: {ratio:.3f} (at most {LIMIT:.3f}: {'yes' if ratio <= LIMIT else 'NO'})")
    return 0 if ratio <= LIMIT else 3


if __name__ == "__main__":
    sys.exit(main())
