"""The data stage: sources of a recipe in, `train.jsonl`, `heldout.jsonl`, `rejected.jsonl` and `summary.json` out."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from star_edge.contracts import DataConfig, Dataset, Example, SourceConfig
from star_edge.data.chat import ChatCodec
from star_edge.data.grammar import Side
from star_edge.data.grammar_file import read_grammar
from star_edge.data.normalise import read_normalised, with_new_id
from star_edge.data.overlap import overlap
from star_edge.data.rows import json_lines, write_examples
from star_edge.data.sources import BadRow, count_lines
from star_edge.data.split import called_tools, split_by_tool
from star_edge.data.synth import generate
from star_edge.errors import DataError
from star_edge.manifest import write_atomic
from star_edge.progress import Progress, or_quiet

__all__ = ["build", "mixed", "source_file"]


@dataclass(slots=True)
class _Tally:
    """What became of the rows of one source."""

    source: str
    side: Side
    read: int = 0
    kept: int = 0
    bad: int = 0
    refused: int = 0
    too_long: int = 0


@dataclass(slots=True)
class _Collected:
    """All that reading leaves behind, kept rows excepted."""

    tallies: list[_Tally] = field(default_factory=list)
    rejected: list[BadRow] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    tokens: dict[str, tuple[int, int]] = field(default_factory=dict)


def build(
    config: DataConfig,
    codec: ChatCodec,
    out: Path,
    *,
    seed: int,
    recipe_folder: Path,
    progress: Progress | None = None,
) -> Dataset:
    """Read, check, normalise and split the rows of a recipe.

    A row that cannot be read, or that the chat template cannot carry, is bad: it goes to `rejected.jsonl` with file,
    line and reason. Rows beyond the token limits are dropped and counted apart. A source's `limit` counts kept rows,
    taken from the front. Without a held-out source, request grammars give their own held-out side and the rows of
    files are split by called tool. Rows of several sources are mixed evenly, each source in its own order, so that a
    later stage may take the first N.

    Args:
        codec: of the student; decides prompt and completion lengths.
        out: an existing or new folder; files appear whole, through a temporary name.
        seed: of the synthetic rows and of the split.
        recipe_folder: where relative paths of the recipe begin; `source_file` says what comes next.
    Raises:
        DataError: a file is missing or damaged, more rows are bad than `max_bad_share` (`rejected.jsonl` is there
            then), or a side is left without rows.
        ArtifactError: the files cannot be written.
    """
    progress = or_quiet(progress)
    reader = _Reader(config, codec, seed, recipe_folder, progress)
    grammars = [source for source in config.train if source.synth]
    written = reader.lists(grammars, "train")
    read = reader.lists([source for source in config.train if not source.synth], "train")
    own = [dataclasses.replace(source, limit=None) for source in grammars]
    held = reader.lists(config.heldout or own, "heldout")
    write_atomic(out / "rejected.jsonl", json_lines(dataclasses.asdict(row) for row in reader.collected.rejected))
    _check_bad_share(reader.collected, config.max_bad_share, out)
    split: dict[str, Any] = {"by": "source"}
    if read and not config.heldout:
        keep = frozenset(name for rows in written for example in rows for name in called_tools(example))
        parts = split_by_tool(mixed(read), share=config.heldout_tool_share, seed=seed, keep=keep)
        read, held = [parts.train], [*held, parts.heldout]
        split = {"by": "called tool", "heldout_tools": parts.heldout_tools, "mixed_rows_dropped": parts.mixed_rows}
    train, heldout = mixed([*written, *read]), mixed(held)
    _write(out, train, heldout, split, reader.collected)
    progress.line(f"data: {len(train)} training and {len(heldout)} held-out rows ({_losses(reader.collected)})")
    return Dataset(out, len(train), len(heldout))


def source_file(source: SourceConfig, recipe_folder: Path) -> Path:
    """The file a source names: relative to the recipe's folder, the working directory, or the packaged recipes.

    Raises: DataError: it names none or two, or there is no such file.
    """
    if (source.path is None) == (source.synth is None):
        raise DataError("data source: give either `path:` (rows) or `synth:` (a request grammar)")
    named = Path(str(source.path or source.synth)).expanduser()
    packaged = Path(str(resources.files("star_edge.recipes")))
    for candidate in (recipe_folder / named, named, packaged / named):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"{named}: no such file in {recipe_folder}, the working directory or the recipes of star-edge; "
        "paths in a recipe are relative to its own folder"
    )


def mixed(lists: Sequence[Sequence[Example]]) -> list[Example]:
    """One list in which every prefix holds its share of each list, each in its own order."""
    places = ((index + 0.5) / len(rows) for rows in lists for index in range(len(rows)))
    examples = (example for rows in lists for example in rows)
    return [example for _, example in sorted(zip(places, examples, strict=True), key=lambda pair: pair[0])]


class _Reader:
    """Reads sources one after the other and keeps what fits."""

    def __init__(
        self, config: DataConfig, codec: ChatCodec, seed: int, recipe_folder: Path, progress: Progress
    ) -> None:
        self.config = config
        self.codec = codec
        self.seed = seed
        self.recipe_folder = recipe_folder
        self.progress = progress
        self.collected = _Collected()

    def lists(self, sources: Sequence[SourceConfig], side: Side) -> list[Sequence[Example]]:
        return [self.source(source, side) for source in sources]

    def source(self, source: SourceConfig, side: Side) -> list[Example]:
        path = source_file(source, self.recipe_folder)
        tally = _Tally(path.name, side)
        self.collected.tallies.append(tally)
        rows, total = self.synthetic(path, side) if source.synth else (read_normalised(path), count_lines(path))
        kept: list[Example] = []
        for line, row in self.progress.track(rows, total, f"read {path.name} ({side})"):
            tally.read += 1
            example = self.usable(row, str(path), line, tally)
            if example is not None:
                kept.append(example)
            if source.limit is not None and len(kept) >= source.limit:
                break
        tally.kept = len(kept)
        return kept

    def synthetic(self, path: Path, side: Side) -> tuple[Iterator[tuple[int, Example | BadRow]], int]:
        train, heldout = generate(read_grammar(path), seed=self.seed, where=str(path))
        rows = train if side == "train" else heldout
        return iter(enumerate(rows, start=1)), len(rows)

    def usable(self, row: Example | BadRow, file: str, line: int, tally: _Tally) -> Example | None:
        """The row under an id of its own, or None when it is bad, refused by the template, or too long."""
        if isinstance(row, BadRow):
            tally.bad += 1
            self.collected.rejected.append(row)
            return None
        try:
            encoded = self.codec.encode(row)
        except DataError as error:
            tally.refused += 1
            self.collected.rejected.append(BadRow(file, line, str(error)))
            return None
        lengths = len(encoded.prompt_ids), len(encoded.completion_ids)
        if lengths[0] > self.config.max_prompt_tokens or lengths[1] > self.config.max_completion_tokens:
            tally.too_long += 1
            return None
        example = with_new_id(row, self.collected.ids)
        self.collected.tokens[example.id] = lengths
        return example


def _check_bad_share(collected: _Collected, limit: float, out: Path) -> None:
    read = sum(tally.read for tally in collected.tallies)
    bad = len(collected.rejected)
    if bad and bad / read > limit:
        raise DataError(
            f"{collected.rejected[0]}; {bad} of {read} rows are bad, more than max_bad_share {limit:g} allows; "
            f"all are listed in {out / 'rejected.jsonl'}"
        )


def _write(
    out: Path, train: Sequence[Example], heldout: Sequence[Example], split: dict[str, Any], collected: _Collected
) -> None:
    for name, rows in (("training", train), ("held-out", heldout)):
        if not rows:
            raise DataError(_nothing_left(name, collected))
    write_examples(out / "train.jsonl", train)
    write_examples(out / "heldout.jsonl", heldout)
    summary = _summary(train, heldout, split, collected)
    write_atomic(out / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")


def _nothing_left(name: str, collected: _Collected) -> str:
    first = f"; the first bad one: {collected.rejected[0]}" if collected.rejected else ""
    return f"no {name} rows are left ({_losses(collected)}){first}; check `data:` in the recipe"


def _losses(collected: _Collected) -> str:
    too_long = sum(tally.too_long for tally in collected.tallies)
    return f"{len(collected.rejected)} bad, {too_long} too long"


def _summary(
    train: Sequence[Example], heldout: Sequence[Example], split: dict[str, Any], collected: _Collected
) -> dict[str, Any]:
    return {
        "train": _describe(train, collected),
        "heldout": _describe(heldout, collected),
        "split": split,
        "sources": [dataclasses.asdict(tally) for tally in collected.tallies],
        "overlap": overlap(train, heldout).summary(),
    }


def _describe(examples: Sequence[Example], collected: _Collected) -> dict[str, Any]:
    prompts, completions = zip(*(collected.tokens[example.id] for example in examples), strict=True)
    return {
        "rows": len(examples),
        "kinds": dict(Counter(example.kind or "unknown" for example in examples).most_common()),
        "tools_offered": len({tool["name"] for example in examples for tool in example.tools}),
        "tools_called": len({call.name for example in examples for call in example.target_calls}),
        "prompt_tokens": {"mean": round(sum(prompts) / len(prompts), 1), "max": max(prompts)},
        "completion_tokens": {"mean": round(sum(completions) / len(completions), 1), "max": max(completions)},
    }
