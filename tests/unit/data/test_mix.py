"""A mix from files to files: quotas, weights, caps, derived rows, and what stays the same."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from mix_rows import THINGS, device, row, single, tool
from transformers import AutoTokenizer

from star_edge.calls.template import HERMES
from star_edge.contracts import DataConfig, Dataset, Example, MixConfig, SourceConfig, Tool
from star_edge.data.build import build
from star_edge.data.chat import ChatCodec
from star_edge.data.rows import read_examples, read_prompts, to_row
from star_edge.errors import DataError

LAMP = tool("dim_lamp", "Dim a lamp in any room slowly, or turn it off.")
UNRELATED = [tool(f"tell_{word}", f"Tells a {word} aloud.") for word in ("joke", "story", "poem", "riddle", "tale")]
ROUND = len(THINGS)


def calls(name: str, count: int) -> list[Example]:
    """Requests with one candidate tool each, evenly over the tools."""
    return [single(f"{name}-{number}", THINGS[number % ROUND]) for number in range(count)]


def replies(name: str, count: int, kind: str) -> list[Example]:
    answer = "I can't do that." if kind == "irrelevance" else "Which state?"
    tools = (device("light"),)
    return [row(f"{name}-{n}", f"Request {name} {n}.", reply=answer, tools=tools, kind=kind) for n in range(count)]


def doubles(name: str, count: int) -> list[Example]:
    tools = (device("light"), device("radio"))
    asked = "Light and radio on"
    return [
        row(f"{name}-{n}", f"{asked}, {n}.", "switch_light", "switch_radio", tools=tools, kind="parallel")
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def codec(tiny_student: Path) -> ChatCodec:
    return ChatCodec(AutoTokenizer.from_pretrained(tiny_student), HERMES)


class Folder:
    """A recipe's folder that grows by the files a test writes, and builds from them."""

    def __init__(self, path: Path, codec: ChatCodec) -> None:
        self.path = path
        self.codec = codec
        self.write("dev.jsonl", [row("dev", "Sing.", "sing", tools=(tool("sing", "Sings."),))])
        self.lines("pool.jsonl", [*UNRELATED, LAMP])

    def lines(self, name: str, values: Iterable[Any]) -> None:
        (self.path / name).write_text("".join(json.dumps(value) + "\n" for value in values))

    def write(self, name: str, rows: Sequence[Example]) -> SourceConfig:
        self.lines(name, map(to_row, rows))
        return SourceConfig(path=name)

    def build(self, *sources: SourceConfig, seed: int = 1, mix: MixConfig | None = None, **more: Any) -> Dataset:
        settings = {"heldout": (SourceConfig(path="dev.jsonl"),), "max_prompt_tokens": 400, **more}
        config = DataConfig(train=sources, mix=mix, **settings)
        return build(config, self.codec, self.path / "out", seed=seed, recipe_folder=self.path)


@pytest.fixture
def folder(tmp_path: Path, codec: ChatCodec) -> Folder:
    return Folder(tmp_path, codec)


def train_of(dataset: Dataset) -> list[Example]:
    return read_examples(dataset.train)


def kinds_of(dataset: Dataset) -> Counter[str]:
    return Counter(example.kind for example in train_of(dataset))


def files_of(dataset: Dataset) -> Counter[str]:
    """Rows by the part of the id that names their file."""
    return Counter(example.id.split("-")[0] for example in train_of(dataset))


def summary_of(dataset: Dataset) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((dataset.folder / "summary.json").read_text())
    return summary


def test_quotas_are_met_to_the_row_and_no_row_comes_twice(folder: Folder) -> None:
    sources = [
        folder.write("a.jsonl", [*calls("a", 150), *replies("b", 50, "irrelevance")]),
        folder.write("c.jsonl", [*replies("c", 40, "ask_missing"), *doubles("d", 60)]),
    ]
    mix = MixConfig(rows=100, irrelevance_share=0.15, ask_share=0.07, parallel_share=0.2)
    dataset = folder.build(*sources, mix=mix)

    assert kinds_of(dataset) == {"irrelevance": 15, "ask_missing": 7, "parallel": 20, "single": 58}
    assert len({example.id for example in train_of(dataset)}) == dataset.train_rows == 100
    quotas = {"irrelevance": 15, "ask_missing": 7, "parallel": 20}
    assert summary_of(dataset)["mix"]["quotas"] == {k: {"wanted": n, "given": n} for k, n in quotas.items()}


