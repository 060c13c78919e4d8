"""What a mix does to prompts without an answer: some lose the tool that they are for, some get further ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

from star_edge.contracts import Example, MixConfig
from star_edge.data.distractors import with_distractors
from star_edge.data.draws import draws
from star_edge.data.irrelevance import confusable, is_for_its_tool, unrelated
from star_edge.data.lengths import Lengths, Ruler
from star_edge.data.tool_pool import ToolPool


def refused(example: Example, config: MixConfig, tools: ToolPool, *, seed: int) -> Example | None:
    """The prompt with another tool in place of the only one that it offers, and a refusal as its label; None for one
    that is not drawn, or for which the pool has no such tool.

    One tool for one: were there more, their number would tell that none of them serves. `config.near_miss_share` of the
    drawn prompts get a tool that is confusable with theirs, the others an unrelated one; where the pool has none of a
    sort, one of the other.
    """
    if not is_for_its_tool(example):
        return None
    rng = draws(seed, "refused prompt", example.id)
    if rng.random() >= config.unlabelled_irrelevance_share:
        return None
    ways: list[Callable[..., Example | None]] = [confusable, partial(unrelated, max_tools=1)]
    if rng.random() >= config.near_miss_share:
        ways.reverse()
    made = (way(example, tools, seed=seed) for way in ways)
    return next((row for row in made if row is not None), None)


def crowded(example: Example, before: Example, config: MixConfig, tools: ToolPool, *, seed: int) -> Example | None:
    """The prompt with further tools beside its own; None for one that is not drawn, or that has no room.

    Half of the tools are like its own, as those of one service are: the teacher's choice is the label, whatever it is.
    Not where a refusal is: there none may do what the tools of `before`, the prompt as it came, did.
    """
    made = with_distractors(
        example,
        tools,
        share=config.unlabelled_distractor_share,
        max_tools=config.max_tools,
        seed=seed,
        alike=not example.has_answer,
        unlike=before.tools,
    )
    return None if made is example else made


def reworked(
    prompts: Sequence[Example], config: MixConfig, tools: ToolPool, ruler: Ruler, *, seed: int
) -> Iterator[tuple[Example, Lengths | None]]:
    """Each prompt as the shares want it, or as much of that as fits, with its lengths; None for one that stays."""
    versions = [_versions(example, config, tools, seed=seed) for example in prompts]
    lengths = iter(ruler.prompts([row for rows in versions for row in rows]))
    for example, rows in zip(prompts, versions, strict=True):
        measured = list(zip(rows, islice(lengths, len(rows)), strict=True))
        fitting = ((row, length) for row, length in measured if isinstance(length, tuple))
        yield next(fitting, (example, None))


def _versions(example: Example, config: MixConfig, tools: ToolPool, *, seed: int) -> list[Example]:
    """What may become of a prompt, the longest first."""
    taken = refused(example, config, tools, seed=seed)
    more = crowded(taken or example, example, config, tools, seed=seed)
    return [version for version in (more, taken) if version is not None]
