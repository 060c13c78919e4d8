"""Which rows a teacher and a student learn from by Sim-RL (torch-free)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from star_edge.contracts import AdaptConfig, Example, StudentRlConfig
from star_edge.data.quota import kind_of
from star_edge.errors import TrainingError


def warmup_rows(config: AdaptConfig, examples: Sequence[Example]) -> list[Example]:
    """The rows that the teacher's warm-up takes: none where there is no warm-up."""
    return [] if config.warmup is None else list(examples[: config.warmup_rows])


def teacher_rows(config: AdaptConfig, examples: Sequence[Example]) -> list[Example]:
    """The rows that the recipe's `sources`, `kinds` and `skip_warmup` leave the teacher, in their order.

    Raises: TrainingError: a source that no row has, or too few rows for a step are left.
    """
    learnt = {example.id for example in warmup_rows(config, examples)} if config.skip_warmup else ()
    return _chosen(config, examples, learnt, section="adapt", skip="skip_warmup")


def student_rows(config: StudentRlConfig, examples: Sequence[Example], *, distilled: Collection[str]) -> list[Example]:
    """The rows that the recipe's `sources`, `kinds` and `skip_distilled` leave the student, in their order.

    Args:
        distilled: ids of the rows whose prompts or answers the teacher was given.
    Raises: TrainingError: as `teacher_rows`.
    """
    learnt = distilled if config.skip_distilled else ()
    return _chosen(config, examples, learnt, section="sim_rl", skip="skip_distilled")


def _chosen(
    config: AdaptConfig | StudentRlConfig,
    examples: Sequence[Example],
    learnt: Collection[str],
    *,
    section: str,
    skip: str,
) -> list[Example]:
    """The rows of the section's sources and kinds, without the ids in `learnt`; `skip` is the key that filled those."""
    known = {example.source for example in examples}
    if unknown := next((source for source in config.sources if source not in known), None):
        raise TrainingError(f"{section}.sources: no training row of {unknown!r}; there are {', '.join(sorted(known))}")
    found = [
        example
        for example in examples
        if example.id not in learnt
        and (not config.sources or example.source in config.sources)
        and (not config.kinds or kind_of(example) in config.kinds)
    ]
    step = config.sim_rl.prompts_per_step
    if len(found) < step:
        is_chosen = len(found) < len(examples)
        rows = f"{skip}, sources and kinds leave {len(found)} of {len(examples)} training rows"
        raise TrainingError(
            f"{section}: {rows if is_chosen else f'there are {len(found)} training rows'}, fewer than "
            f"prompts_per_step ({step}); {'ask for less in those, or ' if is_chosen else ''}lower it"
        )
    return found
