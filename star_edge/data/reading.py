"""Sources of a recipe to rows: what is read, what is left out and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

from star_edge.contracts import DataConfig, Example, SourceConfig
from star_edge.data.chat import ChatCodec
from star_edge.data.draws import place
from star_edge.data.grammar_file import read_grammar
from star_edge.data.known import SUITES, Texts
from star_edge.data.lengths import ROWS_AT_ONCE, Lengths, Ruler
from star_edge.data.normalise import read_normalised, read_prompts, with_new_id
from star_edge.data.overlap import KnownRequests, user_texts
from star_edge.data.sources import BadRow, count_lines
from star_edge.data.spoken import unsaid
from star_edge.data.synth import generate
from star_edge.errors import DataError
from star_edge.progress import Progress

Side = Literal["train", "heldout", "unlabelled"]
Rows: TypeAlias = Iterator[tuple[int, Example | BadRow]]
Measure: TypeAlias = Callable[[Sequence[Example]], list[Lengths | DataError | None]]


@dataclass(slots=True)
class Tally:
    """What became of the rows of one source: every row read is in one of the other counts.

    kept: rows written, as themselves or as irrelevance rows made of them (`derived`), or as both (`twice`). refused: by
    the chat template. exact, ngram: rows that share the last request, or 13 words in a row, with something in
    `data.overlap_with`. unsaid: rows that `data.drop_unsaid` leaves out. both_sides: rows that call tools of both sides
    of the split by tool.
    """

    source: str
    side: Side
    read: int = 0
    kept: int = 0
    derived: int = 0
    twice: int = 0
    bad: int = 0
    refused: int = 0
    too_long: int = 0
    exact: int = 0
    ngram: int = 0
    unsaid: int = 0
    both_sides: int = 0
    over_cap: int = 0
    not_drawn: int = 0

    def settle(self) -> None:
        """Call every row that is in no other count not drawn."""
        unfit = self.bad + self.refused + self.too_long + self.unsaid
        known = self.exact + self.ngram + self.both_sides
        self.not_drawn = self.read - self.kept - unfit - known - self.over_cap


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that can be read, and where it came from."""

    example: Example
    file: str
    line: int
    tally: Tally


@dataclass(slots=True)
class Collected:
    """All that reading leaves behind, kept rows excepted; `tokens` and `tally_of` by row id."""

    tallies: list[Tally] = field(default_factory=list)
    rejected: list[BadRow] = field(default_factory=list)
    unsaid: list[BadRow] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    tokens: dict[str, Lengths] = field(default_factory=dict)
    tally_of: dict[str, Tally] = field(default_factory=dict)

    def refuse(self, candidate: Candidate, error: DataError) -> None:
        """Record a row that the template cannot carry."""
        candidate.tally.refused += 1
        self.rejected.append(BadRow(candidate.file, candidate.line, str(error)))