def test_without_quotas_kinds_come_as_the_sources_have_them(folder: Folder) -> None:
    source = folder.write("a.jsonl", [*calls("a", 50), *replies("b", 50, "irrelevance")])

    assert kinds_of(folder.build(source, mix=MixConfig(rows=100))) == {"single": 50, "irrelevance": 50}


@pytest.mark.parametrize(
    ("sizes", "weights", "rows", "given"),
    [
        ((100, 100), (3.0, 1.0), 80, (60, 20)),
        ((100, 50), (None, None), 60, (40, 20)),
        ((100, 100), (2.0, None), 90, (60, 30)),  # an average source is 1
        ((10, 100), (9.0, 1.0), 50, (10, 40)),  # fewer rows than its weight asks for
        ((10, 20), (1.0, 1.0), 500, (10, 20)),
    ],
)
def test_sources_give_rows_by_weight(
    folder: Folder, sizes: tuple[int, int], weights: tuple[float | None, ...], rows: int, given: tuple[int, int]
) -> None:
    sources = [
        dataclasses.replace(folder.write(f"{name}.jsonl", calls(name, size)), weight=weight)
        for name, size, weight in zip("ab", sizes, weights, strict=True)
    ]
    dataset = folder.build(*sources, mix=MixConfig(rows=rows))

    assert files_of(dataset) == dict(zip("ab", given, strict=True))


def test_every_prefix_holds_its_share_of_kinds_and_sources(folder: Folder) -> None:
    sources = [folder.write("a.jsonl", calls("a", 90)), folder.write("b.jsonl", doubles("b", 60))]
    rows = train_of(folder.build(*sources, mix=MixConfig(rows=100, parallel_share=0.2)))

    for size in range(10, 101, 10):
        assert abs(sum(example.kind == "parallel" for example in rows[:size]) - 0.2 * size) <= 1


def test_cap_takes_rows_that_the_seed_draws_and_limit_those_in_front(folder: Folder) -> None:
    source = folder.write("a.jsonl", calls("a", 100))
    capped = dataclasses.replace(source, cap=10)
    drawn = [{e.id for e in train_of(folder.build(capped, mix=MixConfig(rows=50), seed=seed))} for seed in (1, 2)]
    limited = dataclasses.replace(source, limit=20, cap=10)
    front = {e.id for e in train_of(folder.build(limited, mix=MixConfig(rows=50)))}

    assert [len(ids) for ids in drawn] == [10, 10]
    assert drawn[0] != drawn[1]
    assert len(front) == 10
    assert {int(name.split("-")[1]) for name in front} < set(range(20))


def test_cap_balances_heldout_sources_and_works_without_a_mix(folder: Folder) -> None:
    source = folder.write("a.jsonl", calls("a", 60))
    heldout = (dataclasses.replace(folder.write("big.jsonl", calls("big", 50)), cap=8),)
    dataset = folder.build(dataclasses.replace(source, cap=20), heldout=heldout)
    kept = [int(example.id.split("-")[1]) for example in read_examples(dataset.heldout)]

    assert (dataset.train_rows, dataset.heldout_rows) == (20, 8)
    assert kept == sorted(kept)
    assert max(kept) > 8
    assert [tally["over_cap"] for tally in summary_of(dataset)["sources"]] == [40, 42]


def test_irrelevance_rows_that_are_lacking_are_derived_from_rows_not_drawn(folder: Folder) -> None:
    source = folder.write("a.jsonl", [*calls("a", 90), *replies("b", 4, "irrelevance")])
    mix = MixConfig(rows=60, irrelevance_share=0.5, tool_pool="pool.jsonl")
    dataset = folder.build(source, mix=mix)
    rows = train_of(dataset)
    derived = [example for example in rows if example.id.endswith("(unrelated)")]
    requests = [example.prompt[-1]["content"] for example in rows]

    assert kinds_of(dataset) == {"single": 30, "irrelevance": 30}
    assert len(derived) == 26
    assert len(set(requests)) == len(requests)
    assert not any(each["name"].startswith("switch_") for example in derived for each in example.tools)
    assert summary_of(dataset)["sources"][0]["derived"] == summary_of(dataset)["mix"]["derived_unrelated"] == 26


