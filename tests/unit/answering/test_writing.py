"""Rows that a model writes for functions: what is sampled, kept, and said."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_vllm
import pytest
from click.testing import CliRunner, Result

from star_edge.answering import samples, writing
from star_edge.cli import main
from star_edge.contracts import Example
from star_edge.data.chat import ChatCodec
from star_edge.data.normalise import read_unlabelled
from star_edge.data.rows import read_examples, read_prompts, write_examples
from star_edge.data.written import wishes
from star_edge.models.load import load_tokenizer, read_template
from star_edge.models.sampling import Sample

CITIES = ["Rome", "Oslo", "Lima", "Kiel"]


def arguments(cities: Sequence[str]) -> str:
    return "".join(f'Arguments: {{"city": "{city}"}}\n' for city in cities)


class Writer:
    """Writes one request that says its value, the same one again, and one that does not, for each function.

    Read back, Rome is what it was for every function but those in `misread`. It `dies_after` so many are read back;
    where answers are cut short, `stopped` is false.
    """

    context = 1024  # a tiny model has less than the prompts need
    dies_after = 99
    stopped = True
    closed = 0
    asked = 0
    read = 0
    misread = ""

    def __init__(self, folder: Path, device: str) -> None:
        self.codec = ChatCodec(load_tokenizer(folder), read_template(folder))

    def batch_size(self, config: samples.SamplingConfig) -> int:
        return 2

    def sample(self, prompts: Sequence[Sequence[int]], config: samples.SamplingConfig, *, seed: int) -> list[list[Any]]:
        texts = [self.codec.tokenizer.decode(list(prompt)) for prompt in prompts]
        if config.temperature == 0:
            if self.read >= self.dies_after:
                raise KeyboardInterrupt
            type(self).read += len(prompts)
            return [[self.answer(self.read_back(text))] for text in texts]
        type(self).asked += len(prompts)
        return [[self.answer(self.written(text, number)) for number in range(config.samples)] for text in texts]

    def written(self, prompt: str, number: int) -> str:
        if several := re.search(r"(\d) lines that begin", prompt):
            cities = CITIES[: int(several.group(1))]
            return f"{arguments(cities)}Person: How will it be in {' and '.join(cities)}?"
        return f"{arguments(['Rome' if number < 2 else 'Oslo'])}Person: How will it be in Rome?"

    def read_back(self, prompt: str) -> str:
        if self.misread and f"forecast_{self.misread}" in prompt:
            return arguments(["Bonn"])
        return arguments([city for city in CITIES if city in prompt.rpartition("Person:")[2]])

    def answer(self, text: str) -> Any:
        ids = self.codec.tokenizer.encode(text + "<|im_end|>", add_special_tokens=False)
        return Sample(tuple(ids), self.stopped, None, None)  # type: ignore[arg-type]

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    Writer.asked = Writer.read = Writer.closed = 0
    Writer.misread, Writer.dies_after, Writer.stopped = "", 99, True
    monkeypatch.setattr(samples, "_TorchSampler", Writer)
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"name": f"forecast_{place}", "description": "Weather.", "parameters": city} for place in "abc"]
    (tmp_path / "tools.jsonl").write_text("".join(json.dumps(tool) + "\n" for tool in tools))
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "dim", "arguments": {"level": 3}}]}
    level = {"type": "object", "properties": {"level": {"type": "integer"}}}
    dim = {"name": "dim", "description": "Dim.", "parameters": level}
    shown = Example("shown", "test", ({"role": "user", "content": "Dim to 3"}, call), (dim,))
    write_examples(tmp_path / "rows.jsonl", [shown])
    return tmp_path


def write(files: Path, model: Path, *more: str, like: str = "rows.jsonl") -> Result:
    given = [str(files / "tools.jsonl"), "--like", str(files / like), "--model", str(model), "--samples", "3"]
    given += ["--max-new-tokens", "9"]  # of the room in a tiny context; the writer writes what it likes
    return CliRunner().invoke(main, ["data", "write", *given, "--out", str(files / "out.jsonl"), *more])


def test_a_row_for_every_function_and_the_command_goes_on(files: Path, tiny_student: Path) -> None:
    result = write(files, tiny_student, "--parallel-share", "0", "--limit", "2")
    assert result.exit_code == 0, result.output
    assert "2 rows of 2 functions; 4 of 6 samples kept" in result.stdout
    again = write(files, tiny_student, "--parallel-share", "0", "--force", "--json")
    assert json.loads(again.stdout) == {
        "rows": 3,
        "heldout_rows": 0,
        "functions": 3,
        "samples": 9,
        "kept": 6,
        "without_room": 0,
        "prompts": 0,
    }
    assert (Writer.asked, Writer.read) == (3, 6)
    rows = read_examples(files / "out.jsonl")
    assert [row.target_calls[0].name for row in rows] == ["forecast_a", "forecast_b", "forecast_c"]
    assert {row.prompt[0]["content"] for row in rows} == {"How will it be in Rome?"}


def test_a_call_that_does_not_come_back_is_no_row(files: Path, tiny_student: Path) -> None:
    Writer.misread = "b"
    assert write(files, tiny_student, "--parallel-share", "0").exit_code == 0
    assert [row.target_calls[0].name for row in read_examples(files / "out.jsonl")] == ["forecast_a", "forecast_c"]
    assert (files / "out.read-back.jsonl").exists()
    assert Writer.closed == 1


def test_samples_that_are_cut_short_are_no_rows(files: Path, tiny_student: Path) -> None:
    Writer.stopped = False
    assert "none of 9 samples" in write(files, tiny_student).stderr


def test_a_kill_while_reading_back_loses_the_batch_it_was_at(files: Path, tiny_student: Path) -> None:
    Writer.dies_after = 4
    assert write(files, tiny_student, "--parallel-share", "0").exit_code != 0
    assert not (files / "out.jsonl").exists()
    Writer.dies_after = 99
    assert write(files, tiny_student, "--parallel-share", "0").exit_code == 0
    assert (Writer.asked, Writer.read, len(read_examples(files / "out.jsonl"))) == (3, 6, 3)


def test_parameters_that_were_not_asked_for_are_no_rows(files: Path, tiny_student: Path) -> None:
    """Of ten functions with an optional parameter some are asked for it, and the writer always gives it."""
    place = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [{"name": f"forecast_{number}", "description": "Weather.", "parameters": place} for number in range(10)]
    (files / "tools.jsonl").write_text("".join(json.dumps(tool) + "\n" for tool in tools))
    assert write(files, tiny_student, "--parallel-share", "0").exit_code == 0
    asked = {wish.tool["name"] for wish in wishes(tools, parallel_share=0.0, seed=17) if wish.parameters}
    assert 0 < len(asked) < 10
    assert {row.target_calls[0].name for row in read_examples(files / "out.jsonl")} == asked


def test_rows_of_some_functions_are_held_out_whole(files: Path, tiny_student: Path) -> None:
    result = write(files, tiny_student, "--parallel-share", "1", "--heldout-share", "0.5")
    assert result.exit_code == 0, result.output
    trained, held = (
        {call.name for row in read_examples(files / name) for call in row.target_calls}
        for name in ("out.jsonl", "out.dev.jsonl")
    )
    assert (bool(trained), bool(held), trained & held) == (True, True, set())
    assert trained | held == {"forecast_a", "forecast_b", "forecast_c"}
    assert "held-out rows of 3 functions" in result.stdout
    assert f"{files / 'out.dev.jsonl'} under data.heldout" in result.stderr
    # All of them train again, and nothing is asked anew.
    assert write(files, tiny_student, "--parallel-share", "1", "--force").exit_code == 0
    assert Writer.asked == 3


def test_rows_that_are_all_held_out_are_no_success(files: Path, tiny_student: Path) -> None:
    result = write(files, tiny_student, "--heldout-share", "0.999", "--parallel-share", "0")
    assert result.exit_code == 1
    assert "all 3 rows are of functions that are held out; lower --heldout-share" in result.stderr
    assert not (files / "out.dev.jsonl").exists()


def test_a_file_in_the_place_of_held_out_rows_is_left_alone(files: Path, tiny_student: Path) -> None:
    (files / "out.dev.jsonl").write_text("mine")
    result = write(files, tiny_student, "--heldout-share", "0.5")
    assert result.exit_code == 1
    assert "out.dev.jsonl: is there already" in result.stderr
    assert (files / "out.dev.jsonl").read_text() == "mine"
    assert write(files, tiny_student).exit_code == 0  # without held-out rows it is not in the way


def test_requests_whose_arguments_were_not_kept_become_prompts(files: Path, tiny_student: Path) -> None:
    """Of a function each once, and none that a row of it has: the writer says the same three times."""
    Writer.misread = "b"
    result = write(files, tiny_student, "--parallel-share", "0", "--prompts-too")
    assert result.exit_code == 0, result.output
    assert "4 of 9 samples kept; 1 requests without an answer" in result.stdout
    assert result.stderr.strip().endswith(f"recipe, {files / 'out.prompts.jsonl'} under data.unlabelled")
    (prompt,) = read_prompts(files / "out.prompts.jsonl")
    assert (prompt.id, [tool["name"] for tool in prompt.tools]) == ("written-1-forecast_b-0", ["forecast_b"])
    assert [message["role"] for message in prompt.prompt] == ["user"]
    assert "kind" not in json.loads((files / "out.prompts.jsonl").read_text())
    assert len(read_unlabelled(files / "out.prompts.jsonl")[0]) == 1


def test_no_prompt_is_of_a_function_that_is_held_out(files: Path, tiny_student: Path) -> None:
    settings = ["--parallel-share", "0", "--heldout-share", "0.5"]
    assert write(files, tiny_student, *settings).exit_code == 0
    held = {call.name for row in read_examples(files / "out.dev.jsonl") for call in row.target_calls}
    Writer.misread = min(held)[-1]
    for file in files.glob("out.read-back.*"):
        file.unlink()
    result = write(files, tiny_student, *settings, "--prompts-too", "--force", "--json")
    assert json.loads(result.stdout)["kept"] == 4
    assert not read_prompts(files / "out.prompts.jsonl")


def test_a_request_that_is_cut_short_or_differs_by_case_from_a_row_is_no_prompt(
    files: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the three samples the first two make a row; the third is other words."""
    answer = Writer.answer
    settings = ("--parallel-share", "0", "--prompts-too", "--force")

    def prompts(request: str, stopped: bool, seed: int) -> set[str]:
        def other(self: Writer, text: str) -> Any:
            if "Oslo" not in text:
                return answer(self, text)
            return replace(answer(self, text.replace("How will it be in Rome?", request)), stopped=stopped)

        monkeypatch.setattr(Writer, "answer", other)
        assert write(files, tiny_student, *settings, "--seed", str(seed)).exit_code == 0
        return {row.prompt[0]["content"] for row in read_prompts(files / "out.prompts.jsonl")}

    assert prompts("What of the weather?", stopped=True, seed=1) == {"What of the weather?"}
    assert not prompts("What of the weather?", stopped=False, seed=2)
    assert not prompts("HOW WILL IT BE IN ROME?", stopped=True, seed=3)


