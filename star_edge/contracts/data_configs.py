"""What the data section of a recipe says; its docstrings become docs/recipe-keys.md too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One file of rows, or a synthetic request grammar: exactly one of `path` and `synth`.

    path: JSONL of rows, plain or `.gz`.
    synth: YAML of a request grammar, which brings its answers and a held-out side.
    limit: rows taken from the front; null takes all.
    cap: most rows taken, drawn by the seed; null takes all.
    weight: under `data.train` of a mix, share of its rows against the other sources; an average source is 1.0, and
        null stands for the source's rows over those of an average source.
    """

    path: str | None = None
    synth: str | None = None
    limit: int | None = None
    cap: int | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class MixConfig:
    """How training rows are chosen from the sources, and what is done to them.

    rows: size of the mix, of which the shares below are.
    irrelevance_share: requests that no offered tool can serve; null leaves the kind to the sources.
    near_miss_share: of the irrelevance rows, derived from requests of which only the needed tool is taken away; of the
        refused prompts, those whose new tool is confusable.
    heldout_near_misses: held-out rows that are derived in the same way from held-out calls, beside the sources' own.
    ask_share: rows whose answer asks for a required value that is missing; null as above.
    parallel_share: rows whose answer has two calls or more; null as above.
    tool_pool: file of tools, one a line of JSONL, for distractors, related and unrelated tools.
    distractor_share: rows that get tools from the pool, up to `max_tools` in all.
    max_tools: most tools of a row that gets some from the pool.
    mask_share: rows whose functions and parameters get random names.
    string_share: of the rows with numbers, truth values, lists or objects, those whose functions want them in strings.
    format_share: of the rows with dates, times, cities or percentages, those whose descriptions say how to write them.
    unlabelled_irrelevance_share: unlabelled prompts that get another tool in place of the only one that they offer, and
        a refusal as their label.
    unlabelled_distractor_share: unlabelled prompts that get tools from the pool, up to `max_tools` in all.
    """

    rows: int
    irrelevance_share: float | None = None
    near_miss_share: float = 0.0
    heldout_near_misses: int = 0
    ask_share: float | None = None
    parallel_share: float | None = None
    tool_pool: str | None = None
    distractor_share: float = 0.0
    max_tools: int = 8
    mask_share: float = 0.0
    string_share: float = 0.0
    format_share: float = 0.0
    unlabelled_irrelevance_share: float = 0.0
    unlabelled_distractor_share: float = 0.0


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Which rows there are and which of them are trained on.

    folder: where the paths of this section begin, before the recipe's own folder is tried.
    train: sources of training rows; at least one.
    heldout: sources of held-out rows; without any the training rows are split by called tool.
    mix: how training rows are chosen; null takes every usable row as it is.
    unlabelled: prompts without an answer, which only the teacher's cache uses.
    overlap_with: suites ("bfcl"), files of rows, or "heldout" for the held-out side; rows that share a request with one
        of them are left out.
    drop_unsaid: leave out training rows whose calls give an optional parameter a value that nobody said.
    heldout_tool_share: share of the called tools that the split holds out.
    max_prompt_tokens: longest prompt; longer rows are counted and left out.
    max_completion_tokens: longest answer; longer rows are counted and left out.
    max_bad_share: largest share of rows that cannot be read; more of them stop the run.
    """

    folder: str | None = None
    train: tuple[SourceConfig, ...] = ()
    heldout: tuple[SourceConfig, ...] = ()
    mix: MixConfig | None = None
    unlabelled: tuple[SourceConfig, ...] = ()
    overlap_with: tuple[str, ...] = ()
    drop_unsaid: bool = False
    heldout_tool_share: float = 0.1
    max_prompt_tokens: int = 1024
    max_completion_tokens: int = 256
    max_bad_share: float = 0.02
