"""Rows that share a request with an evaluation are left out, and the summary measures that none is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mix_rows import device, row, single
from transformers import AutoTokenizer

from star_edge.calls.template import HERMES
from star_edge.contracts import DataConfig, Dataset, Example, MixConfig, SourceConfig
from star_edge.data.build import build, fingerprints
from star_edge.data.chat import ChatCodec
from star_edge.data.rows import read_examples, to_row
from star_edge.errors import DataError
from star_edge.evaluate.bfcl import cases
from star_edge.evaluate.bfcl.cases import BfclCase

LONG = "please switch every light in the whole house off before we all leave tonight"
ASKED = ("Turn the porch light on.", f"Well, {LONG}, will you?")
CASES = tuple(
    BfclCase(f"simple_{n}", "simple_python", ({"role": "user", "content": text},), (), ())
    for n, text in enumerate(ASKED)
)


def request(id: str, text: str) -> Example:
    return row(id, text, "switch_light", tools=(device("light"),))


ROWS = [
    request("exact", "turn the PORCH light on"),
    request("words", f"Could you {LONG}?"),
    *(single(f"free-{number}") for number in range(10)),
]


@pytest.fixture
def bfcl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cases of our own in the place of the published ones."""
    monkeypatch.setattr(cases, "load", lambda: CASES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "rows.jsonl", ROWS)
    write(tmp_path / "dev.jsonl", [request("dev-exact", ASKED[0]), request("dev", "Light, please.")])
    return tmp_path


def write(path: Path, rows: list[Example]) -> None:
    path.write_text("".join(json.dumps(to_row(example)) + "\n" for example in rows))


def run(folder: Path, tiny_student: Path, **more: Any) -> tuple[Dataset, dict[str, Any]]:
    codec = ChatCodec(AutoTokenizer.from_pretrained(tiny_student), HERMES)
    sources: dict[str, Any] = {"train": (SourceConfig("rows.jsonl"),), "heldout": (SourceConfig("dev.jsonl"),)}
    dataset = build(DataConfig(**{**sources, **more}), codec, folder / "out", seed=1, recipe_folder=folder)
    return dataset, json.loads((dataset.folder / "summary.json").read_text())


def ids(path: Path) -> list[str]:
    return sorted(example.id for example in read_examples(path))


@pytest.mark.parametrize("mix", [None, MixConfig(rows=100)])
def test_rows_that_overlap_with_bfcl_are_left_out_of_both_sides_and_counted(
    bfcl: None, folder: Path, tiny_student: Path, mix: MixConfig | None
) -> None:
    dataset, summary = run(folder, tiny_student, overlap_with=("bfcl",), mix=mix)
    train, heldout = summary["sources"]

    assert ids(dataset.train) == sorted(f"free-{number}" for number in range(10))
    assert ids(dataset.heldout) == ["dev"]
    assert (train["exact"], train["ngram"], heldout["exact"]) == (1, 1, 1)
    measured = summary["overlap_with"]["bfcl"]
    assert (measured["evaluation_rows"], measured["exact"], measured["ngram"]) == (2, 0, 0)


