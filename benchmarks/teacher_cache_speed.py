"""Speed, memory and size of a teacher cache: scoring completions, and drawing them.

scoring   `score`: ours (`star_edge.teacher.scoring`): rows of a prompt share its computation, nothing is padded, logits
          exist at the completions' positions only; `padded`: a forward over rows padded to the longest, each with its
          own prompt, with logits and log-softmax at every position. Both give the top-k of the same rows.
rollouts  `vllm_logprobs`: vLLM draws and gives its top-k at every position, as for a recipe's cache with `use_vllm`;
          `vllm`: it draws without top-k, which shows what they cost; `here` (`star_edge.models.sampling`), with top-k;
          `generate` (transformers' own), without. Completions/s and tokens/s on the same prompts: a random teacher ends
          none by itself, so that all have the same length; with --teacher those of vLLM end where that one does, so
          compare tokens.

Each mode runs in a process of its own and stops when its share of the minutes is over. Nothing is downloaded: without a
folder the teacher is Qwen2.5-1.5B's architecture with random weights, and rows have real lengths and random tokens.

    python benchmarks/teacher_cache_speed.py --out cache.json                     # one GPU, at most 6 minutes
    python benchmarks/teacher_cache_speed.py --teacher runs/star/base/teacher     # real weights
    python benchmarks/teacher_cache_speed.py --tiny --modes score,padded,here,generate   # a CPU, seconds: does it run?
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckd_speed import LENGTHS, environment, in_own_processes, peak_memory_gib

MODES = ("score", "padded", "vllm", "vllm_logprobs", "here", "generate")
DEFINITIONS = {
    "tokens_per_s": "that the mode computes, padding left out; `score` computes a prompt once for its completions",
    "row_tokens_per_s": "the same rows counted with a prompt each: what to compare `score` and `padded` by",
    "counted_per_s": "positions whose top-k was found",
    "bytes_per_position": "of the shard on disk, token ids and file header included, by completion positions",
    "completions_per_s": "behind start-up and a warm-up call; a random teacher's have --new-tokens tokens each",
    "new_tokens_per_s": "of the same; what to compare the modes by where a real teacher ends its completions",
}

RATIOS = (
    ("score", "padded", "row_tokens_per_s"),
    ("score", "padded", "tokens_per_s"),
    ("vllm", "here", "new_tokens_per_s"),
    ("vllm", "generate", "new_tokens_per_s"),
    ("vllm", "vllm_logprobs", "new_tokens_per_s"),
)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--modes", default=",".join(MODES), help="comma-separated (default: all)")
    parser.add_argument(
        "--lengths", type=Path, default=LENGTHS, help="JSON: [[prompt length, [completion lengths]], ...]"
    )
    parser.add_argument("--teacher", type=Path, help="model folder (default: Qwen2.5-1.5B, random weights)")
    parser.add_argument("--prompts", type=int, default=1024, help="at most (default 1024)")
    parser.add_argument("--completions", type=int, default=8, help="of a prompt (default 8)")
    parser.add_argument("--tokens-per-forward", type=int, default=16384, help="score (default 16384)")
    parser.add_argument("--padded-rows", type=int, default=8, help="rows of a forward, padded (default 8)")
    parser.add_argument("--sampled-rows", type=int, default=64, help="rows of a batch, here and generate (default 64)")
    parser.add_argument("--new-tokens", type=int, default=64, help="of a completion drawn (default 64)")
    parser.add_argument("--top-k", type=int, default=100)
    parser.add_argument("--vllm-memory-share", type=float, default=0.8)
    parser.add_argument("--minutes", type=float, default=6.0, help="for all modes together (default 6)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a two-layer model on the CPU")
    parser.add_argument("--out", type=Path, help="write the numbers here as JSON")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args(given)
    if args.tiny:
        args.device, args.prompts, args.completions, args.tokens_per_forward, args.top_k = "cpu", 12, 4, 256, 10
        args.sampled_rows, args.new_tokens = 8, 5
    if unknown := set(args.modes.split(",")) - set(MODES):
        parser.error(f"unknown mode {min(unknown)}; choose among {', '.join(MODES)}")
    return args


# -------------------------------------------------------------------------------------------------- in each process


@dataclass(frozen=True)
class Prompt:
    """Random ids of a real prompt's length, and of its completions."""

    ids: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]


