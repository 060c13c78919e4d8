"""Seconds of a Sim-RL step of 512 completions, and where they go: `star_edge.rl` as `star-edge distill` runs it.

vllm    vLLM with prefix caching samples beside the trainer
here    `star_edge.models.sampling` samples: each prompt's prefill once, finished rows leave the batch

With --rows the prompts, targets and rewards are those of a file of rows; without, prompts have the lengths of
lengths.json and random words, and the reward is a random number, so that no group is filtered. Each mode runs in a
process of its own and stops when its share of the minutes is over.

    python benchmarks/sim_rl_speed.py --policy runs/star/base/student --out sim_rl.json    # one GPU, at most 6 minutes
    python benchmarks/sim_rl_speed.py --policy runs/star/ckd/model --rows data/seal_tools.jsonl.gz --modes vllm
    python benchmarks/sim_rl_speed.py --tiny --modes here                                  # a CPU, seconds
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ckd_speed import LENGTHS, environment, in_own_processes, peak_memory_gib

MODES = ("vllm", "here")
LIMIT_S = 15.0
TESTS = Path(__file__).parents[1] / "tests"
DEFINITIONS = {
    "seconds_a_step": "from the end of one optimizer step to the end of the next, sampling again included",
    "sampled_a_step": "completions drawn, of groups that do not count too; trained_a_step: those in the update",
    "completions_per_s": "drawn, by the seconds of rollout alone",
    "shares": "of the timed steps, which wait for the GPU at every change of phase: rollout, weight sync (into vLLM), "
    "reward, log-probabilities (of sampler's weights and of reference), update (forward, backward, optimizer), other",
}


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--modes", default=",".join(MODES), help="comma-separated (default: all)")
    parser.add_argument("--policy", type=Path, help="folder of the model with its tokenizer; needed but for --tiny")
    parser.add_argument("--rows", type=Path, nargs="+", help="JSONL files of rows (default: random words)")
    parser.add_argument("--lengths", type=Path, default=LENGTHS, help="lengths of the random prompts")
    parser.add_argument("--prompts-per-step", type=int, default=64)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--reward", default="typed", help="with --rows (default typed)")
    parser.add_argument("--max-resamples", type=int, default=1)
    parser.add_argument("--beta", type=float, default=1e-3, help="0 leaves the reference out (default 0.001)")
    parser.add_argument("--tuning", choices=["lora", "full"], default="lora")
    parser.add_argument("--tokens-per-forward", type=int, default=16384, help="of the update (default 16384)")
    parser.add_argument("--vllm-memory-share", type=float, default=0.3)
    parser.add_argument("--steps", type=int, default=6, help="timed, behind one that warms up (default 6)")
    parser.add_argument("--minutes", type=float, default=6.0, help="for all modes together (default 6)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a two-layer model on the CPU")
    parser.add_argument("--out", type=Path, help="write the numbers here as JSON")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args(given)
    if args.tiny:
        args.device, args.prompts_per_step, args.rollouts, args.max_new_tokens, args.steps = "cpu", 3, 4, 6, 2
        args.tokens_per_forward = 128
    elif args.policy is None:
        parser.error("--policy is needed: a model folder with its tokenizer, for example runs/star/base/student")
    if unknown := set(args.modes.split(",")) - set(MODES):
        parser.error(f"unknown mode {min(unknown)}; choose among {', '.join(MODES)}")
    return args


# -------------------------------------------------------------------------------------------------- in each process


def policy_of(args: argparse.Namespace, scratch: Path) -> Path:
    """The policy's folder; a tiny one is written."""
    if not args.tiny:
        return args.policy
    sys.path.insert(0, str(TESTS))
    from tiny_models import write_tiny_llama

    from star_edge.calls.template import HERMES

    return write_tiny_llama(scratch / "policy", HERMES)


def examples_of(args: argparse.Namespace, folder: Path) -> list[Any]:
    """Rows with a target, in random order; or requests of random words, as long as the listed prompts."""
    from star_edge.contracts import Example
    from star_edge.evaluate.suites import open_suite
    from star_edge.models.load import load_tokenizer

    wanted = args.prompts_per_step * (args.steps + 1) * (1 + args.max_resamples)
    if args.rows:
        found = [example for path in args.rows for example in open_suite(str(path)).examples]
        random.Random(0).shuffle(found)
        return found[:wanted]
    # Words behind a space, as byte-level vocabularies spell it: each is one token.
    spaced = (word[1:] for word in load_tokenizer(folder).get_vocab() if word[0] == "Ġ")
    vocabulary = sorted(word for word in spaced if word.isascii() and word.isalpha())
    listed = [(20 + n, []) for n in range(12)] if args.tiny else json.loads(args.lengths.read_text())
    draw = random.Random(0)
    return [
        Example(
            str(number),
            "random words",
            (
                {"role": "user", "content": " ".join(draw.choices(vocabulary, k=length))},
                {"role": "assistant", "content": "no"},
            ),
            (),
        )
        for number, (length, _) in enumerate(itertools.islice(itertools.cycle(listed), min(wanted, 4096)))
    ]


