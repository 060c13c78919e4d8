"""Several evaluated checkpoints as one published table: JSON for programs, Markdown for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from star_edge.contracts import Score
from star_edge.report.tables import NOTHING, Table, markdown_table, share_text

SCHEMA = 1
HEADLINE = ("non_live", "live", "irrelevance", "live_irrelevance")
EXPLAINED = (
    "Greedy answers, percent of right cases with the 95 % interval (a bootstrap over cases, one run each). Minutes are "
    "those of all stages behind the checkpoint, the teacher's included; steps are the model's own optimizer steps, up "
    "to the weights that were kept."
)


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One checkpoint. minutes, steps, seed, recipe: of the run it came from; null where no run is known.

    without_effect: trainings behind it whose dev score was best before their first step, so that none was kept.
    """

    name: str
    scores: tuple[Score, ...]
    seed: int | None = None
    minutes: float | None = None
    steps: int | None = None
    recipe: str | None = None
    without_effect: tuple[str, ...] = ()

    def score(self, label: str) -> Score | None:
        """The score of that label, if there is one."""
        return next((score for score in self.scores if score.label == label), None)


@dataclass(frozen=True, slots=True)
class Results:
    """All rows on the same cases of one suite.

    suite: its name and version. command: what collected the rows. gpu: what answered, by name.
    """

    name: str
    suite: str
    cases: int
    rows: tuple[ResultRow, ...]
    command: str
    gpu: str
    versions: Mapping[str, str]


def results_json(results: Results) -> dict[str, Any]:
    """The results file: percent throughout, the headline scores first."""
    return {
        "schema": SCHEMA,
        "name": results.name,
        "suite": results.suite,
        "cases": results.cases,
        "unit": "percent of right cases; minutes of all stages behind a checkpoint; the model's own optimizer steps, "
        "up to the weights kept",
        "command": results.command,
        "gpu": results.gpu,
        "versions": dict(results.versions),
        "rows": [_row_json(row) for row in results.rows],
    }


def _row_json(row: ResultRow) -> dict[str, Any]:
    scores = sorted(row.scores, key=lambda score: HEADLINE.index(score.label) if score.label in HEADLINE else 99)
    return {
        "name": row.name,
        "seed": row.seed,
        "minutes": None if row.minutes is None else round(row.minutes, 2),
        "steps": row.steps,
        "recipe": row.recipe,
        "without_effect": list(row.without_effect),
        "bfcl": {score.label: _percent(score.value) for score in scores},
        "intervals": {score.label: [_percent(score.low), _percent(score.high)] for score in scores},
        "n": {score.label: score.n for score in scores},
    }


def _percent(share: float) -> float:
    return round(share * 100, 2)


def results_markdown(results: Results, plots: Sequence[str]) -> str:
    """The headline table, every category, and how it was made.

    Args:
        plots: names of the PNG files beside the page.
    """
    names: dict[str, list[str]] = {}
    for row in results.rows:
        if row.recipe:
            names.setdefault(row.recipe, []).append(row.name)
    facts = {f"recipe {recipe}": ", ".join(made) for recipe, made in names.items()}
    facts |= {"GPU": results.gpu, **results.versions}
    parts = [f"# {results.name}", f"{results.suite}, {results.cases} cases. {EXPLAINED}"]
    parts += [markdown_table(headline_table(results.rows))]
    for stage in dict.fromkeys(stage for row in results.rows for stage in row.without_effect):
        those = ", ".join(row.name for row in results.rows if stage in row.without_effect)
        parts += [
            f"No step of {stage} was kept in {those}: the dev score was best before it, so the weights are older."
        ]
    parts += [f"![{name.removesuffix('.png')}]({name})" for name in plots]
    parts += ["## Every score", markdown_table(_category_table(results.rows))]
    parts += ["## How it was made", f"```sh\n{results.command}\n```"]
    parts += ["\n".join(f"- {name}: {value}" for name, value in facts.items() if value)]
    return "\n\n".join(parts) + "\n"


def headline_table(rows: Sequence[ResultRow]) -> Table:
    """A line a checkpoint."""
    table = [["model", *(label.replace("_", " ") for label in HEADLINE), "minutes", "steps", "seed"]]
    for row in rows:
        cells = [share_text(score) if (score := row.score(label)) else NOTHING for label in HEADLINE]
        minutes = NOTHING if row.minutes is None else f"{row.minutes:.1f}"
        table.append([row.name, *cells, minutes, *(NOTHING if v is None else str(v) for v in (row.steps, row.seed))])
    return table


def _category_table(rows: Sequence[ResultRow]) -> Table:
    """A line a score, a column a checkpoint; values alone."""
    counts = {score.label: score.n for row in rows for score in row.scores}
    table = [["score", "n", *(row.name for row in rows)]]
    for label, n in counts.items():
        cells = [f"{score.value * 100:.1f}" if (score := row.score(label)) else NOTHING for row in rows]
        table.append([label, str(n), *cells])
    return table
