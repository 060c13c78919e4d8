"""What stages would refuse when their turn comes, hours later perhaps: asked before the first one runs, without torch.

The stages keep their own checks, for those who call them without a run.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec

from star_edge.contracts import Recipe, SimRlConfig
from star_edge.errors import RuntimeMissing, TrainingError
from star_edge.keys import supervised_watch
from star_edge.launch import check_share, is_sharded


def check_stages(recipe: Recipe, stages: Collection[str]) -> None:
    """Refuse what this launch cannot do of a recipe.

    Args:
        stages: names of those that will be run.
    Raises: TrainingError: processes that cannot share a step evenly, or weights sharded in Sim-RL or under a watch.
        RuntimeMissing: vLLM is asked for and not installed.
    """
    if "warmup" in stages and recipe.adapt.warmup is not None:
        _check_supervised(recipe, "adapt.warmup", recipe.adapt.warmup.rows_per_step)
    if "adapt" in stages:
        _check_sim_rl("adapt.sim_rl", recipe.adapt.sim_rl)
    if "cache" in stages and recipe.cache.use_vllm:
        _check_vllm("cache.use_vllm")
    if "ckd" in stages:
        _check_supervised(recipe, "distill.optimizer", recipe.distill.optimizer.rows_per_step)
    if "sim-rl" in stages:
        _check_sim_rl("sim_rl.sim_rl", recipe.sim_rl.sim_rl)


def _check_supervised(recipe: Recipe, section: str, rows_per_step: int) -> None:
    check_share(f"{section}.rows_per_step", rows_per_step)
    if supervised_watch(recipe) is not None and is_sharded():
        raise TrainingError(
            f"{section}: a watch scores in the first process alone, which under FSDP holds a part of each weight; "
            "leave watch out (--set watch=null), launch with torchrun, or stop before it with --until"
        )


def _check_sim_rl(section: str, config: SimRlConfig) -> None:
    if config.steps == 0:
        return
    check_share(f"{section}.prompts_per_step", config.prompts_per_step)
    if is_sharded():
        raise TrainingError(
            f"{section}: Sim-RL does not train sharded weights (its reference would be lost); stop before it with "
            "--until and go on with torchrun, or set steps: 0"
        )
    if config.vllm_server is not None:
        _check_vllm(f"{section}.vllm_server")
    elif config.use_vllm:
        _check_vllm(f"{section}.use_vllm")


def _check_vllm(key: str) -> None:
    if find_spec("vllm") is None:
        raise RuntimeMissing(f"{key}: {RuntimeMissing.for_extra('vllm', 'vllm')}")
