"""Training speed and memory of CKD: ours, the published formulation, and TRL's SFT with packing, on the same rows.

Peaks compare at equal work: `ours-rows` has as many rows of a forward as `published`.

Each mode trains in a process of its own: warm-up steps, timed steps, then a few more in which every phase is waited
for, which gives the shares of the time. Nothing is downloaded: without folders the models are Qwen2.5-0.5B's and
1.5B's architecture with random weights, and without a cache the rows have real lengths and random tokens.

    python benchmarks/ckd_speed.py --out speed.json              # one GPU, about 6 minutes
    python benchmarks/ckd_speed.py --cache runs/star/cache --student runs/star/base/student --modes ours
    python benchmarks/ckd_speed.py --tiny                        # a CPU, seconds: does it run?
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LENGTHS = Path(__file__).with_name("lengths.json")
MODES = ("ours", "ours-rows", "published", "trl-sft")
MEMORY_LIMIT = 1 / 3
START_UP_S = 30.0
"""Of a mode's share of the minutes, for imports, models and rows; the rest is for training."""
DEFINITIONS = {
    "tokens_per_s": "tokens that the mode computes, padding left out; ours computes a prompt once for its completions",
    "row_tokens_per_s": "the same rows counted with a prompt each",
    "counted_per_s": "positions in the loss",
    "model_flops_utilisation": "6 * (body parameters * tokens + head parameters * counted positions) / s / 989 TFLOP/s "
    "dense bfloat16; no attention scores, no teacher, no recomputation",
    "steps": "timed; one that the minutes cut short counts as far as it came, see forwards and seconds_a_step",
    "shares": "of the profiled steps, which wait at every change of phase; loss of `ours` includes the gradients of "
    "hidden states and head, forward of `trl-sft` includes its loss, other is the trainer's own work",
}


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--modes", default=",".join(MODES), help="comma-separated (default: all)")
    parser.add_argument("--cache", type=Path, help="a teacher cache; its rows and top-k are used")
    parser.add_argument(
        "--lengths", type=Path, default=LENGTHS, help="JSON: [[prompt length, [completion lengths]], ...]"
    )
    parser.add_argument("--completions", type=int, default=4, help="copies of a listed completion length (default 4)")
    parser.add_argument("--student", type=Path, help="model folder (default: Qwen2.5-0.5B, random weights)")
    parser.add_argument("--teacher", type=Path, help="model folder (default: Qwen2.5-1.5B, random weights)")
    parser.add_argument("--rows-per-step", type=int, default=128)
    parser.add_argument("--tokens-per-forward", type=int, default=16384, help="ours (default 16384)")
    parser.add_argument(
        "--trl-tokens", type=int, default=16384, help="of a forward of trl-sft, with logits at each (default 16384)"
    )
    parser.add_argument(
        "--padded-rows", type=int, default=8, help="rows of a forward, published and ours-rows (default 8)"
    )
    parser.add_argument("--top-k", type=int, default=100)
    parser.add_argument("--chunk", type=int, default=1024, help="positions whose logits exist at one time, ours")
    parser.add_argument("--compile", choices=["auto", "off"], default="auto", help="ours")
    parser.add_argument("--warmup", type=int, default=5, help="steps before the clock starts (default 5)")
    parser.add_argument("--steps", type=int, default=20, help="timed steps (default 20)")
    parser.add_argument("--profiled", type=int, default=3, help="steps for the shares (default 3)")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all modes together (default 9)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a two-layer model on the CPU")
    parser.add_argument("--out", type=Path, help="write the numbers here as JSON")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args(given)
    if args.tiny:
        args.device, args.rows_per_step, args.tokens_per_forward, args.padded_rows = "cpu", 8, 128, 4
        args.trl_tokens = 128
        args.warmup, args.steps, args.profiled, args.top_k = 1, 2, 1, 10
    if unknown := set(args.modes.split(",")) - set(MODES):
        parser.error(f"unknown mode {min(unknown)}; choose among {', '.join(MODES)}")
    return args


# -------------------------------------------------------------------------------------------------- in each process


def lengths_of(args: argparse.Namespace) -> list[tuple[int, list[int]]]:
    """(prompt length, completion lengths) of as many prompts as the steps want, from the file over and over."""
    listed = [(20 + n, [3 + n % 4]) for n in range(10)] if args.tiny else json.loads(args.lengths.read_text())
    rows = (args.warmup + args.steps + args.profiled) * args.rows_per_step
    wanted, lengths = 0, []
    for prompt, completions in itertools.cycle(listed):
        lengths.append((prompt, completions * args.completions))
        wanted += len(lengths[-1][1])
        if wanted >= rows:
            return lengths
    raise ValueError(f"{args.lengths}: holds no lengths")