class Reader:
    """Reads sources one after the other.

    Args:
        find: turns the name of a file into its path.
        known: what `data.overlap_with` names -> its texts. Training rows and unlabelled prompts may share a request
            with none of them, held-out rows with no suite.
    """

    def __init__(
        self,
        config: DataConfig,
        codec: ChatCodec,
        *,
        seed: int,
        find: Callable[[str], Path],
        known: Mapping[str, Texts],
        progress: Progress,
    ) -> None:
        self.ruler = Ruler(codec, config)
        self.seed = seed
        suites = {name: texts for name, texts in known.items() if name in SUITES}
        self._known = _together(known)
        self._known_of_heldout = self._known if suites.keys() == known.keys() else _together(suites)
        self.progress = progress
        self.collected = Collected()
        self._find = find
        self._drops_unsaid = config.drop_unsaid

    def rows(self, source: SourceConfig, side: Side) -> list[Example]:
        """The rows that fit, in order: the first `limit` of them, and of those the `cap` that the seed draws."""
        return self._taken(source, side, self.ruler.rows)

    def prompts(self, source: SourceConfig) -> list[Example]:
        """As `rows`, of prompts without an answer."""
        return self._taken(source, "unlabelled", self.ruler.prompts)

    def candidates(self, source: SourceConfig) -> list[Candidate]:
        """Training rows in the order in which the seed draws them, each under an id of its own, whatever their length.

        Of the first `limit` rows the `cap` that are drawn first.
        """
        tally = self._tally(source, "train")
        with closing(self._read(source, tally)) as rows:
            read = list(islice(rows, source.limit))
        named = [dataclasses.replace(row, example=with_new_id(row.example, self.collected.ids)) for row in read]
        named.sort(key=lambda row: place(self.seed, row.example.id))
        tally.over_cap = len(named[source.cap :]) if source.cap is not None else 0
        self.collected.tally_of.update((row.example.id, tally) for row in named)
        return named[: source.cap]

    def fitting(self, rows: Sequence[Candidate], measure: Measure | None = None) -> Iterator[tuple[Candidate, Lengths]]:
        """The rows that the template carries and that are not too long; the others are counted."""
        lengths = (measure or self.ruler.rows)([row.example for row in rows])
        for row, fit in zip(rows, lengths, strict=True):
            if isinstance(fit, DataError):
                self.collected.refuse(row, fit)
            elif fit is None:
                row.tally.too_long += 1
            else:
                yield row, fit

    def apart_from(self, heldout: KnownRequests, rows: Sequence[Example]) -> list[Example]:
        """The rows that share no request with held-out ones; the others are counted with their sources."""
        return [row for row in rows if not _is_in(heldout, row, self.collected.tally_of[row.id])]

    def _taken(self, source: SourceConfig, side: Side, measure: Measure) -> list[Example]:
        tally = self._tally(source, side)
        kept: list[Example] = []
        with closing(self._read(source, tally)) as rows:
            # No more than may still be kept, so that what stands behind the limit is neither read nor counted.
            while chunk := list(islice(rows, _at_most(source.limit, len(kept)))):
                for row, lengths in self.fitting(chunk, measure):
                    kept.append(with_new_id(row.example, self.collected.ids))
                    self.collected.tokens[kept[-1].id] = lengths
        drawn = self._drawn(kept, source.cap)
        tally.over_cap, tally.kept = len(kept) - len(drawn), len(drawn)
        self.collected.tally_of.update((example.id, tally) for example in drawn)
        return drawn

    def _drawn(self, kept: list[Example], cap: int | None) -> list[Example]:
        first = sorted(kept, key=lambda example: place(self.seed, example.id))[:cap]
        ids = {example.id for example in first}
        return [example for example in kept if example.id in ids]

    def _tally(self, source: SourceConfig, side: Side) -> Tally:
        tally = Tally(self._find(source_name(source)).name, side)
        self.collected.tallies.append(tally)
        return tally

    def _read(self, source: SourceConfig, tally: Tally) -> Generator[Candidate]:
        """Rows that can be read and share no request with a known suite; the others are counted."""
        path = self._find(source_name(source))
        rows, total = self._synthetic(path, tally.side) if source.synth else _file(path, tally.side)
        for line, row in self.progress.track(rows, total, f"read {path.name} ({tally.side})"):
            tally.read += 1
            if isinstance(row, BadRow):
                tally.bad += 1
                self.collected.rejected.append(row)
            elif self._drops_unsaid and tally.side == "train" and (values := unsaid(row.target_calls, row)):
                tally.unsaid += 1
                told = ", ".join(f"{function}: {name} is {value!r}" for function, name, value in values)
                self.collected.unsaid.append(BadRow(str(path), line, told))
            elif not self._is_known(row, tally):
                yield Candidate(row, str(path), line, tally)

    def _is_known(self, row: Example, tally: Tally) -> bool:
        known = self._known_of_heldout if tally.side == "heldout" else self._known
        return known is not None and _is_in(known, row, tally)

    def _synthetic(self, path: Path, side: Side) -> tuple[Rows, int]:
        train, heldout = generate(read_grammar(path), seed=self.seed, where=str(path))
        rows = train if side == "train" else heldout
        return iter(enumerate(rows, start=1)), len(rows)


def _is_in(known: KnownRequests, row: Example, tally: Tally) -> bool:
    """True, and counted, for a row that shares a request."""
    texts = user_texts(row)
    exact = known.exact(texts) is not None
    ngram = not exact and known.ngram(texts) is not None
    tally.exact += exact
    tally.ngram += ngram
    return exact or ngram


def _together(known: Mapping[str, Texts]) -> KnownRequests | None:
    if not known:
        return None
    return KnownRequests({f"{name}/{case}": said for name in known for case, said in known[name].items()})


def _file(path: Path, side: Side) -> tuple[Rows, int]:
    return (read_prompts if side == "unlabelled" else read_normalised)(path), count_lines(path)


def _at_most(limit: int | None, kept: int) -> int:
    return ROWS_AT_ONCE if limit is None else min(ROWS_AT_ONCE, limit - kept)


def source_name(source: SourceConfig) -> str:
    """The file a source names.

    Raises: DataError: it names none or two.
    """
    if (source.path is None) == (source.synth is None):
        raise DataError("data source: give either `path:` (rows) or `synth:` (a request grammar)")
    return str(source.path or source.synth)


def find_file(name: str, recipe_folder: Path, data_folder: str | None = None) -> Path:
    """A file that a recipe names: in its data folder, its own folder, the working directory, or the packaged recipes.

    Args:
        data_folder: `data.folder`; itself relative to the recipe's folder or the working directory.
    Raises: DataError: there is no such file.
    """
    named = Path(name).expanduser()
    packaged = Path(str(resources.files("star_edge.recipes")))
    folders = [recipe_folder, Path(), packaged]
    if data_folder is not None:
        given = Path(data_folder).expanduser()
        folders[:0] = [recipe_folder / given, given]
    for folder in folders:
        if (folder / named).is_file():
            return folder / named
    first = f"{data_folder}, " if data_folder is not None else ""
    raise DataError(
        f"{named}: no such file in {first}{recipe_folder}, the working directory or the recipes of star-edge; "
        "paths in a recipe begin in its own folder, or in data.folder (--set data.folder=PATH); "
        "see the recipe's first lines and docs/data.md for how it is made"
    )
