"""The data stage: sources of a recipe in; `train.jsonl`, `heldout.jsonl`, `rejected.jsonl` and `summary.json` out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from star_edge.contracts import DataConfig, Dataset, Example, SourceConfig
from star_edge.data.chat import ChatCodec
from star_edge.data.draws import draws
from star_edge.data.formats import formatted
from star_edge.data.irrelevance import is_derivable, near_miss
from star_edge.data.known import HELDOUT, Texts, known_fingerprint, known_texts
from star_edge.data.mix import MixCounts, Mixer, Pool, mixed
from star_edge.data.overlap import SHORTEST_REQUEST, KnownRequests, texts_of
from star_edge.data.reading import Candidate, Collected, Reader, Side, find_file, source_name
from star_edge.data.rows import json_lines, write_examples, write_prompts
from star_edge.data.split import ToolSplit, called_tools, split_by_tool
from star_edge.data.summary import summarise
from star_edge.data.table import SIDES
from star_edge.data.tool_pool import ToolPool, read_tool_pool
from star_edge.data.unlabelled import reworked
from star_edge.errors import DataError
from star_edge.manifest import sha256_file, write_atomic
from star_edge.progress import Progress, or_quiet


@dataclass(slots=True)
class _Sides:
    """The rows that are written, and how they came apart."""

    train: list[Example]
    heldout: list[Example]
    split: dict[str, Any]
    mix: MixCounts | None = None
    unlabelled: list[Example] = field(default_factory=list)


def build(
    config: DataConfig,
    codec: ChatCodec,
    out: Path,
    *,
    seed: int,
    recipe_folder: Path,
    progress: Progress | None = None,
) -> Dataset:
    """Read, check, normalise, split and mix the rows of a recipe.

    A row that cannot be read, or that the chat template cannot carry, is bad: it goes to `rejected.jsonl` with file,
    line and reason. Rows beyond the token limits, and rows that overlap with something in `overlap_with`, are dropped
    and counted apart; held-out rows are compared with suites alone, so that a held-out file may be named there. The
    word `heldout` there stands for all held-out rows of this build.
    Without a held-out source, request grammars give their own held-out side and the rows of files are split by called
    tool. Rows of several sources are mixed evenly, so that a later stage may take the first N: each source in its own
    order, or in the order in which a mix draws them.

    Args:
        codec: of the student; decides prompt and completion lengths.
        out: an existing or new folder; files appear whole, through a temporary name.
        seed: of the synthetic rows, the split and every choice of a mix.
        recipe_folder: where relative paths of the recipe begin; `find_file` says what else is tried.
    Raises:
        DataError: a file is missing or damaged, more rows are bad than `max_bad_share` (`rejected.jsonl` is there
            then), or a side is left without rows.
        EvaluationError: a suite of `overlap_with` cannot be had.
        ArtifactError: the files cannot be written.
    """
    find = _finder(config, recipe_folder)
    for name in _files(config):
        find(name)  # before a suite is fetched over the network
    known = {name: known_texts(name, find) for name in config.overlap_with if name != HELDOUT}
    reader = Reader(config, codec, seed=seed, find=find, known=known, progress=or_quiet(progress))
    work = _Build(config, reader, out, seed, find)
    sides = work.whole() if config.mix is None else work.mix()
    _write(out, sides, reader.collected, known, fingerprints(config, recipe_folder))
    return Dataset(out, len(sides.train), len(sides.heldout), len(sides.unlabelled))


def fingerprints(config: DataConfig, recipe_folder: Path) -> dict[str, str]:
    """A hash of the content of everything the data section names, so that changed rows are new inputs.

    Raises: DataError: a file is missing.
    """
    find = _finder(config, recipe_folder)
    found = {name: sha256_file(find(name)) for name in _files(config)}
    return {**found, **{name: known_fingerprint(name, find) for name in config.overlap_with if name != HELDOUT}}


def _files(config: DataConfig) -> list[str]:
    names = [source_name(source) for source in (*config.train, *config.heldout, *config.unlabelled)]
    return names if config.mix is None or config.mix.tool_pool is None else [*names, config.mix.tool_pool]


def _finder(config: DataConfig, recipe_folder: Path) -> Callable[[str], Path]:
    return lambda name: find_file(name, recipe_folder, config.folder)


class _Build:
    """One run of the data stage."""

    def __init__(self, config: DataConfig, reader: Reader, out: Path, seed: int, find: Callable[[str], Path]) -> None:
        self.config = config
        self.reader = reader
        self.out = out
        self.seed = seed
        self.find = find

    def whole(self) -> _Sides:
        """Every row that fits."""
        grammars = [source for source in self.config.train if source.synth]
        written = [self.reader.rows(source, "train") for source in grammars]
        read = [self.reader.rows(source, "train") for source in self.config.train if not source.synth]
        held, unlabelled = self.heldout(), self.unlabelled()
        self.check_bad_share()
        split: dict[str, Any] = {"by": "source"}
        if read and not self.config.heldout:
            parts, split = self.split(mixed(read), written)
            for example in parts.mixed:
                self.reader.collected.tally_of[example.id].kept -= 1
            read, held = [list(parts.train)], [*held, list(parts.heldout)]
        train, kept = mixed([*written, *read]), mixed(held)
        return _Sides(self.apart(train, kept), kept, split, unlabelled=self.apart(unlabelled, kept))

    def mix(self) -> _Sides:
        """The rows that a mix draws."""
        config = self.config.mix
        assert config is not None
        tools = None if config.tool_pool is None else read_tool_pool(self.find(config.tool_pool))
        pools = [(source, self.reader.candidates(source)) for source in self.config.train]
        tallies = list(self.reader.collected.tallies)
        held, unlabelled = self.heldout(), self.unlabelled()
        self.check_bad_share()
        split: dict[str, Any] = {"by": "source"}
        if any(source.path for source in self.config.train) and not self.config.heldout:
            pools, late, split = self.split_pools(pools)
            held = [*held, late]
        if tools is not None:
            # What the held-out rows call shall stay unseen; as a distractor it would be shown.
            tools = tools.without(name for rows in held for example in rows for name in called_tools(example))
        near = self.near_misses(held, tools)
        plain = mixed([*held, near])
        kept = self.with_forms(plain, config.format_share)
        pools = self.pools_apart(pools, kept)
        mixer = Mixer(config, self.reader, tools=tools, seed=self.seed)
        train, counts = mixer.mix([Pool(rows, source.weight) for source, rows in pools])
        counts.heldout_near_misses = len(near)
        counts.formatted_heldout_rows = sum(row is not before for row, before in zip(kept, plain, strict=True))
        unlabelled = self.reworked_prompts(self.apart(unlabelled, kept), tools, counts)
        for tally in tallies:
            tally.settle()
        self.check_bad_share()
        return _Sides(train, kept, split, counts, unlabelled)

    def near_misses(self, heldout: Sequence[Sequence[Example]], tools: ToolPool | None) -> list[Example]:
        """As many near misses of held-out calls as the mix asks for, drawn from all sources alike.

        Refusals that a source brings may all be of one kind, and answered right long before others are.
        """
        config = self.config.mix
        assert config is not None
        calls = [row for rows in heldout for row in rows if is_derivable(row)]
        calls.sort(key=lambda row: draws(self.seed, "held-out near miss", row.id).random())
        found: list[Example] = []
        for row in calls:
            if len(found) == config.heldout_near_misses:
                break
            made = near_miss(row, tools, max_tools=config.max_tools, seed=self.seed)
            if made is None:
                continue
            (lengths,) = self.reader.ruler.rows([made])
            if isinstance(lengths, tuple):
                self.reader.collected.tokens[made.id] = lengths
                tally = self.reader.collected.tally_of[row.id]
                tally.derived += 1
                tally.twice += 1
                found.append(made)
        return found

    def with_forms(self, heldout: list[Example], share: float) -> list[Example]:
        """The held-out rows with as many forms as the mix, so that they tell whether forms are heeded.

        A row that would be too long with its form keeps its own.
        """
        changed = [formatted(row, share=share, seed=self.seed) for row in heldout]
        places = [place for place, row in enumerate(heldout) if changed[place] is not row]
        rows = list(heldout)
        for place, lengths in zip(places, self.reader.ruler.rows([changed[n] for n in places]), strict=True):
            if isinstance(lengths, tuple):
                rows[place] = changed[place]
                self.reader.collected.tokens[rows[place].id] = lengths
        return rows

    def heldout(self) -> list[list[Example]]:
        """The rows of the held-out sources, else the held-out sides of the request grammars."""
        own = [dataclasses.replace(source, limit=None, cap=None) for source in self.config.train if source.synth]
        return [self.reader.rows(source, "heldout") for source in self.config.heldout or own]

    def apart(self, rows: list[Example], heldout: Sequence[Example]) -> list[Example]:
        """The rows, without those that share a request with held-out ones where `overlap_with` says so."""
        if HELDOUT not in self.config.overlap_with:
            return rows
        left = self.reader.apart_from(_requests_of(heldout), rows)
        for name in {row.id for row in rows} - {row.id for row in left}:
            self.reader.collected.tally_of[name].kept -= 1
        return left

    def pools_apart(
        self, pools: list[tuple[SourceConfig, list[Candidate]]], heldout: Sequence[Example]
    ) -> list[tuple[SourceConfig, list[Candidate]]]:
        """As `apart`, of rows that are not taken yet."""
        if HELDOUT not in self.config.overlap_with:
            return pools
        known = _requests_of(heldout)
        stays = {row.id for _, rows in pools for row in self.reader.apart_from(known, [each.example for each in rows])}
        return [(source, [row for row in rows if row.example.id in stays]) for source, rows in pools]

    def unlabelled(self) -> list[Example]:
        return mixed([self.reader.prompts(source) for source in self.config.unlabelled])

    def reworked_prompts(self, prompts: list[Example], tools: ToolPool | None, counts: MixCounts) -> list[Example]:
        """The unlabelled prompts as the mix wants them."""
        config = self.config.mix
        assert config is not None
        if tools is None or not (config.unlabelled_irrelevance_share or config.unlabelled_distractor_share):
            return prompts
        rows = list(reworked(prompts, config, tools, self.reader.ruler, seed=self.seed))
        for before, (row, lengths) in zip(prompts, rows, strict=True):
            if lengths is not None:
                self.reader.collected.tokens[row.id] = lengths
            self.reader.collected.tally_of[before.id].derived += row.has_answer
            added = len(row.tools) - len(before.tools)
            if row.has_answer:
                counts.unlabelled_confusable += row.id.endswith("(confusable)")
                counts.unlabelled_unrelated += row.id.endswith("(unrelated)")
            counts.unlabelled_distractors += added
            counts.unlabelled_with_distractors += added > 0
        return [row for row, _ in rows]

    def split(
        self, examples: Sequence[Example], written: Sequence[Sequence[Example]]
    ) -> tuple[ToolSplit, dict[str, Any]]:
        keep = frozenset(name for rows in written for example in rows for name in called_tools(example))
        parts = split_by_tool(examples, share=self.config.heldout_tool_share, seed=self.seed, keep=keep)
        for example in parts.mixed:
            self.reader.collected.tally_of[example.id].both_sides += 1
        told = {"by": "called tool", "heldout_tools": parts.heldout_tools, "mixed_rows_dropped": len(parts.mixed)}
        return parts, told

    def split_pools(
        self, pools: Sequence[tuple[SourceConfig, list[Candidate]]]
    ) -> tuple[list[tuple[SourceConfig, list[Candidate]]], list[Example], dict[str, Any]]:
        """The pools without held-out rows, the held-out rows that fit, and what the summary says of it."""
        written = [[row.example for row in rows] for source, rows in pools if source.synth]
        files = [row for source, rows in pools if source.path for row in rows]
        parts, told = self.split([row.example for row in files], written)
        late = []
        heldout = {example.id for example in parts.heldout}
        for row, lengths in self.reader.fitting([row for row in files if row.example.id in heldout]):
            row.tally.kept += 1
            self.reader.collected.tokens[row.example.id] = lengths
            late.append(row.example)
        stays = {example.id for example in parts.train}
        left = [(source, [row for row in rows if source.synth or row.example.id in stays]) for source, rows in pools]
        return left, late, told

    def check_bad_share(self) -> None:
        """Write down the bad rows, and stop when they are too many, or all that a source has."""
        collected = self.reader.collected
        write_atomic(self.out / "rejected.jsonl", json_lines(dataclasses.asdict(row) for row in collected.rejected))
        if self.config.drop_unsaid:
            write_atomic(self.out / "unsaid.jsonl", json_lines(dataclasses.asdict(row) for row in collected.unsaid))
        read = sum(tally.read for tally in collected.tallies)
        bad, limit = len(collected.rejected), self.config.max_bad_share
        if bad and bad / read > limit:
            raise DataError(
                f"{collected.rejected[0]}; {bad} of {read} rows are bad, more than max_bad_share {limit:g} allows; "
                f"all are listed in {self.out / 'rejected.jsonl'}"
            )
        for tally in collected.tallies:
            if tally.read and tally.bad == tally.read:  # a small one may hide in the share of all
                first = next(row for row in collected.rejected if Path(row.file).name == tally.source)
                raise DataError(f"{first}; no row of {tally.source} can be read")


def _requests_of(heldout: Sequence[Example]) -> KnownRequests:
    return KnownRequests(texts_of(heldout), shortest=SHORTEST_REQUEST)


def _write(out: Path, sides: _Sides, collected: Collected, known: dict[str, Texts], files: dict[str, str]) -> None:
    written: dict[Side, list[Example]] = {"train": sides.train, "heldout": sides.heldout}
    if any(tally.side == "unlabelled" and tally.read for tally in collected.tallies):
        written["unlabelled"] = sides.unlabelled
    if (empty := next((side for side, rows in written.items() if not rows), None)) is not None:
        raise DataError(_nothing_left(empty, collected))
    write_examples(out / "train.jsonl", sides.train)
    write_examples(out / "heldout.jsonl", sides.heldout)
    (out / "unlabelled.jsonl").unlink(missing_ok=True)
    if sides.unlabelled:
        write_prompts(out / "unlabelled.jsonl", sides.unlabelled)
    summary = summarise(written, collected, split=sides.split, mix=sides.mix, known=known, files=files)
    write_atomic(out / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")


def _nothing_left(side: Side, collected: Collected) -> str:
    # Held-out rows that are split off are counted with the training rows.
    tallies = [tally for tally in collected.tallies if tally.side == side] or collected.tallies
    bad, too_long = sum(tally.bad + tally.refused for tally in tallies), sum(tally.too_long for tally in tallies)
    unsaid, overlapping = sum(tally.unsaid for tally in tallies), sum(tally.exact + tally.ngram for tally in tallies)
    both_sides = sum(tally.both_sides for tally in tallies)
    losses = [f"{bad} bad, {too_long} too long"]
    losses += [f"{unsaid} left out by drop_unsaid"] if unsaid else []
    losses += [f"{overlapping} overlapping"] if overlapping else []
    losses += [f"{both_sides} that call tools of both sides"] if both_sides else []
    names = {tally.source for tally in tallies}
    first = next((f"; the first bad one: {row}" for row in collected.rejected if Path(row.file).name in names), "")
    return f"no {SIDES[side]} rows are left ({', '.join(losses)}){first}; check `data:` in the recipe"