def test_a_file_in_the_place_of_prompts_is_left_alone(files: Path, tiny_student: Path) -> None:
    (files / "out.prompts.jsonl").write_text("mine")
    result = write(files, tiny_student, "--prompts-too")
    assert result.exit_code == 1
    assert "out.prompts.jsonl: is there already" in result.stderr
    assert (files / "out.prompts.jsonl").read_text() == "mine"
    assert write(files, tiny_student).exit_code == 0  # without prompts it is not in the way


def test_files_beside_the_rows_that_are_not_made_anew_are_told(files: Path, tiny_student: Path) -> None:
    assert write(files, tiny_student, "--parallel-share", "0", "--prompts-too").exit_code == 0
    result = write(files, tiny_student, "--parallel-share", "0", "--force")
    assert "out.prompts.jsonl: does not belong to the rows of this run" in result.stderr
    assert "out.dev.jsonl" not in result.stderr


def test_a_kill_between_the_files_is_gone_on_from(
    files: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, rows: object) -> None:
        raise KeyboardInterrupt

    settings = ("--parallel-share", "0", "--heldout-share", "0.5", "--prompts-too")
    with monkeypatch.context() as patched:
        patched.setattr(writing, "write_examples", killed)
        assert write(files, tiny_student, *settings).exit_code != 0
    assert (files / "out.dev.jsonl").exists()
    assert (files / "out.prompts.jsonl").exists()
    assert not (files / "out.jsonl").exists()
    assert write(files, tiny_student, *settings).exit_code == 0
    assert Writer.asked == 3
    # Another's file is seen although samples are there.
    (files / "out.jsonl").unlink()
    (files / "out.dev.jsonl").write_text("mine")
    assert "out.dev.jsonl: is there already" in write(files, tiny_student, *settings).stderr
    assert not (files / "out.jsonl").exists()


