"""Values of a recipe that have the right type and still cannot work, refused before a stage trips over them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from star_edge.contracts import AdaptConfig, DataConfig, EvaluateConfig, Recipe, SimRlConfig
from star_edge.errors import RecipeError

# Fields are named once, wherever in the recipe they stand, or behind a section of their own limit; a field that is null
# is not checked.
ABOVE_ZERO = (
    "keep_layers", "limit", "max_prompt_tokens", "max_completion_tokens",  # models and rows
    "rows", "cap", "weight", "max_tools", "every_steps", "every_rl_steps",
    "rank", "alpha", "last_layers", "lr", "rows_per_step", "rows_per_forward", "tokens_per_forward", "epochs",
    "max_steps", "passes", "minutes", "save_every",
    "prompts_per_step", "rollouts", "temperature", "max_new_tokens", "warmup_rows", "prompts", "top_k",
    "rows_per_shard", "chunk", "parity_cases", "cases", "threads",
)  # fmt: skip
NOT_NEGATIVE = (
    "seed", "weight_decay", "steps", "beta", "max_resamples", "tail_weight", "tail_top_m", "min_entropy",
    "max_reward_drop", "labels", "heldout_near_misses",
)  # fmt: skip
SHARES = ("heldout_tool_share", "max_bad_share", "warmup_share", "vllm_memory_share", "max_malformed", "max_drop")
REWARDS = ("group_reward_min", "group_reward_max", "least_reward")
MIX_SHARES = (
    "irrelevance_share", "near_miss_share", "ask_share", "parallel_share", "distractor_share", "mask_share",
    "string_share", "format_share", "unlabelled_irrelevance_share", "unlabelled_distractor_share",
)  # fmt: skip
LIMITS: Mapping[str, tuple[Callable[[float], bool], str]] = MappingProxyType(
    {
        **dict.fromkeys(ABOVE_ZERO, (lambda value: value > 0, "above 0")),
        **dict.fromkeys(NOT_NEGATIVE, (lambda value: value >= 0, "0 or above")),
        **dict.fromkeys(REWARDS, (lambda value: -1 <= value <= 1, "between -1 and 1")),
        **dict.fromkeys(SHARES, (lambda value: 0 <= value <= 1, "between 0 and 1")),
        **dict.fromkeys(MIX_SHARES, (lambda value: 0 <= value <= 1, "between 0 and 1")),
        # Completions are compared within their group; also where no step is taken, so that the key has one limit.
        "sim_rl.rollouts": (lambda value: value >= 2, "at least 2"),
    }
)
LARGEST_SEED = 2**32 - 1000
"""numpy takes 32 bits, and stages add small numbers of their own."""


def check_values(recipe: Recipe, label: str) -> None:
    """Refuse what cannot work.

    Args:
        label: names the recipe in the message.
    Raises: RecipeError: one line with the dotted key.
    """
    for key, value in numbers(recipe):
        if problem := _problem(key, value):
            raise RecipeError(f"recipe {label}: {key} is {value}; it must be {problem}")
    for name, config in {"adapt.sim_rl": recipe.adapt.sim_rl, "sim_rl.sim_rl": recipe.sim_rl.sim_rl}.items():
        if problem := _sim_rl_problem(config):
            raise RecipeError(f"recipe {label}: {name}.{problem}")
    if problem := _adapt_problem(recipe.adapt):
        raise RecipeError(f"recipe {label}: {problem}")
    if recipe.student.chat_template == "student":
        raise RecipeError(f"recipe {label}: student.chat_template is student; that is for the teacher, choose another")
    if recipe.watch is not None and recipe.watch.every_steps is None and recipe.watch.every_rl_steps is None:
        raise RecipeError(
            f"recipe {label}: watch.every_steps and watch.every_rl_steps are null, so that nothing is watched; "
            "set one of them, or watch to null"
        )
    if recipe.cache.labels and recipe.cache.prompts is None:
        raise RecipeError(
            f"recipe {label}: cache.labels is {recipe.cache.labels}, but cache.prompts is null and asks for every row; "
            "set cache.prompts"
        )
    if not recipe.data.train:
        raise RecipeError(f"recipe {label}: data.train is empty; name at least one `path:` or `synth:`")
    if problem := _data_problem(recipe.data):
        raise RecipeError(f"recipe {label}: {problem}")
    if recipe.evaluate is not None and (problem := _evaluate_problem(recipe.evaluate)):
        raise RecipeError(f"recipe {label}: {problem}")
    if not re.fullmatch(r"[\w.-]+", recipe.name) or not recipe.name.strip("."):  # "..": the run would be runs/..
        raise RecipeError(
            f"recipe {label}: name {recipe.name!r} becomes a folder; use letters, digits, '.', '_' and '-', and not "
            "dots alone"
        )


def numbers(part: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """(dotted key, value) of every number in a recipe; list items are keyed by their place, as in `--set`."""
    if dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            yield from numbers(getattr(part, field.name), f"{key}.{field.name}".lstrip("."))
    elif isinstance(part, tuple):
        for place, item in enumerate(part):
            yield from numbers(item, f"{key}.{place}")
    elif isinstance(part, (int, float)) and not isinstance(part, bool):
        yield key, part


def limit_of(key: str) -> tuple[Callable[[float], bool], str] | None:
    """The limit of a dotted key: what holds for it, and in words. One for its section goes before one for its name."""
    section, _, field = key.rpartition(".")
    return LIMITS.get(f"{section.rpartition('.')[2]}.{field}") or LIMITS.get(field)


def _sim_rl_problem(config: SimRlConfig) -> str | None:
    """What a Sim-RL section asks for and cannot have, from its key on, or None."""
    low, high = config.group_limits()
    if config.steps > 0 and low >= high:
        return f"group_reward_min is {low} and group_reward_max {high}; no group lies between, so lower the first"
    if config.vllm_server is not None and not re.fullmatch(r"[\w.-]+:\d+", config.vllm_server):
        return f"vllm_server is {config.vllm_server!r}; write host:port, such as 10.0.0.2:8000"
    return None


def _adapt_problem(config: AdaptConfig) -> str | None:
    """What the adapt section asks for and cannot have, or None."""
    takes_all = config.warmup is not None and config.warmup_rows is None
    if config.sim_rl.steps > 0 and config.skip_warmup and takes_all:
        return (
            "adapt.skip_warmup is true, but adapt.warmup_rows is null and the warm-up takes every row; "
            "set adapt.warmup_rows"
        )
    return None


def _data_problem(data: DataConfig) -> str | None:
    """What the data section asks for and cannot have, or None."""
    for source in (*data.train, *data.heldout, *data.unlabelled):
        if (source.path is None) == (source.synth is None):
            return "a data source needs exactly one of `path:` and `synth:`"
    if any(source.synth for source in data.unlabelled):
        return "data.unlabelled takes `path:` alone; a request grammar brings its answers"
    weighted = (*data.heldout, *data.unlabelled, *(() if data.mix else data.train))
    if any(source.weight is not None for source in weighted):
        return "a `weight` counts under data.train beside data.mix; elsewhere use `cap`"
    if (mix := data.mix) is None:
        return None
    if (total := sum(filter(None, (mix.irrelevance_share, mix.ask_share, mix.parallel_share)))) > 1:
        return f"data.mix: irrelevance_share, ask_share and parallel_share are {total:g} together, more than all rows"
    if mix.near_miss_share and mix.irrelevance_share is None and not mix.unlabelled_irrelevance_share:
        return (
            "data.mix.near_miss_share is a share of the irrelevance rows and prompts; set irrelevance_share or "
            "unlabelled_irrelevance_share too"
        )
    for key in ("distractor_share", "unlabelled_irrelevance_share", "unlabelled_distractor_share"):
        if getattr(mix, key) and mix.tool_pool is None:
            return f"data.mix.{key} needs data.mix.tool_pool, the file the tools come from"
        if key.startswith("unlabelled") and getattr(mix, key) and not data.unlabelled:
            return f"data.mix.{key} is a share of the prompts of data.unlabelled; name some there"
    return None


def _evaluate_problem(config: EvaluateConfig) -> str | None:
    """What the evaluate section asks for and cannot have, or None."""
    for name, values in (("suites", config.labels), ("checkpoints", config.checkpoints)):
        if not values:
            return f"evaluate.{name} is empty; name at least one, or leave the section out"
        if len(set(values)) < len(values):
            return f"evaluate.{name}: one stands twice ({', '.join(values)}); each gets a folder of that name"
    return None


def _problem(key: str, value: float) -> str | None:
    """What the value must be, or None when it is."""
    if not math.isfinite(value):
        return "a finite number"
    if key.rpartition(".")[2] == "seed" and value > LARGEST_SEED:
        return f"at most {LARGEST_SEED}"
    holds, wanted = limit_of(key) or (None, "")
    return wanted if holds is not None and not holds(value) else None