def test_near_misses_are_their_share_of_the_irrelevance_rows(folder: Folder) -> None:
    crowded = [dataclasses.replace(example, tools=(*example.tools, LAMP), kind="") for example in calls("a", 60)]
    source = folder.write("a.jsonl", [*crowded, *replies("b", 40, "irrelevance")])
    mix = MixConfig(rows=50, irrelevance_share=0.4, near_miss_share=0.25)
    dataset = folder.build(source, mix=mix)
    near = [example for example in train_of(dataset) if example.id.endswith("(near miss)")]

    assert kinds_of(dataset) == {"multiple": 30, "irrelevance": 20}
    assert len(near) == summary_of(dataset)["mix"]["derived_near_miss"] == 5
    assert all(example.tools == (LAMP,) for example in near)


def test_near_misses_come_by_weight_from_sources_that_are_used_up(folder: Folder) -> None:
    sources = []
    for name, size, weight in (("a", 20, 3.0), ("b", 90, 1.0)):
        crowded = [dataclasses.replace(example, tools=(*example.tools, LAMP), kind="") for example in calls(name, size)]
        sources.append(dataclasses.replace(folder.write(f"{name}.jsonl", crowded), weight=weight))
    mix = MixConfig(rows=80, irrelevance_share=0.2, near_miss_share=1.0, tool_pool="pool.jsonl")
    dataset = folder.build(*sources, mix=mix)
    rows = train_of(dataset)
    near = {example.id.removesuffix(" (near miss)") for example in rows if example.kind == "irrelevance"}
    tallies = summary_of(dataset)["sources"][:2]

    assert Counter(name[0] for name in near) == {"a": 12, "b": 4}
    assert files_of(dataset) == {"a": 32, "b": 48}
    assert near & {example.id for example in rows}, "a request comes with its tool and without it"
    assert [tally["derived"] for tally in tallies] == [12, 4]
    assert sum(tally["kept"] + tally["twice"] for tally in tallies) == len(rows) == 80
    assert all(tally["read"] == tally["kept"] + tally["not_drawn"] for tally in tallies)


def test_requests_with_one_tool_become_near_misses_with_tools_of_the_pool(folder: Folder) -> None:
    others = [tool("light_years", "How far a star is."), tool("light_meals", "What to eat at noon daily."), LAMP]
    folder.lines("pool.jsonl", others)
    source = folder.write("a.jsonl", calls("a", 60))
    mix = MixConfig(rows=50, irrelevance_share=0.1, near_miss_share=1.0, tool_pool="pool.jsonl", max_tools=1)
    near = [example for example in train_of(folder.build(source, mix=mix)) if example.id.endswith("(near miss)")]

    assert len(near) == 5
    assert {each["name"] for example in near for each in example.tools} == {"light_years", "light_meals"}
    assert all(len(example.tools) == 1 for example in near)


def test_a_row_that_fits_only_as_a_near_miss_is_counted_once(folder: Folder) -> None:
    long: Tool = {**device("light"), "description": "Switch the light on or off. " * 60}
    rows = [row(f"a-{n}", f"Light on, {n}.", "switch_light", tools=(long, LAMP)) for n in range(9)]
    source = folder.write("a.jsonl", [*rows, *calls("b", 30)])
    dataset = folder.build(source, mix=MixConfig(rows=39, irrelevance_share=0.1, near_miss_share=1.0))
    (tally, _) = summary_of(dataset)["sources"]

    assert tally["derived"] == 4
    assert (tally["kept"], tally["too_long"], tally["twice"], tally["not_drawn"]) == (34, 5, 0, 0)


