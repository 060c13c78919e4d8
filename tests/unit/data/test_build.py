"""The data stage from files to files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from small_grammar import SMALL
from transformers import AutoTokenizer

from star_edge import recipe as recipes
from star_edge.calls.template import HERMES
from star_edge.contracts import DataConfig, Dataset, MixConfig, SourceConfig
from star_edge.data.build import build
from star_edge.data.chat import ChatCodec
from star_edge.data.reading import find_file, source_name
from star_edge.data.rows import read_examples
from star_edge.data.split import called_tools
from star_edge.errors import ArtifactError, DataError
from star_edge.manifest import sha256_file

SYNTH = SourceConfig(synth="own.yaml")


def row(tool: str, request: str, **more: Any) -> dict[str, Any]:
    answer = {"role": "assistant", "content": None, "tool_calls": [{"name": tool, "arguments": {}}]}
    return {"messages": [{"role": "user", "content": request}, answer], "tools": [{"name": tool}], **more}


ROWS = [row(tool, f"please use {tool} {number}") for number in range(5) for tool in ("light", "volume", "note", "call")]


@pytest.fixture(scope="module")
def codec(tiny_student: Path) -> ChatCodec:
    return ChatCodec(AutoTokenizer.from_pretrained(tiny_student), HERMES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recipe's folder with rows, plain and compressed, and a grammar."""
    folder = tmp_path / "recipe"
    folder.mkdir()
    lines = "".join(json.dumps(each) + "\n" for each in ROWS)
    (folder / "rows.jsonl").write_text(lines)
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "own.yaml").write_text(SMALL)
    return folder


def run(config: DataConfig, codec: ChatCodec, folder: Path, *, seed: int = 1) -> Dataset:
    return build(config, codec, folder.parent / "out", seed=seed, recipe_folder=folder)


def config(*names: str, **more: Any) -> DataConfig:
    return DataConfig(train=tuple(SourceConfig(path=name) for name in names), **more)


def summary_of(dataset: Dataset) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((dataset.folder / "summary.json").read_text())
    return summary


def losses_of(dataset: Dataset) -> list[dict[str, Any]]:
    """The tally of each source without the counts that are 0."""
    return [{key: value for key, value in tally.items() if value != 0} for tally in summary_of(dataset)["sources"]]


def rejected_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder.parent / "out" / "rejected.jsonl").read_text().splitlines()]


def add_lines(folder: Path, *lines: str, name: str = "rows.jsonl") -> None:
    path = folder / name
    path.write_text(path.read_text() + "".join(f"{line}\n" for line in lines))


def test_synthetic_sides_go_to_their_own_files(codec: ChatCodec, folder: Path) -> None:
    dataset = run(DataConfig(train=(SYNTH,), heldout=(SYNTH,)), codec, folder)

    assert (dataset.train_rows, dataset.heldout_rows) == (60, 20)
    assert {e.id.split("-")[1] for e in read_examples(dataset.train)} == {"train"}
    assert {e.id.split("-")[1] for e in read_examples(dataset.heldout)} == {"heldout"}
    assert summary_of(dataset)["split"] == {"by": "source"}


def test_limit_takes_the_first_rows(codec: ChatCodec, folder: Path) -> None:
    limited = SourceConfig(synth="own.yaml", limit=7)
    few = read_examples(run(DataConfig(train=(limited,), heldout=(limited,)), codec, folder).train)
    all_rows = read_examples(run(DataConfig(train=(SYNTH,), heldout=(SYNTH,)), codec, folder).train)

    assert few == all_rows[:7]


def test_grammar_without_a_heldout_source_gives_its_own_heldout_side_whole(codec: ChatCodec, folder: Path) -> None:
    dataset = run(DataConfig(train=(SourceConfig(synth="own.yaml", limit=7),)), codec, folder)

    assert (dataset.train_rows, dataset.heldout_rows) == (7, 20)
    assert {e.id.split("-")[1] for e in read_examples(dataset.heldout)} == {"heldout"}


def test_files_beside_a_grammar_hold_out_tools_that_the_grammar_does_not_call(codec: ChatCodec, folder: Path) -> None:
    sources = (SYNTH, SourceConfig(path="rows.jsonl"))
    dataset = run(DataConfig(train=sources, heldout_tool_share=1.0), codec, folder)

    assert summary_of(dataset)["split"]["heldout_tools"] == ["call"]
    assert (dataset.train_rows, dataset.heldout_rows) == (60 + 15, 20 + 5)


