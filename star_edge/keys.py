"""What enters the keys of the stages: each one's part of a recipe, as far as it can change what the stage leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from star_edge.contracts import GateConfig, Recipe, SimRlConfig
from star_edge.recipe import LoadedRecipe


def data_config(loaded: LoadedRecipe) -> Any:
    """The data section with the content of every file it names, so that changed rows are new inputs."""
    from star_edge.data.build import fingerprints

    data = loaded.recipe.data
    files = fingerprints(data, loaded.folder)
    # Where the files lie changes nothing; what is in them does.
    return {"data": replace(data, folder=None), "seed": loaded.recipe.seed, "files": files}


def base_config(loaded: LoadedRecipe) -> Any:
    from star_edge.models.sources import resolve_source
    from star_edge.positions import check_positions

    check_positions(loaded)  # before gigabytes are fetched
    recipe = loaded.recipe
    return [recipe.teacher, recipe.student, *(resolve_source(m).fingerprint for m in (recipe.teacher, recipe.student))]


def seeded(pick: Callable[[Recipe], Any]) -> Callable[[LoadedRecipe], Any]:
    return lambda loaded: {"config": pick(loaded.recipe), "seed": loaded.recipe.seed}


def validate_config(recipe: Recipe) -> Any:
    """Gates are judged anew each time the report is written; changing one repeats no measurement."""
    return replace(recipe.validate, gates=GateConfig())


def evaluate_config(loaded: LoadedRecipe) -> Any:
    """What decides the answers: the suites' data wherever it lies, and no batch size."""
    config = loaded.recipe.evaluate
    if config is None:
        return None
    from star_edge.answering.stage import suite_versions

    return [
        replace(config, suites=(), rows_per_forward=1, vllm_memory_share=1.0),
        suite_versions(config, loaded.folder),
    ]


def warmup_config(recipe: Recipe) -> Any:
    return recipe.adapt.warmup, recipe.adapt.tuning, recipe.adapt.warmup_rows, supervised_watch(recipe)


def supervised_watch(recipe: Recipe) -> Any:
    """The watch without what Sim-RL alone heeds, so that changing it trains no teacher again."""
    if recipe.watch is None or recipe.watch.every_steps is None:
        return None
    return replace(recipe.watch, every_rl_steps=None, max_reward_drop=None, min_entropy=None)


def adapt_config(recipe: Recipe) -> Any:
    # What the warm-up takes is in its own key, on which this stage's depends.
    others = replace(recipe.adapt, warmup=None, warmup_rows=None, sim_rl=SimRlConfig())
    return rl_config(recipe.adapt.sim_rl, others, recipe)


def student_rl_config(recipe: Recipe) -> Any:
    return rl_config(recipe.sim_rl.sim_rl, replace(recipe.sim_rl, sim_rl=SimRlConfig()), recipe)


def rl_config(config: SimRlConfig, others: Any, recipe: Recipe) -> Any:
    """What decides Sim-RL's result: not how or where its engine runs, and nothing at all where it takes no step."""
    if config.steps == 0:
        return None
    server = None if config.vllm_server is None else "host:port"  # that one samples decides, its address does not
    return replace(config, vllm_memory_share=0.5, vllm_compile=True, vllm_server=server), others, recipe.watch