def test_unlabelled_prompts_are_compared_too(bfcl: None, folder: Path, tiny_student: Path) -> None:
    prompts = [{**to_row(example), "messages": list(example.prompt)} for example in ROWS]
    (folder / "open.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    dataset, summary = run(folder, tiny_student, overlap_with=("bfcl",), unlabelled=(SourceConfig(path="open.jsonl"),))

    assert dataset.unlabelled_rows == 10
    assert (summary["sources"][-1]["exact"], summary["sources"][-1]["ngram"]) == (1, 1)


def test_a_held_out_file_may_be_named(folder: Path, tiny_student: Path) -> None:
    dataset, summary = run(folder, tiny_student, overlap_with=("dev.jsonl",))

    assert "exact" not in ids(dataset.train)
    assert "words" in ids(dataset.train)
    assert ids(dataset.heldout) == ["dev", "dev-exact"]
    assert summary["overlap_with"]["dev.jsonl"]["exact"] == summary["overlap"]["exact"] == 0


HELD = [request("dev-exact", ASKED[0]), request("dev-words", ASKED[1]), request("dev-short", "Light on, please.")]


@pytest.mark.parametrize("mix", [None, MixConfig(rows=100)])
def test_rows_that_share_a_request_with_held_out_rows_are_left_out_and_counted(
    folder: Path, tiny_student: Path, mix: MixConfig | None
) -> None:
    write(folder / "dev.jsonl", HELD)
    write(folder / "rows.jsonl", [*ROWS, request("short", "light on, please")])
    (folder / "open.jsonl").write_text(
        "".join(json.dumps({**to_row(e), "messages": list(e.prompt)}) + "\n" for e in ROWS)
    )
    unlabelled = (SourceConfig(path="open.jsonl"),)
    dataset, summary = run(folder, tiny_student, overlap_with=("heldout",), mix=mix, unlabelled=unlabelled)
    train, heldout, prompts = summary["sources"]

    assert ids(dataset.train) == sorted(["short", *(f"free-{number}" for number in range(10))])
    assert ids(dataset.heldout) == ["dev-exact", "dev-short", "dev-words"]
    assert dataset.unlabelled_rows == 10
    assert [(t["exact"], t["ngram"], t["kept"]) for t in (train, heldout, prompts)] == [
        (1, 1, 11),
        (0, 0, 3),
        (1, 1, 10),
    ]
    assert (summary["overlap"]["exact"], summary["overlap"]["ngram"]) == (0, 0)
    assert summary["overlap_with"] == {}


@pytest.mark.parametrize("mix", [None, MixConfig(rows=100)])
def test_rows_held_out_by_the_split_count_too(folder: Path, tiny_student: Path, mix: MixConfig | None) -> None:
    both = [row(f"{n}-{t}", f"Please switch on number {n}.", f"switch_{t}", tools=(device(t),))
            for n in range(4) for t in ("light", "radio")]  # fmt: skip
    only = row("only", "And the light alone now.", "switch_light", tools=(device("light"),))
    radio = row("wave", "And the radio alone now.", "switch_radio", tools=(device("radio"),))
    write(folder / "rows.jsonl", [*both, only, radio])
    dataset, summary = run(folder, tiny_student, overlap_with=("heldout",), mix=mix, heldout=())

    assert (dataset.train_rows, dataset.heldout_rows) == (1, 5)
    assert (summary["sources"][0]["kept"], summary["sources"][0]["exact"]) == (6, 4)


def test_without_it_nothing_is_compared(folder: Path, tiny_student: Path) -> None:
    dataset, summary = run(folder, tiny_student)

    assert dataset.train_rows == 12
    assert summary["overlap_with"] == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, r"evaluation\.jsonl: no such file"), ("{\n", r"evaluation\.jsonl:1: broken JSON .*1 of 1 rows")],
)
def test_file_that_cannot_be_compared_is_one_line(
    folder: Path, tiny_student: Path, text: str | None, message: str
) -> None:
    if text is not None:
        (folder / "evaluation.jsonl").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        run(folder, tiny_student, overlap_with=("evaluation.jsonl",))
    assert "\n" not in str(caught.value)


def test_nothing_left_says_that_rows_overlapped(bfcl: None, folder: Path, tiny_student: Path) -> None:
    write(folder / "rows.jsonl", ROWS[:2])
    with pytest.raises(DataError, match=r"no training rows are left \(0 bad, 0 too long, 2 overlapping\)"):
        run(folder, tiny_student, overlap_with=("bfcl",))


def test_fingerprints_follow_the_content_of_every_file_and_not_its_place(folder: Path, tmp_path: Path) -> None:
    for name in ("pool.jsonl", "open.jsonl", "known.jsonl"):
        (folder / name).write_text(name)
    config = DataConfig(
        train=(SourceConfig(path="rows.jsonl"),),
        unlabelled=(SourceConfig(path="open.jsonl"),),
        mix=MixConfig(rows=1, tool_pool="pool.jsonl"),
        overlap_with=("bfcl", "known.jsonl", "heldout"),
    )
    before = fingerprints(config, folder)
    changed = []
    for name in ("rows.jsonl", "pool.jsonl", "open.jsonl", "known.jsonl"):
        text = (folder / name).read_text()
        (folder / name).write_text("other")
        changed.append(fingerprints(config, folder) != before)
        (folder / name).write_text(text)

    assert before.keys() == {"rows.jsonl", "pool.jsonl", "open.jsonl", "known.jsonl", "bfcl"}
    assert changed == [True] * 4
    assert fingerprints(config, folder) == before