def test_a_request_is_not_refused_twice(folder: Folder) -> None:
    crowded = [dataclasses.replace(example, tools=(*example.tools, LAMP), kind="") for example in calls("a", 40)]
    mix = MixConfig(rows=40, irrelevance_share=0.5, near_miss_share=0.5, tool_pool="pool.jsonl")
    dataset = folder.build(folder.write("a.jsonl", crowded), mix=mix)
    refused = [example.prompt[-1]["content"] for example in train_of(dataset) if example.kind == "irrelevance"]

    assert len(refused) == len(set(refused)) == 20


def test_rows_that_a_kind_lacks_are_given_to_the_others(folder: Folder) -> None:
    source = folder.write("a.jsonl", [*calls("a", 80), *replies("b", 3, "ask_missing")])
    mix = MixConfig(rows=50, ask_share=0.2, irrelevance_share=0.1, near_miss_share=1.0)
    dataset = folder.build(source, mix=mix)

    assert kinds_of(dataset) == {"single": 47, "ask_missing": 3}
    assert summary_of(dataset)["mix"]["quotas"] == {
        "irrelevance": {"wanted": 5, "given": 0},
        "ask_missing": {"wanted": 10, "given": 3},
    }


def test_near_misses_that_cannot_be_made_are_drawn_from_the_sources(folder: Folder) -> None:
    source = folder.write("a.jsonl", [*calls("a", 80), *replies("b", 30, "irrelevance")])
    dataset = folder.build(source, mix=MixConfig(rows=50, irrelevance_share=0.2, near_miss_share=0.5))

    assert kinds_of(dataset) == {"single": 40, "irrelevance": 10}


def test_pool_without_an_unrelated_tool_leaves_the_quota_short(folder: Folder) -> None:
    folder.lines("pool.jsonl", [device("light")])
    source = folder.write("a.jsonl", calls("a", 30))
    mix = MixConfig(rows=20, irrelevance_share=0.5, tool_pool="pool.jsonl")
    dataset = folder.build(source, mix=mix)

    assert kinds_of(dataset) == {"single": 20}
    assert summary_of(dataset)["mix"]["quotas"]["irrelevance"] == {"wanted": 10, "given": 0}


def test_quotas_are_of_the_rows_there_are(folder: Folder) -> None:
    source = folder.write("a.jsonl", calls("a", 40))
    dataset = folder.build(source, mix=MixConfig(rows=1000, irrelevance_share=0.25, tool_pool="pool.jsonl"))

    assert kinds_of(dataset) == {"single": 30, "irrelevance": 10}
    assert summary_of(dataset)["mix"]["wanted_rows"] == 1000


def test_a_row_that_states_no_kind_gets_one(folder: Folder) -> None:
    rows = [dataclasses.replace(example, kind="") for example in (*calls("a", 8), *doubles("b", 5))]
    dataset = folder.build(folder.write("a.jsonl", rows), mix=MixConfig(rows=10, parallel_share=0.2))

    assert kinds_of(dataset) == {"single": 8, "parallel": 2}


def test_a_row_too_long_makes_room_for_the_next(folder: Folder) -> None:
    long = [row(f"a-{n}", "word " * 300, "switch_light", tools=(device("light"),)) for n in range(100, 120)]
    source = folder.write("a.jsonl", [*long, *calls("a", 40)])
    dataset = folder.build(source, mix=MixConfig(rows=40))
    (tally, _) = summary_of(dataset)["sources"]

    assert dataset.train_rows == 40
    assert {int(example.id.split("-")[1]) for example in train_of(dataset)} == set(range(40))
    assert tally["too_long"] == 20


def test_distractors_that_make_a_row_too_long_are_left_out(folder: Folder) -> None:
    source = folder.write("a.jsonl", calls("a", 40))
    lengths = [folder.codec.encode(example).prompt_length for example in calls("a", 40)]
    mix = MixConfig(rows=40, tool_pool="pool.jsonl", distractor_share=1.0, max_tools=5)
    tight = folder.build(source, mix=mix, max_prompt_tokens=max(lengths) + 80)
    counts = summary_of(tight)["mix"]
    tools = [len(example.tools) for example in train_of(tight)]

    assert len(tools) == 40
    assert 0 < counts["rows_too_long_for_distractors"] == tools.count(1)
    assert counts["rows_with_distractors"] == 40 - tools.count(1)
    assert counts["distractors"] == sum(tools) - 40
    assert summary_of(tight)["train"]["rows_with_one_tool"] == tools.count(1)