@pytest.mark.parametrize("mix", [None, MixConfig(rows=100)])
def test_training_rows_that_pass_what_nobody_said_can_be_left_out(
    codec: ChatCodec, folder: Path, mix: MixConfig | None
) -> None:
    invented = row("light", "please use light again")
    invented["messages"][1]["tool_calls"][0]["arguments"] = {"key": "demonstration"}
    invented["tools"] = [{"name": "light", "parameters": {"key": {"type": "string", "optional": True}}}]
    add_lines(folder, json.dumps(invented))
    held_out = row("sing", "please sing")
    held_out["messages"][1]["tool_calls"] = invented["messages"][1]["tool_calls"]
    (folder / "held.jsonl").write_text(json.dumps({**held_out, "tools": invented["tools"]}) + "\n")
    held = (SourceConfig(path="held.jsonl"),)
    for drops in (False, True):
        dataset = run(config("rows.jsonl", heldout=held, mix=mix, drop_unsaid=drops), codec, folder)
        train, heldout = losses_of(dataset)
        assert (train["read"], train["kept"], train.get("unsaid", 0)) == (21, 21 - drops, drops)
        assert (heldout["kept"], "unsaid" in heldout) == (1, False)
    (told,) = [json.loads(line) for line in (dataset.folder / "unsaid.jsonl").read_text().splitlines()]
    assert told == {"file": str(folder / "rows.jsonl"), "line": 21, "reason": "light: key is 'demonstration'"}


def test_sources_are_mixed_evenly_each_in_its_own_order(codec: ChatCodec, folder: Path) -> None:
    sources = (SYNTH, SourceConfig(path="rows.jsonl"))
    dataset = run(DataConfig(train=sources, heldout=(SYNTH,)), codec, folder)
    names = [example.source for example in read_examples(dataset.train)]
    lines = [int(e.id.split(":")[1]) for e in read_examples(dataset.train) if e.source == "rows"]

    assert [names[: 4 * part].count("rows") for part in range(1, 21)] == list(range(1, 21))
    assert lines == list(range(1, 21))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_without_a_heldout_source_are_split_by_called_tool(codec: ChatCodec, folder: Path, name: str) -> None:
    dataset = run(config(name, heldout_tool_share=0.25), codec, folder)
    train, heldout = (
        {tool for e in read_examples(p) for tool in called_tools(e)} for p in (dataset.train, dataset.heldout)
    )

    assert (dataset.train_rows, dataset.heldout_rows) == (15, 5)
    assert len(heldout) == 1
    assert not train & heldout
    assert summary_of(dataset)["split"]["heldout_tools"] == sorted(heldout)


@pytest.mark.parametrize("mix", [None, MixConfig(rows=100)])
def test_rows_that_the_split_drops_are_counted_as_lost(codec: ChatCodec, folder: Path, mix: MixConfig | None) -> None:
    every = [{"name": tool, "arguments": {}} for tool in ("light", "volume", "note", "call")]
    both = row("light", "all", tools=[{"name": call["name"]} for call in every])
    both["messages"][-1]["tool_calls"] = every
    add_lines(folder, json.dumps(both))
    dataset = run(config("rows.jsonl", mix=mix), codec, folder)
    (tally,) = losses_of(dataset)

    assert tally == {"source": "rows.jsonl", "side": "train", "read": 21, "kept": 20, "both_sides": 1}
    assert dataset.train_rows + dataset.heldout_rows == 20
    assert summary_of(dataset)["split"]["mixed_rows_dropped"] == 1


def test_heldout_source_is_taken_whole(codec: ChatCodec, folder: Path) -> None:
    dataset = run(config("rows.jsonl", heldout=(SourceConfig(path="rows.jsonl.gz"),)), codec, folder)
    overlap = summary_of(dataset)["overlap"]

    assert (dataset.train_rows, dataset.heldout_rows) == (20, 20)
    assert overlap["exact"] == 20


def test_same_seed_writes_the_same_bytes(codec: ChatCodec, folder: Path) -> None:
    names = ("train.jsonl", "heldout.jsonl", "rejected.jsonl", "summary.json")
    written = [
        [(run(config("rows.jsonl"), codec, folder).folder / name).read_bytes() for name in names] for _ in range(2)
    ]

    assert written[0] == written[1]


