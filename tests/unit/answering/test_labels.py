"""Prompts to rows by a model's agreement: what is kept, what goes on after a kill."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiny_bundles import requests

from star_edge.answering import samples
from star_edge.answering.labels import LabelConfig, Labelled, label
from star_edge.calls.parse import format_calls
from star_edge.cli import main
from star_edge.contracts import Example
from star_edge.data.chat import ChatCodec
from star_edge.data.rows import read_examples
from star_edge.errors import ArtifactError, EvaluationError
from star_edge.models.load import load_tokenizer, read_template
from star_edge.models.sampling import Sample

CONFIG = LabelConfig(samples=4, max_new_tokens=64, rows_per_forward=8)
PROMPTS = [replace(e, messages=(*e.prompt, {"role": "assistant", "content": ""})) for e in requests(6)]
RIGHT = {example.id: format_calls(example.target_calls) for example in requests(6)}


class Scripted:
    """Answers every prompt rightly in so many of its samples; the others are a reply or do not end."""

    context = 512
    right = 3
    dies_after = 99
    asked: list[int]

    def __init__(self, folder: Path, device: str) -> None:
        self.codec = ChatCodec(load_tokenizer(folder), read_template(folder))
        type(self).asked = []

    def batch_size(self, config: LabelConfig) -> int:
        return 2

    def sample(self, prompts: Sequence[Sequence[int]], config: LabelConfig, *, seed: int) -> list[list[Any]]:
        if len(self.asked) == self.dies_after:
            raise KeyboardInterrupt
        self.asked.append(seed)
        texts = {tuple(self.codec.prompt_ids(example)): RIGHT[example.id] for example in PROMPTS}
        return [self.answers(texts[tuple(prompt)], config) for prompt in prompts]

    def answers(self, right: str, config: LabelConfig) -> list[Any]:
        texts = [right] * self.right + ["Sorry."] * (config.samples - self.right)
        ids = [tuple(self.codec.tokenizer.encode(text + "<|im_end|>", add_special_tokens=False)) for text in texts]
        return [Sample(each, True, None, None) for each in ids]  # type: ignore[arg-type]

    def close(self) -> None:
        pass


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> type[Scripted]:
    kind = type("OneTest", (Scripted,), {})
    monkeypatch.setattr(samples, "_TorchSampler", kind)
    return kind


def run(model: Path, out: Path, config: LabelConfig = CONFIG, **more: Any) -> Labelled:
    prompts: list[Example] = more.pop("prompts", PROMPTS)
    return label(prompts, str(model), config, out, **more)


@pytest.mark.parametrize(("right", "agreement", "rows"), [(3, 0.75, 6), (2, 0.75, 0), (2, 0.5, 6), (4, 1.0, 6)])
def test_prompts_are_kept_when_enough_samples_agree(
    scripted: type[Scripted], tiny_student: Path, tmp_path: Path, right: int, agreement: float, rows: int
) -> None:
    scripted.right = right
    done = run(tiny_student, tmp_path / "rows.jsonl", replace(CONFIG, agreement=agreement))
    kept = read_examples(tmp_path / "rows.jsonl")

    assert done == Labelled(rows, 6 - rows, 0)
    assert [example.target_calls for example in kept] == [example.target_calls for example in requests(6)][:rows]


def test_a_killed_run_asks_only_what_is_left_and_ends_the_same(
    scripted: type[Scripted], tiny_student: Path, tmp_path: Path
) -> None:
    run(tiny_student, tmp_path / "whole.jsonl")
    whole = scripted.asked
    scripted.dies_after = 1
    with pytest.raises(KeyboardInterrupt):
        run(tiny_student, tmp_path / "rows.jsonl")
    assert not (tmp_path / "rows.jsonl").exists()
    scripted.dies_after = 99
    run(tiny_student, tmp_path / "rows.jsonl")

    assert scripted.asked == whole[1:]
    for name in ("rows.jsonl", "rows.samples.jsonl"):
        assert (tmp_path / name).read_bytes() == (tmp_path / name.replace("rows", "whole")).read_bytes()


def test_another_agreement_draws_nothing_anew(scripted: type[Scripted], tiny_student: Path, tmp_path: Path) -> None:
    run(tiny_student, tmp_path / "rows.jsonl")
    scripted.dies_after = 0
    done = run(tiny_student, tmp_path / "rows.jsonl", replace(CONFIG, agreement=1.0), force=True)

    assert done.rows == 0


def test_a_wider_limit_asks_only_the_new_prompts(scripted: type[Scripted], tiny_student: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    assert run(tiny_student, out, limit=2).rows == 2
    first = (tmp_path / "rows.samples.jsonl").read_text()
    with pytest.raises(ArtifactError, match="is there already"):
        run(tiny_student, out, limit=5)
    assert run(tiny_student, out, limit=5, force=True).rows == 5
    assert len(scripted.asked) == 2, "three prompts in batches of two"
    assert (tmp_path / "rows.samples.jsonl").read_text().startswith(first)
    assert run(tiny_student, out, limit=3, force=True).rows == 3


def test_hub_id_takes_a_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def fetch(repository: str, **more: Any) -> str:
        asked.append((repository, more["revision"]))
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    (tmp_path / "p.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "hi"}], "tools": []}) + "\n")
    command = [
        "data",
        "label",
        str(tmp_path / "p.jsonl"),
        "--model",
        "some/model",
        "--out",
        str(tmp_path / "rows.jsonl"),
    ]
    without = CliRunner().invoke(main, command)
    given = CliRunner().invoke(main, [*command, "--revision", "abc"])

    assert "--revision in a command" in without.stderr
    assert "some/model@abc: cannot be fetched (no network)" in given.stderr
    assert asked == [("some/model", "abc")]


def test_rows_and_samples_of_others_are_kept(scripted: type[Scripted], tiny_student: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    run(tiny_student, out)
    with pytest.raises(ArtifactError, match="is there already; choose another --out, or --force"):
        run(tiny_student, out)
    out.unlink()
    with pytest.raises(ArtifactError, match="made with another temperature"):
        run(tiny_student, out, replace(CONFIG, temperature=0.5))
    assert run(tiny_student, out, replace(CONFIG, temperature=0.5), force=True).rows == 6


def test_bundle_is_not_sampled_from(gguf_bundle: Any, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="give the checkpoint it was exported from"):
        run(gguf_bundle.folder, tmp_path / "rows.jsonl")


def test_prompts_beyond_the_context_are_counted(tiny_student: Path, tmp_path: Path) -> None:
    long = replace(
        PROMPTS[0], id="long", messages=({"role": "user", "content": "word " * 600}, *PROMPTS[0].messages[1:])
    )
    config = replace(CONFIG, samples=2, max_new_tokens=4)
    done = run(tiny_student, tmp_path / "rows.jsonl", config, prompts=[long, PROMPTS[1]])

    assert done == Labelled(rows=0, disagreed=1, without_room=1)


def test_the_same_seed_draws_the_same_samples(tiny_student: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, samples=2, max_new_tokens=8)
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(tiny_student, tmp_path / f"{name}.jsonl", replace(config, seed=seed), prompts=PROMPTS[:2])
        texts.append((tmp_path / f"{name}.samples.jsonl").read_text())

    assert texts[0] == texts[1] != texts[2]


def test_command_labels_a_file_of_prompts(scripted: type[Scripted], tiny_student: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "prompts.jsonl", tmp_path / "rows.jsonl"
    lines = ({"id": e.id, "messages": list(e.prompt), "tools": list(e.tools)} for e in PROMPTS)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = CliRunner().invoke(
        main, ["data", "label", str(file), "--model", str(tiny_student), "--out", str(out), "--limit", "4"]
    )

    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}  4 rows; 0 without agreement\n"
    assert len(read_examples(out)) == 4


def test_prompts_without_room_are_told_where_there_are_any(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = tmp_path / "prompts.jsonl", tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"messages": list(PROMPTS[0].prompt), "tools": list(PROMPTS[0].tools)}) + "\n")
    done = Labelled(rows=0, disagreed=1, without_room=3)
    monkeypatch.setattr("star_edge.answering.labels.label", lambda *_, **__: done)
    result = CliRunner().invoke(main, ["data", "label", str(file), "--model", str(tiny_student), "--out", str(out)])
    assert result.stdout == f"{out}  0 rows; 1 without agreement, 3 too long\n"


def test_command_refuses_rows_that_have_an_answer(tiny_student: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    answered = requests(1)[0]
    file.write_text(json.dumps({"messages": list(answered.messages), "tools": list(answered.tools)}) + "\n")
    arguments = ["data", "label", str(file), "--model", str(tiny_student), "--out", str(tmp_path / "new.jsonl")]
    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "rows.jsonl:1: a prompt without an answer ends with the user's turn" in result.stderr


def test_a_file_named_as_compressed_is_refused_before_anything_is_drawn(
    scripted: type[Scripted], tiny_student: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match=r"does not end with .gz"):
        run(tiny_student, tmp_path / "rows.jsonl.gz")
    assert not any(tmp_path.iterdir())
