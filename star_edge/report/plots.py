"""PNG plots of published results: checkpoints with their intervals, and the curves of training stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, TypeAlias

from star_edge.errors import RuntimeMissing
from star_edge.manifest import replacing
from star_edge.report.results import HEADLINE, ResultRow

Points: TypeAlias = Sequence[tuple[int, float]]  # (step, value)
CURVES = {"reward": "mean reward", "entropy": "entropy, nats a token", "score": "dev score, %"}
"""Field of a stage's log -> what its axis says. `score` is a share, drawn in percent."""
SMOOTH_OVER = 10
DPI = 130
NAME_WIDTH = 26


def new_figure(width: float, height: float) -> Any:
    """An empty figure in inches; it is drawn without a display and shared with nobody.

    Raises: RuntimeMissing: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RuntimeMissing.for_extra("matplotlib", "plots") from error
    return Figure(figsize=(width, height), layout="constrained")


def plot_rows(rows: Sequence[ResultRow], path: Path) -> None:
    """A panel a headline score, a line a checkpoint: the value and its 95 % interval.

    Raises: RuntimeMissing: matplotlib is not installed.
    """
    figure = new_figure(12.5, 1.4 + 0.5 * len(rows))
    panels = figure.subplots(1, len(HEADLINE), sharey=True)
    for panel, label in zip(panels, HEADLINE, strict=True):
        for place, row in enumerate(rows):
            if (score := row.score(label)) is not None:
                _draw_score(panel, place, score.value * 100, score.low * 100, score.high * 100)
        panel.set_title(label.replace("_", " "), fontsize=11)
        panel.set_xlim(-9, 109)  # so that the numbers of 0 and 100 stay inside
        panel.set_xticks(range(0, 101, 25))
        panel.grid(axis="x", alpha=0.3)
        panel.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(rows)), [fill(row.name, NAME_WIDTH) for row in rows])
    panels[0].set_ylim(len(rows) - 0.4, -0.7)  # the first row on top, with room for its number
    figure.supxlabel("right cases, %, with 95 % interval", fontsize=10)
    _save(figure, path)


def _draw_score(panel: Any, place: int, value: float, low: float, high: float) -> None:
    reach = [[max(0.0, value - low)], [max(0.0, high - value)]]  # rounding may put a bound past the value
    panel.errorbar(value, place, xerr=reach, fmt="o", color="C0", capsize=3, markersize=5)
    panel.annotate(f"{value:.1f}", (value, place), (0, 5), textcoords="offset points", ha="center", fontsize=9)


def plot_curves(curves: Mapping[str, Mapping[str, Points]], path: Path) -> None:
    """A panel a quantity, a line a training: reward, entropy and dev score over its steps, as far as they were logged.

    Where a curve has many points, they are drawn faintly under their moving mean.

    Args:
        curves: name of the training -> field of `CURVES` -> points.
    Raises: RuntimeMissing: matplotlib is not installed.
    """
    shown = [field for field in CURVES if any(fields.get(field) for fields in curves.values())]
    figure = new_figure(4.6 * len(shown), 3.9)
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for panel, field in zip(panels, shown, strict=True):
        for place, fields in enumerate(curves.values()):
            if points := fields.get(field):
                _draw_curve(panel, points, f"C{place}", scale=100 if field == "score" else 1)
        panel.set_title(CURVES[field], fontsize=11)
        panel.set_xlabel("optimizer step")
        panel.locator_params(axis="x", integer=True)
        panel.grid(alpha=0.3)
    lines = [panels[0].plot([], [], color=f"C{place}")[0] for place in range(len(curves))]
    figure.legend(lines, list(curves), loc="outside lower center", ncols=4, frameon=False)
    _save(figure, path)


def _draw_curve(panel: Any, points: Points, color: str, *, scale: float) -> None:
    steps, values = [step for step, _ in points], [value * scale for _, value in points]
    if len(values) < 3 * SMOOTH_OVER:
        panel.plot(steps, values, color=color, marker="o", markersize=3)
        return
    panel.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
    windows = [values[max(0, end - SMOOTH_OVER) : end] for end in range(1, len(values) + 1)]
    panel.plot(steps, [sum(window) / len(window) for window in windows], color=color, linewidth=1.8)


def _save(figure: Any, path: Path) -> None:
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=DPI)