def rows_of(args: argparse.Namespace, vocabulary: int) -> list[Any]:
    """Cache rows: real ones, or random tokens with distinct teacher tokens a position."""
    import torch

    from star_edge.teacher.cache import open_cache
    from star_edge.teacher.shards import CacheRow

    if args.cache:
        return list(open_cache(args.cache).rows)
    generator = torch.Generator().manual_seed(0)
    steps = torch.arange(args.top_k) * (vocabulary // args.top_k)
    rows = []
    for number, (prompt, completions) in enumerate(lengths_of(args)):
        prompt_ids = tuple(torch.randint(vocabulary, (prompt,), generator=generator).tolist())
        for length in completions:
            ids = torch.randint(vocabulary, (length,), generator=generator)
            logprobs = torch.randn(length, args.top_k, generator=generator).mul(3).log_softmax(-1).half()
            top = ((ids[:, None] + steps) % vocabulary).int()
            rows.append(CacheRow(str(number), prompt_ids, tuple(ids.tolist()), top, logprobs))
    return rows


def child(args: argparse.Namespace) -> dict[str, Any]:
    """One mode in this process."""
    import speed_modes

    with tempfile.TemporaryDirectory() as scratch:
        job = speed_modes.Job(
            rows=rows_of(args, 800 if args.tiny else 151_643),
            student=args.student,
            teacher=args.teacher,
            sizes="tiny" if args.tiny else "0.5b",
            device=args.device,
            rows_per_step=args.rows_per_step,
            tokens_per_forward=args.tokens_per_forward,
            trl_tokens=args.trl_tokens,
            padded_rows=args.padded_rows,
            warmup=args.warmup,
            steps=args.steps,
            profiled=args.profiled,
            seconds=args.seconds,
            compile=args.compile,
            chunk=args.chunk,
            out=Path(scratch),
        )
        return speed_modes.measure(args.child, job)


# ------------------------------------------------------------------------------------------------------- all modes


def measured(script: str, mode: str, given: Sequence[str], seconds: float) -> dict[str, Any]:
    """A mode's numbers from a process of its own that ends within `seconds`, or why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        hidden = ["--child", mode, "--seconds", str(max(1.0, seconds - START_UP_S)), "--out", str(result)]
        try:
            done = subprocess.run([sys.executable, script, *given, *hidden], stdout=sys.stderr, timeout=seconds)
        except subprocess.TimeoutExpired:
            return {"mode": mode, "error": f"not done within {seconds:.0f} s"}
        if done.returncode != 0 or not result.exists():
            return {"mode": mode, "error": f"exit status {done.returncode}"}
        numbers: dict[str, Any] = json.loads(result.read_text())
        if numbers.get("steps") == 0:
            return {"mode": mode, "error": f"no timed step within {seconds:.0f} s"}
        return numbers


def in_own_processes(script: str, modes: Sequence[str], given: Sequence[str], minutes: float) -> list[dict[str, Any]]:
    """Every mode of a script one after another; what one leaves of its share of the minutes is for the others."""
    ends = time.monotonic() + minutes * 60
    results = []
    for place, mode in enumerate(modes):
        print(f"{mode} ...", file=sys.stderr)
        results.append(measured(script, mode, given, (ends - time.monotonic()) / (len(modes) - place)))
    return results


def peak_memory_gib(device: str) -> float:
    """Of this process: what torch's allocator held on a GPU, or what the operating system counted."""
    import torch

    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30


def environment() -> dict[str, Any]:
    """Versions and hardware."""
    import torch
    import transformers

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "gpu": gpu,
        "machine": platform.machine(),
        "threads": os.environ.get("OMP_NUM_THREADS", "unset"),
    }


def table(results: Sequence[dict[str, Any]]) -> str:
    """One line a mode."""
    lines = [
        "| mode | tokens/s | row tokens/s | counted/s | padding | peak GiB | MFU | steps | shares of the time |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        if "error" in r:
            lines.append(f"| {r['mode']} | {r['error']} |" + " |" * 7)
            continue
        mfu = r["model_flops_utilisation"]
        shares = ", ".join(f"{name} {share:.0%}" for name, share in r["shares"].items())
        lines.append(
            f"| {r['mode']} | {r['tokens_per_s']:,.0f} | {r['row_tokens_per_s']:,.0f} | {r['counted_per_s']:,.0f} "
            f"| {r['padding_share']:.0%} | {r['peak_memory_gib']:.1f} | {'–' if mfu is None else f'{mfu:.1%}'} "
            f"| {r['steps']} | {shares} |"
        )
    return "\n".join(lines)


def memory_line(results: Sequence[dict[str, Any]]) -> str | None:
    """Our peak against the published formulation's at the same rows of a forward, when both were measured."""
    peaks = {r["mode"]: r["peak_memory_gib"] for r in results if "error" not in r}
    if not {"ours-rows", "published"} <= peaks.keys():
        return None
    ratio = peaks["ours-rows"] / peaks["published"]
    verdict = "yes" if ratio <= MEMORY_LIMIT else "NO"
    return f"peak memory, ours-rows to published: {ratio:.2f} (at most {MEMORY_LIMIT:.2f}: {verdict})"


def main(given: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if given is None else given)
    args = arguments(given)
    if args.child:
        args.out.write_text(json.dumps(child(args)))
        return 0
    results = in_own_processes(__file__, args.modes.split(","), given, args.minutes)
    command = f"python benchmarks/ckd_speed.py {' '.join(given)}".rstrip()
    report = {"command": command, **environment(), "definitions": DEFINITIONS, "modes": results}
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"command: {command}")
    print(", ".join(f"{name} {value}" for name, value in environment().items()))
    print(f"{args.warmup} warm-up steps, up to {args.steps} timed, {args.profiled} profiled for the shares\n")
    print(table(results))
    if line := memory_line(results):
        print(f"\n{line}")
    return 1 if any("error" in r for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())