def test_held_out_tools_are_no_distractors(folder: Folder) -> None:
    folder.lines("pool.jsonl", [tool("sing", "Sings."), UNRELATED[0]])
    source = folder.write("a.jsonl", calls("a", 30))
    mix = MixConfig(rows=30, tool_pool="pool.jsonl", distractor_share=1.0, max_tools=3)
    names = {each["name"] for example in train_of(folder.build(source, mix=mix)) for each in example.tools}

    assert "tell_joke" in names
    assert "sing" not in names


def test_masked_rows_are_counted_and_still_valid(folder: Folder) -> None:
    source = folder.write("a.jsonl", calls("a", 60))
    dataset = folder.build(source, mix=MixConfig(rows=60, mask_share=0.5))
    masked = [e for e in train_of(dataset) if not e.tools[0]["name"].startswith("switch_")]

    assert 15 < len(masked) == summary_of(dataset)["mix"]["masked_rows"] < 45
    assert all(example.target_calls[0].name == example.tools[0]["name"] for example in masked)


def test_rows_with_strings_for_other_values_are_counted_and_written_so(folder: Folder) -> None:
    dim = {**tool("dim", "Dim the lamp."), "parameters": {"type": "object", "properties": {}}}
    dim["parameters"]["properties"] = {"level": {"type": "integer", "description": "How bright"}}
    rows = [with_call(row(f"dim-{number}", f"Dim it to {number}.", tools=(dim,)), level=number) for number in range(60)]
    dataset = folder.build(folder.write("a.jsonl", rows), mix=MixConfig(rows=40, string_share=0.5))
    values = [example.target_calls[0].arguments["level"] for example in train_of(dataset)]

    assert 10 < sum(isinstance(value, str) for value in values) == summary_of(dataset)["mix"]["stringified_rows"] < 30


@pytest.mark.parametrize("share", ["format_share", "string_share", "mask_share"])
def test_what_is_done_to_a_row_is_counted_apart(folder: Folder, share: str) -> None:
    dim = tool("dim", "Dim the lamp.", day="Which day")
    dim["parameters"]["properties"]["level"] = {"type": "integer", "description": "How bright"}
    rows = [
        with_call(row(f"dim-{n}", f"Dim it to {n} on May {n}.", tools=(dim,)), level=n, day=f"2020-05-{n:02}")
        for n in range(4, 30)
    ]
    source = folder.write("a.jsonl", rows)
    counted = {"format_share": "formatted_rows", "string_share": "stringified_rows", "mask_share": "masked_rows"}
    alone = summary_of(folder.build(source, mix=MixConfig(rows=20, **{share: 1.0})))["mix"]  # type: ignore[arg-type]
    every = summary_of(folder.build(source, mix=MixConfig(rows=20, **dict.fromkeys(counted, 1.0))))["mix"]  # type: ignore[arg-type]

    assert {name: alone[name] for name in counted.values()} == {
        **dict.fromkeys(counted.values(), 0),
        counted[share]: 20,
    }
    assert {name: every[name] for name in counted.values()} == dict.fromkeys(counted.values(), 20)


def with_call(example: Example, **arguments: Any) -> Example:
    """The row, answered by a call of its first tool."""
    call = {"name": example.tools[0]["name"], "arguments": arguments}
    answer = {"role": "assistant", "content": "", "tool_calls": [call]}
    return dataclasses.replace(example, messages=(*example.prompt, answer))


def test_rows_with_forms_are_counted_and_their_values_written_so(folder: Folder) -> None:
    day = tool("note", "Note a day.", day="Which day")
    rows = [
        with_call(row(f"day-{number}", f"Note the {number}th of May 2020.", tools=(day,)), day=f"2020-05-{number:02}")
        for number in range(4, 30)
    ]
    source = folder.write("a.jsonl", rows)
    dataset = folder.build(source, mix=MixConfig(rows=20, format_share=1.0))

    assert summary_of(dataset)["mix"]["formatted_rows"] == 20
    assert all(len(e.tools[0]["parameters"]["properties"]["day"]["description"]) > 10 for e in train_of(dataset))


