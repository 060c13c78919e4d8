from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from star_edge.contracts import Generation
from star_edge.errors import ArtifactError, EvaluationError
from star_edge.evaluate.outputs import OutputFile, read_answers, read_outputs

KEY = {"checkpoint": "abc", "max_new_tokens": "512"}


def generation(id: str, text: str = "hello") -> Generation:
    return Generation(id, text, (1, 2), prompt_tokens=7)


def write(path: Path, *ids: str, key: dict[str, str] = KEY) -> None:
    file = OutputFile(path, key)
    for id in ids:
        file.add(generation(id, f"text of {id} ☕"))
    file.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "a", "text": "x"}\n{"id": "b"', ":2: broken JSON"),
        ('{"id": "a", "text": "x"}\n\n{"id": "a", "text": "y"}\n', ":3: id 'a' is there already"),
        ('{"id": "a"}\n', ":1: no string 'text'"),
        ('{"text": "x"}\n', ":1: no string 'id'"),
        ('{"id": 7, "text": "x"}\n', ":1: no string 'id'"),
        ('["a", "x"]\n', ":1: no string 'id'"),
        ('{"id": "a", "text": "\xff"}\n', ":1: broken JSON"),
        ('{"id": "a", "text": "x", "more": ' + "[" * 200_000, ":1: broken JSON (maximum recursion depth exceeded"),
    ],
)
def test_bad_outputs_are_one_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(EvaluationError) as caught:
        read_outputs(path)
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)


def test_outputs_keep_their_text_and_order(tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    rows = [{"id": "b", "text": "x\u2028\u0085y"}, {"id": "a", "text": "", "more": 1}]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    assert list(read_outputs(path).items()) == [("b", "x\u2028\u0085y"), ("a", "")]


def test_a_prompt_without_room_has_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    with closing(OutputFile(path, KEY)) as file:
        file.add(Generation("no-room", "", (), 900, stopped=False))
        file.add(Generation("silent", "", (), 9))
        file.add(Generation("cut", "x", (1,), 9, stopped=False))
    assert read_answers(path) == {"no-room": None, "silent": "", "cut": "x"}
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text('{"id": "a", "text": ""}\n')
    assert read_answers(foreign) == {"a": ""}


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot read"):
        read_outputs(tmp_path / "none.jsonl")


def test_answers_are_on_disk_as_soon_as_they_are_added(tmp_path: Path) -> None:
    path = tmp_path / "new" / "outputs.jsonl"
    file = OutputFile(path, KEY)
    file.add(generation("a"))
    assert read_outputs(path) == {"a": "hello"}


def test_a_line_cut_short_is_dropped_and_the_rest_kept(tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    write(path, "a", "b")
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    again = OutputFile(path, KEY)
    assert list(again.texts) == ["a"]
    again.add(generation("b", "text of b ☕"))
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ({**KEY, "max_new_tokens": "64"}, r"another max_new_tokens \(512, not 64\)"),
        ({**KEY, "suite": "bfcl"}, r"another suite \(None, not bfcl\)"),
        ({"checkpoint": "abc"}, r"another max_new_tokens \(512, not None\)"),
    ],
)
def test_answers_made_otherwise_are_refused_and_kept(key: dict[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    write(path, "a")
    with pytest.raises(ArtifactError, match=message + "; choose another --out, or --force"):
        OutputFile(path, key)
    assert list(OutputFile(path, KEY).texts) == ["a"]


def test_answers_to_other_prompts_are_refused_whatever_else_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    with closing(OutputFile(path, KEY, prompts={"a": "1", "b": "2"})) as file:
        file.add(generation("a"))
    assert list(OutputFile(path, KEY, prompts={"a": "1", "c": "3"}).texts) == ["a"]
    assert list(OutputFile(path, KEY, prompts={"c": "3"}).texts) == ["a"]
    with pytest.raises(ArtifactError, match=r"another prompt for 'a' \(template.* choose another --out, or --force"):
        OutputFile(path, KEY, prompts={"a": "4"})
    assert OutputFile(path, KEY, prompts={"a": "4"}, force=True).texts == {}


def test_answers_that_do_not_say_to_what_prompt_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    write(path, "a")
    with pytest.raises(ArtifactError, match="another prompt for 'a'"):
        OutputFile(path, KEY, prompts={"a": "1"})


def test_force_starts_over(tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    write(path, "a")
    other = {**KEY, "checkpoint": "def"}
    assert OutputFile(path, other, force=True).texts == {}
    assert OutputFile(path, other).texts == {}


def test_force_keeps_answers_that_were_made_alike(tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    write(path, "a")
    assert list(OutputFile(path, KEY, force=True).texts) == ["a"]


def test_answers_without_a_key_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    path.write_text('{"id": "a", "text": "x"}\n')
    with pytest.raises(ArtifactError, match="no key file beside it"):
        OutputFile(path, KEY)