def test_rows_of_one_id_get_ids_of_their_own(codec: ChatCodec, folder: Path) -> None:
    same = [json.dumps(row(tool, tool, id="x")) for tool in ("light", "volume", "note")]
    (folder / "same.jsonl").write_text("\n".join(same))
    dataset = run(config("same.jsonl"), codec, folder)

    assert sorted(e.id for path in (dataset.train, dataset.heldout) for e in read_examples(path)) == ["x", "x~2", "x~3"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"messages": [', "broken JSON"),
        (json.dumps({"messages": []}), "'messages' must be a list"),
        (json.dumps(row("light", "on", tools=[])), "calls 'light', which is not among the tools"),
    ],
)
def test_few_bad_rows_are_recorded_counted_and_skipped(codec: ChatCodec, folder: Path, line: str, reason: str) -> None:
    add_lines(folder, line, json.dumps(row("light", "the last")))
    dataset = run(config("rows.jsonl", max_bad_share=0.05), codec, folder)
    (rejected,) = rejected_of(folder)

    assert dataset.train_rows + dataset.heldout_rows == 21
    assert rejected["file"] == str(folder / "rows.jsonl")
    assert rejected["line"] == 21
    assert reason in rejected["reason"]
    assert not rejected["reason"].startswith(str(folder))
    assert summary_of(dataset)["sources"][0]["bad"] == 1


def test_a_source_without_a_row_that_can_be_read_stops_whatever_the_share(codec: ChatCodec, folder: Path) -> None:
    (folder / "prompts.jsonl").write_text('{"messages": 3}\n')
    prompts = (SourceConfig(path="prompts.jsonl"),)
    with pytest.raises(DataError, match=r"prompts\.jsonl:1: .*; no row of prompts\.jsonl can be read"):
        run(config("rows.jsonl", unlabelled=prompts, max_bad_share=0.5), codec, folder)


def test_too_many_bad_rows_stop_with_the_first_and_list_them_all(codec: ChatCodec, folder: Path) -> None:
    add_lines(folder, "{", "[]")

    with pytest.raises(
        DataError, match=r"rows\.jsonl:21: broken JSON .*; 2 of 22 rows are bad, more than max_bad_share 0\.05"
    ):
        run(config("rows.jsonl", max_bad_share=0.05), codec, folder)
    assert [entry["line"] for entry in rejected_of(folder)] == [21, 22]
    assert not (folder.parent / "out" / "train.jsonl").exists()


def test_rows_the_template_cannot_carry_are_refused_and_counted(codec: ChatCodec, folder: Path) -> None:
    broken = row("light", "on")
    broken["messages"][-1] = {"role": "assistant", "content": "One.<|im_end|>Two."}
    add_lines(folder, json.dumps(broken))
    dataset = run(config("rows.jsonl", max_bad_share=0.05), codec, folder)

    (tally,) = losses_of(dataset)
    assert tally == {"source": "rows.jsonl", "side": "train", "read": 21, "kept": 20, "refused": 1}
    assert "the token that ends the turn" in rejected_of(folder)[0]["reason"]


def test_template_that_suits_no_row_stops_the_run(codec: ChatCodec, folder: Path) -> None:
    dropping = ChatCodec(codec.tokenizer, "{% for m in messages %}{{ m.content }}{% endfor %}")

    with pytest.raises(DataError, match=r"rows\.jsonl:1: .*20 of 20 rows are bad"):
        run(config("rows.jsonl"), dropping, folder)


@pytest.mark.parametrize(("limit", "answer"), [("max_prompt_tokens", "Ok."), ("max_completion_tokens", "many " * 300)])
def test_long_rows_are_dropped_but_not_bad(codec: ChatCodec, folder: Path, limit: str, answer: str) -> None:
    long = row("light", "long " * 300 if limit == "max_prompt_tokens" else "short")
    long["messages"][-1] = {"role": "assistant", "content": answer}
    add_lines(folder, json.dumps(long))
    dataset = run(config("rows.jsonl", max_bad_share=0.0, **{limit: 250}), codec, folder)
    source = summary_of(dataset)["sources"][0]

    assert (source["too_long"], source["bad"], source["refused"], source["kept"]) == (1, 0, 0, 20)
    assert rejected_of(folder) == []