def test_held_out_rows_get_forms_too_where_there_is_room(folder: Folder) -> None:
    day = tool("note", "Note a day.", day="Which day")
    request = "Note the 3rd of May 2020. " + "Please! " * 40
    dev = with_call(row("dev-day", request, tools=(day,)), day="2020-05-03")
    heldout = (folder.write("days.jsonl", [dev]),)
    source = folder.write("a.jsonl", calls("a", 20))
    mix = MixConfig(rows=10, format_share=1.0)

    dataset = folder.build(source, mix=mix, heldout=heldout)
    (changed,) = read_examples(dataset.heldout)
    assert changed.tools[0]["parameters"]["properties"]["day"]["description"] != "Which day"
    assert summary_of(dataset)["heldout"]["prompt_tokens"]["max"] == len(folder.codec.prompt_ids(changed))
    assert summary_of(dataset)["mix"]["formatted_heldout_rows"] == 1

    tight = len(folder.codec.prompt_ids(dev))
    dataset = folder.build(source, mix=mix, heldout=heldout, max_prompt_tokens=tight)
    (plain,) = read_examples(dataset.heldout)
    assert plain.tools[0] == dev.tools[0]
    assert summary_of(dataset)["mix"]["formatted_heldout_rows"] == 0


def test_held_out_calls_are_held_out_without_their_tool_too(folder: Folder) -> None:
    crowded = [dataclasses.replace(example, tools=(*example.tools, LAMP), kind="") for example in calls("dev", 6)]
    heldout = (folder.write("some.jsonl", [*crowded, *replies("reply", 3, "plain")]),)
    dataset = folder.build(
        folder.write("a.jsonl", calls("a", 20)), mix=MixConfig(rows=10, heldout_near_misses=4), heldout=heldout
    )
    held = read_examples(dataset.heldout)
    near = [example for example in held if example.kind == "irrelevance"]

    assert len(held) == 13
    assert {example.id.removesuffix(" (near miss)") for example in near} < {example.id for example in crowded}
    assert all(example.tools == (LAMP,) and not example.target_calls for example in near)
    assert (
        len(near) == summary_of(dataset)["mix"]["heldout_near_misses"] == summary_of(dataset)["sources"][1]["derived"]
    )
    assert len(near) == 4
    tally = summary_of(dataset)["sources"][1]
    assert tally["kept"] + tally["twice"] == len(held)


def test_a_near_miss_without_room_is_not_held_out(folder: Folder) -> None:
    folder.lines("pool.jsonl", [tool("light_years", "How far it is to a star. " * 4)])
    (call,) = calls("dev", 1)
    heldout = (folder.write("some.jsonl", [call]),)
    source = folder.write("a.jsonl", calls("a", 20))
    mix = MixConfig(rows=10, heldout_near_misses=4, tool_pool="pool.jsonl")

    for room, count in ((400, 1), (len(folder.codec.prompt_ids(call)), 0)):
        dataset = folder.build(source, mix=mix, heldout=heldout, max_prompt_tokens=room)
        assert summary_of(dataset)["mix"]["heldout_near_misses"] == count
        assert summary_of(dataset)["heldout"]["rows"] == 1 + count


def test_lengths_in_the_summary_are_those_of_the_rows_as_written(folder: Folder) -> None:
    sources = [folder.write("a.jsonl", calls("a", 40)), folder.write("b.jsonl", doubles("b", 20))]
    shares = {"irrelevance_share": 0.2, "distractor_share": 0.5, "mask_share": 0.5}
    dataset = folder.build(*sources, mix=MixConfig(rows=50, tool_pool="pool.jsonl", **shares))  # type: ignore[arg-type]
    encoded = [folder.codec.encode(example) for example in train_of(dataset)]
    prompts = sorted(each.prompt_length for each in encoded)
    described = summary_of(dataset)["train"]

    assert described["prompt_tokens"] == {
        "mean": round(sum(prompts) / 50, 1), "p50": prompts[24], "p95": prompts[47], "max": prompts[-1],
    }  # fmt: skip
    assert described["completion_tokens"]["max"] == max(len(each.completion_ids) for each in encoded)