def prompts_of(args: argparse.Namespace) -> list[Prompt]:
    """The listed lengths; further completions of a prompt are as long as listed ones."""
    import torch

    listed = [(20 + n, [3 + n % 4]) for n in range(12)] if args.tiny else json.loads(args.lengths.read_text())
    generator = torch.Generator().manual_seed(0)

    def draw(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 800 if args.tiny else 151_643, (length,), generator=generator).tolist())

    return [
        Prompt(draw(prompt), tuple(draw(lengths[n % len(lengths)]) for n in range(args.completions)))
        for prompt, lengths in listed[: args.prompts]
    ]


class Vocabulary:
    """All of a tokenizer that scoring and sampling ask for."""

    pad_token_id = 0

    def __init__(self, size: int) -> None:
        self._size = size

    def get_vocab(self) -> dict[str, int]:
        return {"last": self._size - 1}


def teacher_of(args: argparse.Namespace) -> Any:
    """The teacher on its device; it never stops by itself."""
    import torch
    from speed_modes import model_of

    from star_edge.models.load import LoadedModel

    dtype = torch.float32 if args.device == "cpu" else torch.bfloat16
    model = model_of(args.teacher, "tiny" if args.tiny else "1.5b", dtype=dtype, device=args.device).eval()
    return LoadedModel(model, Vocabulary(800 if args.tiny else 151_665), "", ())


def portions(prompts: Sequence[Prompt], size: int, seconds: float) -> Iterator[Sequence[Prompt]]:
    """The prompts, `size` at a time, for as long as there are seconds left."""
    ends = time.perf_counter() + seconds
    for start in range(0, len(prompts), size):
        if time.perf_counter() > ends:
            return
        yield prompts[start : start + size]


def wait(args: argparse.Namespace) -> None:
    if args.device != "cpu":
        import torch

        torch.cuda.synchronize()


def scored(args: argparse.Namespace, score: Callable[[Sequence[Prompt]], Any], *, size: int) -> dict[str, Any]:
    """Rates of a scoring mode over all portions behind the first, which warms up and is done again."""
    prompts = prompts_of(args)
    score(prompts[:size])
    done: list[Prompt] = []
    wait(args)
    began = time.perf_counter()
    for part in portions(prompts, size, args.seconds):
        score(part)
        done += part
    wait(args)
    seconds = time.perf_counter() - began
    counted = sum(len(completion) for prompt in done for completion in prompt.completions)
    shared = sum(len(prompt.ids) for prompt in done) + counted
    rows = sum(len(prompt.ids) * len(prompt.completions) for prompt in done) + counted
    return {
        "prompts": len(done),
        "seconds": seconds,
        "tokens_per_s": (shared if args.child == "score" else rows) / seconds,
        "row_tokens_per_s": rows / seconds,
        "counted_per_s": counted / seconds,
    }


def score(args: argparse.Namespace) -> dict[str, Any]:
    """Our pass; the last portion's top-k is written to a shard to see how large it is."""
    from star_edge.teacher.scoring import Scorer

    scorer = Scorer(teacher_of(args), top_k=args.top_k, tokens_per_forward=args.tokens_per_forward)
    last: list[Any] = []

    def one(part: Sequence[Prompt]) -> None:
        last[:] = [part, scorer([(prompt.ids, prompt.completions) for prompt in part])]

    # Portions as a cache makes them: some forwards each, sorted by length within.
    numbers = scored(args, one, size=8 if args.tiny else 256)
    return numbers | {"bytes_per_position": bytes_per_position(*last, top_k=args.top_k)}


