"""What the process of a GPU stage imports while the stage before it runs, so that the GPU need not wait for it."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence

from star_edge.contracts import Recipe

Prepare = Callable[[Recipe], Callable[[], object] | None]


def imports(
    *modules: str,
    needed: Callable[[Recipe], bool] = lambda _: True,
    vllm: Callable[[Recipe], bool] = lambda _: False,
) -> Prepare:
    """For a recipe the call that imports what its stage needs, or None.

    Args:
        modules: of ours; they bring torch and the rest along.
        needed: whether the stage does anything at all under a recipe.
        vllm: whether it starts vLLM.
    """
    return lambda recipe: functools.partial(_import, modules, vllm(recipe)) if needed(recipe) else None


def _import(modules: Sequence[str], vllm: bool) -> None:
    for module in modules:
        importlib.import_module(module)
    if vllm:
        from star_edge.models.vllm_engine import import_vllm

        import_vllm()
