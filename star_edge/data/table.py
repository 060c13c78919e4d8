"""`summary.json` as lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from star_edge.data.reading import Side
from star_edge.manifest import read_json

SIDES: Mapping[Side, str] = {"train": "training", "heldout": "held-out", "unlabelled": "unlabelled"}
USES = {"derived": "derived", "twice": "twice"}
LOSSES = {
    "bad": "bad",
    "refused": "refused",
    "too_long": "too long",
    "exact": "exact",
    "ngram": "13-word",
    "unsaid": "unsaid",
    "both_sides": "both sides",
    "over_cap": "over cap",
    "not_drawn": "not drawn",
}
_FILLED = "sources and tool pool give no more, and kinds without a share fill in"
SPREADS = {
    "prompt_tokens": "prompt tokens",
    "completion_tokens": "completion tokens",
    "tools_per_row": "tools a row",
}


def read_table(folder: Path) -> str:
    """The table of a finished data stage.

    Raises: ArtifactError: the folder has no summary.
    """
    return table(read_json(folder / "summary.json"))


def table(summary: Mapping[str, Any]) -> str:
    """Rows by kind and source, lengths, what was dropped and why, what the mix did, and overlap."""
    blocks = [_sides(summary), _lengths(summary), _shares(summary), _sources(summary), _notes(summary)]
    return "\n\n".join("\n".join(block) for block in blocks)


def _sides(summary: Mapping[str, Any]) -> list[str]:
    sides = {side: summary[side] for side in SIDES if side in summary}
    answered = [summary["train"], summary["heldout"]]
    kinds = {kind: None for side in answered for kind in side["kinds"]}
    rows = [["", *(SIDES[side] for side in sides)], ["rows", *(_number(side["rows"]) for side in sides.values())]]
    for kind in kinds:
        counts = [_with_share(side["kinds"].get(kind, 0), side["rows"]) for side in answered]
        rows.append([f"  {kind}", *counts, *[""] * (len(sides) - len(answered))])
    for key, label in (
        ("tools_offered", "tools offered"),
        ("tools_called", "tools called"),
        ("rows_with_one_tool", "rows with one tool"),
    ):
        rows.append([label, *(_number(side[key]) for side in sides.values())])
    return _aligned(rows)


def _lengths(summary: Mapping[str, Any]) -> list[str]:
    rows = [["", "mean", "p50", "p95", "max"]]
    for side, label in SIDES.items():
        for key, what in SPREADS.items():
            if side in summary and (side, key) != ("unlabelled", "completion_tokens"):
                values = summary[side][key]
                rows.append([f"{label}: {what}", f"{values['mean']:.1f}", *(_number(values[k]) for k in rows[0][2:])])
    return _aligned(rows)


def _shares(summary: Mapping[str, Any]) -> list[str]:
    train = summary["train"]
    rows = [["training rows from", "rows"]]
    rows += [[f"  {name}", _with_share(count, train["rows"])] for name, count in train["sources"].items()]
    return _aligned(rows)


def _sources(summary: Mapping[str, Any]) -> list[str]:
    """Every file, with what was made of its rows and the losses, where they occurred at all."""
    tallies = summary["sources"]
    columns = {key: label for key, label in {**USES, **LOSSES}.items() if any(tally[key] for tally in tallies)}
    rows = [["file", "side", "read", "kept", *columns.values()]]
    for tally in tallies:
        counts = (tally[key] for key in ("read", "kept", *columns))
        rows.append([tally["source"], SIDES[tally["side"]], *map(_number, counts)])
    return _aligned(rows, texts=2)


def _notes(summary: Mapping[str, Any]) -> list[str]:
    lines = []
    if mixed := summary["split"].get("mixed_rows_dropped"):
        lines.append(f"rows that call held-out tools and others, dropped by the split: {_number(mixed)}")
    if (mix := summary["mix"]) is not None:
        if summary["train"]["rows"] < mix["wanted_rows"]:
            lines.append(f"the sources hold fewer rows than the {_number(mix['wanted_rows'])} wanted")
        for kind, rows in mix["quotas"].items():
            if rows["given"] < rows["wanted"]:
                lines.append(
                    f"{kind}: {_number(rows['given'])} of the {_number(rows['wanted'])} rows wanted; {_FILLED}"
                )
        if mix["derived_near_miss"] < (wanted := mix["wanted_near_miss"]):
            lines.append(f"near misses: {_number(mix['derived_near_miss'])} of the {_number(wanted)} rows wanted")
        lines.append(
            f"derived irrelevance rows: {_number(mix['derived_near_miss'])} near misses, "
            f"{_number(mix['derived_unrelated'])} with unrelated tools; "
            f"{_number(mix['heldout_near_misses'])} near misses held out"
        )
        lines.append(
            f"distractors: {_number(mix['distractors'])} tools in {_number(mix['rows_with_distractors'])} rows; "
            f"{_number(mix['rows_too_long_for_distractors'])} rows had no room for theirs"
        )
        lines.append(f"rows under masked names: {_number(mix['masked_rows'])}")
        lines.append(f"rows with strings for other values: {_number(mix['stringified_rows'])}")
        lines.append(
            f"rows whose descriptions ask for a form of their values: {_number(mix['formatted_rows'])} of training, "
            f"{_number(mix['formatted_heldout_rows'])} held-out"
        )
        if "unlabelled" in summary:
            lines.append(
                f"unlabelled prompts: {_number(mix['unlabelled_confusable'])} got a confusable tool for theirs, "
                f"{_number(mix['unlabelled_unrelated'])} an unrelated one; "
                f"{_number(mix['unlabelled_distractors'])} distractors in "
                f"{_number(mix['unlabelled_with_distractors'])} prompts"
            )
    between = summary["overlap"]
    lines.append(f"overlap of training with held-out rows: {between['exact']} exact, {between['ngram']} 13-word")
    for name, found in summary["overlap_with"].items():
        lines.append(
            f"overlap with {name} ({_number(found['evaluation_rows'])} cases): "
            f"{found['exact']} exact, {found['ngram']} 13-word"
        )
    return lines


def _number(value: float) -> str:
    return f"{value:,}"


def _with_share(count: int, total: int) -> str:
    return f"{_number(count)} {100 * count / max(total, 1):5.1f} %"


def _aligned(rows: Sequence[Sequence[str]], texts: int = 1) -> list[str]:
    """Columns of one width each: the first `texts` to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index < texts else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