@pytest.mark.parametrize(("name", "more"), [("out.dev.jsonl", "--force"), ("out.prompts.jsonl", "--force")])
def test_no_file_that_is_read_is_written_over(files: Path, tiny_student: Path, name: str, more: str) -> None:
    (files / "rows.jsonl").rename(files / name)
    result = write(files, tiny_student, "--prompts-too", "--heldout-share", "0.5", more, like=name)
    assert result.exit_code == 2
    assert f"{name}, a file that this command reads" in result.stderr


def test_one_request_asks_for_several_calls_of_a_function(files: Path, tiny_student: Path) -> None:
    assert write(files, tiny_student, "--parallel-share", "1").exit_code == 0
    rows = read_examples(files / "out.jsonl")
    called = Counter(call.name for row in rows for call in row.target_calls)
    assert called.keys() == {"forecast_a", "forecast_b", "forecast_c"}
    assert all(2 <= count <= 4 for count in called.values())
    assert {row.kind for row in rows} == {"parallel"}


def test_samples_of_which_no_row_comes_are_no_success(files: Path, tiny_student: Path) -> None:
    result = write(files, tiny_student, "--max-new-tokens", "1000")
    assert result.exit_code == 1
    assert "none of 9 samples is a call" in result.stderr
    assert result.stderr.strip().endswith("3 of 3 functions have no room in the model's context; give a larger model")
    assert not (files / "out.jsonl").exists()


def test_rows_with_nothing_to_show_are_refused(files: Path, tiny_student: Path) -> None:
    (files / "replies.jsonl").write_text(
        json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}) + "\n"
    )
    result = write(files, tiny_student, like="replies.jsonl")
    assert result.exit_code == 1
    assert result.stderr.strip().endswith("answers; give other rows")
    assert Writer.asked == 0


@pytest.mark.parametrize(("seeded", "batch_size"), [(True, 256), (False, 1024)])
def test_vllm_draws_from_a_stream_a_prompt_or_from_one(
    tiny_student: Path, monkeypatch: pytest.MonkeyPatch, seeded: bool, batch_size: int
) -> None:
    fake = fake_vllm.install(monkeypatch, lambda *_: [5])
    config = samples.SamplingConfig(samples=2, seeded_requests=seeded)
    sampler = samples._VllmSampler(tiny_student, config)
    assert sampler.batch_size(config) == batch_size
    assert [len(drawn) for drawn in sampler.sample([[1, 2], [3]], config, seed=7)] == [2, 2]
    assert [settings.seed is not None for _, given in fake.calls for settings in given] == [seeded, seeded]
    sampler.close()