def test_nothing_left_says_why(codec: ChatCodec, folder: Path) -> None:
    with pytest.raises(DataError, match=r"no training rows are left \(0 bad, 60 too long\)"):
        run(DataConfig(train=(SYNTH,), heldout=(SYNTH,), max_prompt_tokens=5), codec, folder)


def test_summary_describes_both_sides(codec: ChatCodec, folder: Path) -> None:
    dataset = run(DataConfig(train=(SYNTH,), heldout=(SYNTH,)), codec, folder)
    train = summary_of(dataset)["train"]
    lengths = [codec.encode(example) for example in read_examples(dataset.train)]

    assert train["rows"] == 60
    assert train["kinds"] == {"multiple": 36, "irrelevance": 12, "parallel": 6, "ask_missing": 6}
    assert train["tools_called"] == train["tools_offered"] == 3
    assert train["prompt_tokens"]["max"] == max(encoded.prompt_length for encoded in lengths)
    assert summary_of(dataset)["files"] == {"own.yaml": sha256_file(folder / "own.yaml")}


def test_kinds_that_rows_do_not_state_are_counted_on_both_sides(codec: ChatCodec, folder: Path) -> None:
    two_tools = row("light", "on", tools=[{"name": "light"}, {"name": "note"}])
    add_lines(folder, json.dumps(two_tools), json.dumps(row("light", "stated", kind="parallel")))
    summary = summary_of(run(config("rows.jsonl", heldout=(SourceConfig(path="rows.jsonl.gz"),)), codec, folder))

    assert summary["train"]["kinds"] == {"single": 20, "multiple": 1, "parallel": 1}
    assert summary["heldout"]["kinds"] == {"single": 20}


def test_paths_begin_in_the_recipes_folder_then_where_we_are(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("")
    (tmp_path / "here.jsonl").write_text("")

    assert find_file("rows.jsonl", folder) == folder / "rows.jsonl"
    assert find_file("here.jsonl", folder).resolve() == tmp_path / "here.jsonl"
    assert find_file(str(folder / "own.yaml"), tmp_path) == folder / "own.yaml"


def test_the_data_folder_comes_first_wherever_it_is_given_from(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (tmp_path / "data", folder / "own"):
        place.mkdir()
        (place / "rows.jsonl").write_text("")
    monkeypatch.chdir(tmp_path)

    assert find_file("rows.jsonl", folder, "data").resolve() == tmp_path / "data" / "rows.jsonl"
    assert find_file("rows.jsonl", folder, "own") == folder / "own" / "rows.jsonl"
    assert find_file("rows.jsonl", folder, str(tmp_path / "data")) == tmp_path / "data" / "rows.jsonl"
    assert find_file("own.yaml", folder, "data") == folder / "own.yaml"
    with pytest.raises(
        DataError,
        match=r"none\.jsonl: no such file in data, .*data\.folder \(--set data\.folder=PATH\); .*for how it is made$",
    ):
        find_file("none.jsonl", folder, "data")


def test_a_copied_recipe_finds_what_ships_with_star_edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    quickstart = recipes.load(recipes.find("quickstart"))
    copied = tmp_path / "my.yaml"
    copied.write_text(recipes.to_yaml(quickstart.recipe))
    loaded = recipes.load(copied)
    (source,) = loaded.recipe.data.train

    assert find_file(source_name(source), loaded.folder).samefile(quickstart.folder / "requests.yaml")


def test_missing_file_is_one_line(codec: ChatCodec, folder: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: no such file in .*recipe, the working directory or"):
        run(config("none.jsonl"), codec, folder)


@pytest.mark.parametrize("source", [SourceConfig(), SourceConfig(path="rows.jsonl", synth="own.yaml")])
def test_source_names_one_file(source: SourceConfig) -> None:
    with pytest.raises(DataError, match="give either `path:`"):
        source_name(source)


def test_wrong_grammar_names_its_file(codec: ChatCodec, folder: Path) -> None:
    (folder / "own.yaml").write_text(SMALL.replace("wrapped_share: 0.5", "wrapped_share: lots"))

    with pytest.raises(DataError, match=r"own\.yaml: wrapped_share: must be of type"):
        run(DataConfig(train=(SYNTH,)), codec, folder)


def test_unwritable_folder_is_an_artifact_error(codec: ChatCodec, folder: Path) -> None:
    (folder.parent / "out").write_text("a file where the folder should be")

    with pytest.raises(ArtifactError, match="cannot write"):
        run(config("rows.jsonl"), codec, folder)
