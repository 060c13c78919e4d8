"""Which rows a mix takes: so many of each kind, from each source by its weight, drawn by the seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from star_edge.contracts import Example, MixConfig
from star_edge.data.cells import Cell, Drawer, Drawn, Make, Version
from star_edge.data.distractors import with_distractors
from star_edge.data.formats import formatted
from star_edge.data.irrelevance import is_derivable, near_miss, unrelated
from star_edge.data.masking import masked
from star_edge.data.quota import Quotas, kind_of
from star_edge.data.reading import Candidate, Reader
from star_edge.data.stringified import stringified
from star_edge.data.tool_pool import ToolPool

REST, IRRELEVANCE = "rest", "irrelevance"
NEAR_MISS, UNRELATED = "near miss", "unrelated"


def mixed(lists: Sequence[Sequence[Example]]) -> list[Example]:
    """One list in which every prefix holds its share of each list, each in its own order."""
    places = ((index + 0.5) / len(rows) for rows in lists for index in range(len(rows)))
    examples = (example for rows in lists for example in rows)
    return [example for _, example in sorted(zip(places, examples, strict=True), key=lambda pair: pair[0])]


@dataclass(frozen=True, slots=True)
class Pool:
    """The rows of one source in the order in which they are drawn; a weight of None is that of its rows."""

    rows: Sequence[Candidate]
    weight: float | None = None


@dataclass(slots=True)
class MixCounts:
    """What a mix came to. `quotas`: kind -> rows wanted and given; near misses count among the irrelevance rows.

    formatted_rows, formatted_heldout_rows: training and held-out rows whose descriptions got forms.
    unlabelled_confusable, unlabelled_unrelated: unlabelled prompts that got such a tool for the one that they are for.
    unlabelled_distractors are tools, unlabelled_with_distractors prompts that got some.
    """

    wanted_rows: int
    wanted_near_miss: int
    quotas: dict[str, dict[str, int]] = field(default_factory=dict)
    derived_near_miss: int = 0
    derived_unrelated: int = 0
    distractors: int = 0
    rows_with_distractors: int = 0
    rows_too_long_for_distractors: int = 0
    masked_rows: int = 0
    stringified_rows: int = 0
    formatted_rows: int = 0
    formatted_heldout_rows: int = 0
    heldout_near_misses: int = 0
    unlabelled_confusable: int = 0
    unlabelled_unrelated: int = 0
    unlabelled_distractors: int = 0
    unlabelled_with_distractors: int = 0


class Mixer:
    """Draws the rows of a mix.

    Args:
        tools: pool of distractors, of related and of unrelated tools; with None there are none of them.
    """

    def __init__(self, config: MixConfig, reader: Reader, *, tools: ToolPool | None, seed: int) -> None:
        self.config = config
        self.reader = reader
        self.tools = tools
        self.seed = seed

    def mix(self, pools: Sequence[Pool]) -> tuple[list[Example], MixCounts]:
        """The rows, evenly mixed, and what they came to.

        Fewer than `config.rows` come when the sources hold no more (see `Quotas.of`). Rows that a kind lacks are given
        to the kinds without a quota. Irrelevance rows that the sources lack are derived from requests that are drawn
        for nothing else. Near misses come from all sources by their weights, and leave the row that each is made of to
        be drawn as itself: one request with the tool it needs and without it is the contrast to be learnt, and sources
        with few rows would otherwise lose the calls that they are there for.
        """
        quotas = Quotas.of(self.config, (kind_of(row.example) for pool in pools for row in pool.rows))
        filled = [pool for pool in pools if pool.rows]
        columns = self._columns(filled, quotas)
        with closing(self.reader.progress.bar("draw rows", quotas.rows)) as bar:
            drawer = Drawer(self.reader.ruler, bar)
            columns[NEAR_MISS] = self._near_misses(filled, quotas.near_miss, drawer)
            self._fill(columns, quotas, drawer)
        self._settle(columns)
        lists = [[row.version.example for row in cell.drawn] for cells in columns.values() for cell in cells]
        return mixed(lists), self._counts(columns, quotas)

    def _fill(self, columns: dict[str, list[Cell]], quotas: Quotas, drawer: Drawer) -> None:
        """Draw every kind with a quota, then the rest, then what has to be derived from what is left over."""
        refused = quotas.kinds.get(IRRELEVANCE, 0)
        for kind, wanted in quotas.kinds.items():
            drawer.draw(columns[kind], wanted - (_taken(columns, NEAR_MISS) if kind == IRRELEVANCE else 0))
        asked = _taken(columns, *columns.keys() - {REST, IRRELEVANCE, NEAR_MISS})
        drawer.draw(columns[REST], quotas.rows - refused - asked)
        lacking = refused - _taken(columns, IRRELEVANCE, NEAR_MISS)
        columns[UNRELATED] = self._unrelated_rows(columns, lacking, drawer)
        drawer.draw(columns[REST], quotas.rows - _taken(columns, *columns))

    def _columns(self, pools: Sequence[Pool], quotas: Quotas) -> dict[str, list[Cell]]:
        """A cell for each source under each kind that has a quota, and under the rest."""
        columns: dict[str, list[Cell]] = {kind: [] for kind in (*quotas.kinds, IRRELEVANCE, REST)}
        for pool in pools:
            weight = self._weight(pool, pools)
            rows: dict[str, list[Candidate]] = {kind: [] for kind in columns}
            for row in pool.rows:
                kind = kind_of(row.example)
                rows[kind if kind in quotas.kinds else REST].append(row)
            for kind, cells in columns.items():
                cells.append(Cell(rows[kind], weight, self._direct))
        return columns

    def _near_misses(self, pools: Sequence[Pool], wanted: int, drawer: Drawer) -> list[Cell]:
        """A cell for each source, of irrelevance rows made from its single-turn calls."""
        cells = [_derivable(pool.rows, self._weight(pool, pools), self._near_miss) for pool in pools]
        drawer.draw(cells, wanted)
        return cells

    def _unrelated_rows(self, columns: Mapping[str, list[Cell]], wanted: int, drawer: Drawer) -> list[Cell]:
        """Cells of irrelevance rows made from single-turn calls that nothing else has drawn."""
        refused = {row.candidate.example.id for cell in columns[NEAR_MISS] for row in cell.drawn}
        sources = [cell for column in columns.values() for cell in column if not cell.is_derived]
        free = ([row for row in cell.untried if row.example.id not in refused] for cell in sources)
        cells = [_derivable(rows, cell.weight, self._unrelated) for rows, cell in zip(free, sources, strict=True)]
        drawer.draw(cells, wanted)
        used = {row.candidate.example.id for cell in cells for row in cell.drawn}
        for cell in sources:
            cell.leave_out(used)
        return cells

    @staticmethod
    def _weight(pool: Pool, pools: Sequence[Pool]) -> float:
        if pool.weight is not None:
            return pool.weight
        return len(pool.rows) * len(pools) / sum(len(each.rows) for each in pools)

    def _direct(self, example: Example) -> Sequence[Version]:
        """The row with its distractors, and without them in case that is too long."""
        example = replace(example, kind=kind_of(example))
        plain = self._finished(example)
        if self.tools is None:
            return (plain,)
        share, max_tools = self.config.distractor_share, self.config.max_tools
        crowded = with_distractors(example, self.tools, share=share, max_tools=max_tools, seed=self.seed)
        added = len(crowded.tools) - len(example.tools)
        return (self._finished(crowded, added), plain) if added else (plain,)

    def _near_miss(self, example: Example) -> Sequence[Version]:
        made = near_miss(example, self.tools, max_tools=self.config.max_tools, seed=self.seed)
        return () if made is None else (self._finished(made),)

    def _unrelated(self, example: Example) -> Sequence[Version]:
        if self.tools is None:
            return ()
        made = unrelated(example, self.tools, max_tools=self.config.max_tools, seed=self.seed)
        return () if made is None else (self._finished(made),)

    def _finished(self, example: Example, added: int = 0) -> Version:
        """The row with its forms, strings and names, whatever it was made of: none of them may tell what is due."""
        form = formatted(example, share=self.config.format_share, seed=self.seed)
        text = stringified(form, share=self.config.string_share, seed=self.seed)
        new = masked(text, share=self.config.mask_share, seed=self.seed)
        return Version(
            new,
            added,
            is_masked=new is not text,
            is_stringified=text is not form,
            is_formatted=form is not example,
        )

    def _settle(self, columns: Mapping[str, list[Cell]]) -> None:
        """Count what was taken or lost with its source, each of its rows once, and keep the lengths.

        A row that is too long with its call may be there as a near miss, which is shorter.
        """
        kept: set[str] = set()
        cells = [cell for column in columns.values() for cell in column]
        for cell in cells:
            for row in cell.drawn:
                tally, name = row.candidate.tally, row.candidate.example.id
                tally.kept += name not in kept
                tally.twice += name in kept
                tally.derived += cell.is_derived
                kept.add(name)
                self.reader.collected.tokens[row.version.example.id] = row.lengths
        for candidate, refusal in (lost for cell in cells for lost in cell.lost):
            if candidate.example.id in kept:
                continue
            if refusal is None:
                candidate.tally.too_long += 1
            else:
                self.reader.collected.refuse(candidate, refusal)

    def _counts(self, columns: Mapping[str, list[Cell]], quotas: Quotas) -> MixCounts:
        drawn: list[Drawn] = [row for column in columns.values() for cell in column for row in cell.drawn]
        given = {kind: _taken(columns, kind) for kind in quotas.kinds}
        if IRRELEVANCE in given:
            given[IRRELEVANCE] = _taken(columns, IRRELEVANCE, NEAR_MISS, UNRELATED)
        return MixCounts(
            wanted_rows=self.config.rows,
            wanted_near_miss=quotas.near_miss,
            quotas={kind: {"wanted": rows, "given": given[kind]} for kind, rows in quotas.kinds.items()},
            derived_near_miss=_taken(columns, NEAR_MISS),
            derived_unrelated=_taken(columns, UNRELATED),
            distractors=sum(row.version.added for row in drawn),
            rows_with_distractors=sum(row.version.added > 0 for row in drawn),
            rows_too_long_for_distractors=sum(row.is_second for row in drawn),
            masked_rows=sum(row.version.is_masked for row in drawn),
            stringified_rows=sum(row.version.is_stringified for row in drawn),
            formatted_rows=sum(row.version.is_formatted for row in drawn),
        )


def _derivable(rows: Sequence[Candidate], weight: float, make: Make) -> Cell:
    return Cell([row for row in rows if is_derivable(row.example)], weight, make, is_derived=True)


def _taken(columns: Mapping[str, list[Cell]], *kinds: str) -> int:
    return sum(cell.taken for kind in kinds for cell in columns[kind])