def random_reward(prompts: Sequence[str], completions: Sequence[str], **_: Any) -> list[float]:
    """A number in [0, 1) that looks random and depends on prompt, completion and place alone."""
    rows = zip(prompts, completions, strict=True)
    return [zlib.crc32(f"{place} {prompt} {text}".encode()) / 2**32 for place, (prompt, text) in enumerate(rows)]


def child(args: argparse.Namespace) -> dict[str, Any]:
    """One mode in this process."""
    import sim_rl_meter

    from star_edge.contracts import Checkpoint, SimRlConfig, TuningConfig
    from star_edge.rl import trainer

    with tempfile.TemporaryDirectory() as scratch:
        folder = policy_of(args, Path(scratch))
        config = SimRlConfig(
            steps=args.steps + 1,
            prompts_per_step=args.prompts_per_step,
            rollouts=args.rollouts,
            max_new_tokens=args.max_new_tokens,
            reward=args.reward,
            beta=args.beta,
            max_resamples=args.max_resamples,
            tokens_per_forward=args.tokens_per_forward,
            use_vllm=args.child == "vllm",
            vllm_memory_share=args.vllm_memory_share,
            save_every=args.steps + 1,
        )
        meter = sim_rl_meter.StepMeter(args.device, seconds=args.seconds)
        trainer.SimRlTrainer = meter.watching(trainer.SimRlTrainer)
        if not args.rows:
            trainer.trl_reward = lambda kind: random_reward
        began = time.perf_counter()
        trainer.run_sim_rl(
            config,
            TuningConfig(method=args.tuning),
            Checkpoint(folder, "base"),
            examples_of(args, folder),
            Path(scratch) / "out",
            stage="speed",
            device=args.device,
            seed=0,
        )
    start_up = meter.began - began
    return {
        "mode": args.child,
        "start_up_s": start_up,
        **meter.numbers(),
        "peak_memory_gib": peak_memory_gib(args.device),
    }


# ------------------------------------------------------------------------------------------------------- all modes


def lines(results: Sequence[dict[str, Any]]) -> list[str]:
    """One line a mode, whether the limit holds, and how much faster vLLM draws."""
    shown, rates = [], {}
    for r in results:
        if "error" in r:
            shown.append(f"{r['mode']}: {r['error']}")
            continue
        shares = ", ".join(f"{name} {share:.0%}" for name, share in r["shares"].items())
        seconds = r["mean_seconds"]
        verdict = "no step" if seconds is None else f"at most {LIMIT_S:.0f}: {'yes' if seconds <= LIMIT_S else 'NO'}"
        shown.append(
            f"{r['mode']}: {seconds or 0:.1f} s a step ({verdict}; {len(r['seconds_a_step'])} steps), "
            f"{r['sampled_a_step']:.0f} sampled, {r['trained_a_step']:.0f} trained, "
            f"{r['completions_per_s']:.1f} completions/s, peak {r['peak_memory_gib']:.1f} GiB; {shares}"
        )
        rates[r["mode"]] = r["completions_per_s"]
    if {"vllm", "here"} <= rates.keys() and rates["here"]:
        shown.append(f"vllm to here: {rates['vllm'] / rates['here']:.1f} times the completions/s")
    return shown


def main(given: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if given is None else given)
    args = arguments(given)
    if args.child:
        args.out.write_text(json.dumps(child(args)))
        return 0
    results = in_own_processes(__file__, args.modes.split(","), given, args.minutes)
    command = f"python benchmarks/sim_rl_speed.py {' '.join(given)}".rstrip()
    report = {"command": command, **environment(), "definitions": DEFINITIONS, "modes": results}
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"command: {command}")
    print(", ".join(f"{name} {value}" for name, value in environment().items()))
    print(f"{args.prompts_per_step} prompts of {args.rollouts} completions a step; one step of warm-up\n")
    print("\n".join(lines(results)))
    return 1 if any("error" in result for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