def test_every_row_read_is_accounted_for(folder: Folder) -> None:
    long = [row("long", "word " * 300, "switch_light", tools=(device("light"),))]
    broken = [row("broken", "hi", reply="One.<|im_end|>Two.", tools=(device("light"),))]
    source = folder.write("a.jsonl", [*calls("a", 50), *long, *broken])
    with (folder.path / "a.jsonl").open("a") as file:
        file.write("{\n")
    mix = MixConfig(rows=1000, irrelevance_share=0.1, tool_pool="pool.jsonl")
    dataset = folder.build(dataclasses.replace(source, cap=45), mix=mix, max_bad_share=0.1)
    (tally, _) = summary_of(dataset)["sources"]
    losses = ("bad", "refused", "too_long", "exact", "ngram", "over_cap", "not_drawn")

    assert tally["read"] == 53 == tally["kept"] + sum(tally[loss] for loss in losses)
    assert (tally["bad"], tally["over_cap"]) == (1, 7)


def test_same_seed_writes_the_same_bytes_and_another_does_not(folder: Folder) -> None:
    sources = [folder.write("a.jsonl", calls("a", 60)), folder.write("b.jsonl", doubles("b", 30))]
    shares = {"irrelevance_share": 0.2, "distractor_share": 0.5, "mask_share": 0.5, "parallel_share": 0.3}
    mix = MixConfig(rows=60, tool_pool="pool.jsonl", **shares)  # type: ignore[arg-type]
    written = [
        {path.name: path.read_bytes() for path in folder.build(*sources, mix=mix, seed=seed).folder.iterdir()}
        for seed in (1, 1, 2)
    ]

    assert written[0] == written[1]
    assert written[0]["train.jsonl"] != written[2]["train.jsonl"]


def test_what_becomes_of_a_row_does_not_depend_on_the_order_of_rows(folder: Folder) -> None:
    rows = [*calls("a", 60), *doubles("b", 30)]
    mix = MixConfig(rows=50, tool_pool="pool.jsonl", irrelevance_share=0.1, distractor_share=0.5, mask_share=0.5)
    one, other = (train_of(folder.build(folder.write("a.jsonl", order), mix=mix)) for order in (rows, rows[::-1]))

    assert one == other


def test_without_heldout_rows_a_mix_is_split_by_called_tool(folder: Folder) -> None:
    sources = [folder.write("a.jsonl", calls("a", 80)), folder.write("b.jsonl", calls("b", 80))]
    mix = MixConfig(rows=60)
    dataset = folder.build(*sources, mix=mix, heldout=(), heldout_tool_share=0.25)
    train, heldout = (
        {call.name for example in read_examples(path) for call in example.target_calls}
        for path in (dataset.train, dataset.heldout)
    )

    assert (dataset.train_rows, dataset.heldout_rows) == (60, 40)
    assert len(heldout) == 2
    assert not train & heldout
    assert sorted(heldout) == summary_of(dataset)["split"]["heldout_tools"]


@pytest.mark.parametrize("text", ['{"description": "no name"}\n', "{\n", ""])
def test_bad_tool_pool_stops_in_one_line(folder: Folder, text: str) -> None:
    (folder.path / "pool.jsonl").write_text(text)
    source = folder.write("a.jsonl", calls("a", 5))
    with pytest.raises(DataError, match=r"^tool pool .*pool\.jsonl") as caught:
        folder.build(source, mix=MixConfig(rows=5, tool_pool="pool.jsonl"))
    assert "\n" not in str(caught.value)


