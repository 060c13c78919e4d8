"""Which rows a student learns from by Sim-RL (torch-free)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from star_edge.contracts import Example, StudentRlConfig
from star_edge.data.quota import kind_of
from star_edge.errors import TrainingError


def chosen(config: StudentRlConfig, examples: Sequence[Example], *, distilled: Collection[str]) -> list[Example]:
    """The rows that the recipe's `sources`, `kinds` and `skip_distilled` leave, in their order.

    Args:
        distilled: ids of the rows whose prompts or answers the teacher was given.
    Raises: TrainingError: a source that no row has, or nothing is left.
    """
    known = {example.source for example in examples}
    if unknown := next((source for source in config.sources if source not in known), None):
        raise TrainingError(f"sim_rl.sources: no training row of {unknown!r}; there are {', '.join(sorted(known))}")
    found = [
        example
        for example in examples
        if not (config.skip_distilled and example.id in distilled)
        and (not config.sources or example.source in config.sources)
        and (not config.kinds or kind_of(example) in config.kinds)
    ]
    if not found:
        raise TrainingError("sim_rl: skip_distilled, sources and kinds leave no row; ask for less in them")
    return found