def bytes_per_position(prompts: Sequence[Prompt], found: Sequence[Any], *, top_k: int) -> float:
    """Of a shard with these prompts' rows."""
    from star_edge.teacher.rollout import Rollout
    from star_edge.teacher.shards import shard_entry, write_shard

    rollouts = [
        Rollout(f"row-{number}", prompt.ids, completion, "", *top)
        for number, (prompt, pieces) in enumerate(zip(prompts, found, strict=True))
        for completion, top in zip(prompt.completions, pieces, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.safetensors"
        write_shard(path, rollouts, top_k, {})
        entry = shard_entry(path)
    return entry.bytes / entry.positions


def padded(args: argparse.Namespace) -> dict[str, Any]:
    """Rows padded to the longest of their forward, sorted by length as ours are, logits everywhere."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    teacher = teacher_of(args).model

    @torch.inference_mode()
    def forward(rows: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[Any]:
        ids = [torch.tensor([*prompt, *completion]) for prompt, completion in rows]
        mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True).to(args.device)
        logits = teacher(
            input_ids=pad_sequence(ids, batch_first=True).to(args.device), attention_mask=mask, use_cache=False
        ).logits
        top = logits.float().log_softmax(dim=-1).topk(args.top_k, dim=-1)
        columns = top.indices.to("cpu", torch.int32), top.values.to("cpu", torch.float16)
        spans = [slice(len(prompt) - 1, len(prompt) + len(completion) - 1) for prompt, completion in rows]
        return [tuple(column[row, span] for column in columns) for row, span in enumerate(spans)]

    def one(part: Sequence[Prompt]) -> None:
        rows = sorted(((p.ids, c) for p in part for c in p.completions), key=lambda row: len(row[0]) + len(row[1]))
        for start in range(0, len(rows), args.padded_rows):
            forward(rows[start : start + args.padded_rows])

    return scored(args, one, size=8 if args.tiny else 64)


def drawn(args: argparse.Namespace, draw: Callable[[Sequence[Prompt]], int], *, size: int) -> dict[str, Any]:
    """Completions/s of a sampling mode behind one warm-up call."""
    prompts = prompts_of(args)
    draw(prompts[: max(1, size // 8)])
    completions = 0
    tokens = 0
    began = time.perf_counter()
    for part in portions(prompts, size, args.seconds):
        tokens += draw(part)
        completions += sum(len(prompt.completions) for prompt in part)
    seconds = time.perf_counter() - began
    return {
        "completions": completions,
        "seconds": seconds,
        "completions_per_s": completions / seconds,
        "new_tokens_per_s": tokens / seconds,
    }


def here(args: argparse.Namespace) -> dict[str, Any]:
    """`star_edge.models.sampling`: a batch's prompts computed once, all their completions decoded together."""
    import torch

    from star_edge.models.sampling import sample

    teacher = teacher_of(args)
    generator = torch.Generator(args.device).manual_seed(0)

    def draw(part: Sequence[Prompt]) -> int:
        found = sample(
            teacher,
            [prompt.ids for prompt in part],
            copies=args.completions,
            temperature=1.0,
            max_new_tokens=args.new_tokens,
            generator=generator,
            top_k=args.top_k,
        )
        return sum(len(one.ids) for rows in found for one in rows)

    return drawn(args, draw, size=max(1, args.sampled_rows // args.completions))


def generate(args: argparse.Namespace) -> dict[str, Any]:
    """`model.generate` on prompts padded to the longest of their batch, each computed once a completion."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    teacher = teacher_of(args).model

    @torch.inference_mode()
    def draw(part: Sequence[Prompt]) -> int:
        ids = [torch.tensor(prompt.ids) for prompt in part]
        mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True, padding_side="left")
        made = teacher.generate(
            input_ids=pad_sequence(ids, batch_first=True, padding_side="left").to(args.device),
            attention_mask=mask.to(args.device),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            num_return_sequences=args.completions,
            min_new_tokens=args.new_tokens,
            max_new_tokens=args.new_tokens,
            pad_token_id=0,
        )
        return len(made) * args.new_tokens

    return drawn(args, draw, size=max(1, args.sampled_rows // args.completions))


def vllm(args: argparse.Namespace, *, top_k: int = 0) -> dict[str, Any]:
    """vLLM with prefix caching, with as many prompts a call as a large shard of a cache has."""
    from star_edge.models.vllm_engine import VllmEngine

    with tempfile.TemporaryDirectory() as scratch:
        folder = args.teacher or written_teacher(args, Path(scratch))
        room = max(len(prompt.ids) for prompt in prompts_of(args)) + args.new_tokens
        began = time.perf_counter()
        share = args.vllm_memory_share
        engine = VllmEngine(folder, max_model_len=room, gpu_memory_utilization=share, max_top_k=top_k)
        start_up = time.perf_counter() - began

        def draw(part: Sequence[Prompt]) -> int:
            found = engine.sample(
                [prompt.ids for prompt in part],
                copies=args.completions,
                temperature=1.0,
                max_new_tokens=args.new_tokens,
                seed=0,
                top_k=top_k,
            )
            return sum(len(one.ids) for rows in found for one in rows)

        numbers = drawn(args, draw, size=512)
        engine.close()
    return numbers | {"start_up_s": start_up}


def written_teacher(args: argparse.Namespace, folder: Path) -> Path:
    """The random teacher as a folder that vLLM can open."""
    model = teacher_of(args).model
    model.generation_config.eos_token_id = 0
    model.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


def child(args: argparse.Namespace) -> dict[str, Any]:
    """One mode in this process."""
    from star_edge.teacher.engine_rollout import SPARE

    measure = {
        "score": score,
        "padded": padded,
        "vllm": vllm,
        "vllm_logprobs": functools.partial(vllm, top_k=args.top_k + SPARE),
        "here": here,
        "generate": generate,
    }[args.child]
    return {"mode": args.child, **measure(args), "peak_memory_gib": peak_memory_gib(args.device)}


# ------------------------------------------------------------------------------------------------------- all modes


def lines(results: Sequence[dict[str, Any]]) -> list[str]:
    """One line a mode, and the ratios that can be formed."""
    by_mode = {result["mode"]: result for result in results}
    shown = []
    for mode, r in by_mode.items():
        if "error" in r:
            shown.append(f"{mode}: {r['error']}")
        elif "row_tokens_per_s" in r:
            size = f", {r['bytes_per_position']:.0f} bytes a position" if "bytes_per_position" in r else ""
            shown.append(
                f"{mode}: {r['row_tokens_per_s']:,.0f} row tokens/s, {r['tokens_per_s']:,.0f} tokens/s, "
                f"{r['counted_per_s']:,.0f} positions/s, peak {r['peak_memory_gib']:.1f} GiB{size}"
            )
        else:
            start_up = f", start-up {r['start_up_s']:.0f} s" if "start_up_s" in r else ""
            rates = f"{r['completions_per_s']:,.1f} completions/s, {r['new_tokens_per_s']:,.0f} new tokens/s"
            shown.append(f"{mode}: {rates}{start_up}")
    for ours, theirs, what in RATIOS:
        pair = by_mode.get(ours, {}), by_mode.get(theirs, {})
        if all(what in result for result in pair):
            shown.append(f"{ours} to {theirs}: {pair[0][what] / pair[1][what]:.2f} times the {what}")
    return shown


def main(given: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if given is None else given)
    args = arguments(given)
    if args.child:
        args.out.write_text(json.dumps(child(args)))
        return 0
    results = in_own_processes(__file__, args.modes.split(","), given, args.minutes)
    command = f"python benchmarks/teacher_cache_speed.py {' '.join(given)}".rstrip()
    report = {"command": command, **environment(), "definitions": DEFINITIONS, "modes": results}
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"command: {command}")
    print(", ".join(f"{name} {value}" for name, value in environment().items()))
    print(f"{args.completions} completions a prompt, top {args.top_k}; a first portion of each mode is not timed\n")
    print("\n".join(lines(results)))
    return 1 if any("error" in result for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