def test_unlabelled_prompts_go_to_a_file_of_their_own(folder: Folder) -> None:
    source = folder.write("a.jsonl", calls("a", 10))
    prompts = [{**to_row(example), "messages": list(example.prompt)} for example in calls("a", 12)]
    long = {"id": "long", "messages": [{"role": "user", "content": "word " * 500}], "tools": []}
    folder.lines("open.jsonl", [*prompts, long, to_row(calls("c", 1)[0])])
    open_prompts = SourceConfig(path="open.jsonl", cap=9)
    dataset = folder.build(source, mix=MixConfig(rows=10), unlabelled=(open_prompts,), max_bad_share=0.1)
    read = read_prompts(dataset.unlabelled)
    tally = summary_of(dataset)["sources"][-1]

    assert dataset.unlabelled_rows == len(read) == 9
    assert all(example.target == {"role": "assistant", "content": ""} for example in read)
    assert summary_of(dataset)["unlabelled"]["kinds"] == {}, "without an answer there is no kind"
    assert not {example.id for example in read} & {example.id for example in train_of(dataset)}
    assert (tally["side"], tally["bad"], tally["too_long"], tally["over_cap"]) == ("unlabelled", 1, 1, 3)
    assert json.loads(dataset.unlabelled.read_text().splitlines()[0])["messages"][-1]["role"] == "user"

    folder.build(source, mix=MixConfig(rows=10))
    assert not dataset.unlabelled.exists(), "another build must not find these"


def test_a_mix_takes_the_tools_of_unlabelled_prompts_and_adds_others(folder: Folder) -> None:
    source = folder.write("a.jsonl", calls("a", 10))
    kinds = ["irrelevance", "single"] * 30  # what a file calls its prompts does not answer them
    folder.lines(
        "open.jsonl",
        [
            {**to_row(row), "messages": list(row.prompt), "kind": kind}
            for row, kind in zip(calls("b", 60), kinds, strict=True)
        ],
    )
    folder.lines("pool.jsonl", [*UNRELATED, LAMP, tool("sing", "Sings.")])  # the held-out row calls it
    mix = MixConfig(
        rows=10, tool_pool="pool.jsonl", unlabelled_irrelevance_share=0.5, unlabelled_distractor_share=0.3, max_tools=3
    )
    dataset = folder.build(source, mix=mix, unlabelled=(SourceConfig(path="open.jsonl"),), max_prompt_tokens=900)
    read, summary = read_prompts(dataset.unlabelled), summary_of(dataset)
    refused = [row for row in read if row.has_answer]
    added = sum(len(row.tools) - 1 for row in read)
    crowded = sum(len(row.tools) > 1 for row in read)

    assert dataset.unlabelled_rows == len(read) == 60
    assert 15 <= len(refused) <= 45
    assert {row.kind for row in refused} == {"irrelevance"}
    assert "sing" not in {each["name"] for row in read for each in row.tools}
    assert all(row.target == {"role": "assistant", "content": ""} for row in read if not row.has_answer)
    assert 8 <= crowded <= 30
    confusable = sum(row.id.endswith("(confusable)") for row in refused)
    counts = summary["mix"]
    assert (counts["unlabelled_confusable"], counts["unlabelled_unrelated"]) == (confusable, len(refused) - confusable)
    assert counts["unlabelled_distractors"] == added
    assert summary["mix"]["unlabelled_with_distractors"] == crowded
    tally = summary["sources"][-1]
    assert (tally["side"], tally["kept"], tally["derived"]) == ("unlabelled", 60, len(refused))
    assert summary["unlabelled"]["tools_per_row"]["max"] == 3
    lengths = folder.codec.prompt_lengths(read)
    assert summary["unlabelled"]["prompt_tokens"]["max"] == max(length for length in lengths if isinstance(length, int))


def test_prompts_that_all_vanish_stop_the_build(folder: Folder) -> None:
    source = folder.write("a.jsonl", calls("a", 10))
    long = {"id": "long", "messages": [{"role": "user", "content": "word " * 500}], "tools": []}
    folder.lines("open.jsonl", [long, long])
    with pytest.raises(DataError, match=r"^no unlabelled rows are left \(0 bad, 2 too long\); check `data:`"):
        folder.build(source, mix=MixConfig(rows=10), unlabelled=(SourceConfig(path="open.jsonl"),))
