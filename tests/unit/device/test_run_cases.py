"""Suites on a fake runtime: every case once, over any number of kills."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from star_edge.contracts import Example
from star_edge.errors import RuntimeFailure
from star_edge_device.accuracy import run_cases
from star_edge_device.bundle_files import ChatFiles

CHAT = ChatFiles("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}>", bos_token="<s>")


def run(runtime: Any, examples: list[Example], store: Path, **more: Any) -> Any:
    return run_cases(runtime, examples, CHAT, store=store, **{"max_new_tokens": 9, **more})


def test_every_example_is_asked_once_with_the_bundles_prompt(
    fake_runtime: Callable[..., Any], examples: list[Example], tmp_path: Path
) -> None:
    runtime, seen = fake_runtime("one", "two", "three"), []
    done = run(runtime, examples, tmp_path / "s.jsonl", advance=seen.append)
    assert [entry.generation.text for entry in done] == ["one", "two", "three"]
    assert runtime.asked[0] == ("case-0", "<s>timer 0 é ✓>")  # the assistant's turn is not shown
    assert [entry.is_cold for entry in done] == [True, False, False]
    assert all(entry.load_ms == 12.0 and entry.peak_rss_mib > 1 for entry in done)
    assert seen == [1, 2, 3]


def test_a_failed_run_goes_on_where_it_stopped(
    fake_runtime: Callable[..., Any], examples: list[Example], tmp_path: Path
) -> None:
    store = tmp_path / "s.jsonl"
    with pytest.raises(RuntimeFailure):
        run(fake_runtime("one", RuntimeFailure("engine stopped")), examples, store)
    second = fake_runtime("two", "three")
    done = run(second, examples, store)
    assert [id for id, _ in second.asked] == ["case-1", "case-2"]
    assert [entry.generation.text for entry in done] == ["one", "two", "three"]
    assert [entry.is_cold for entry in done] == [True, True, False]  # each process opened the file once
    third = fake_runtime()
    assert run(third, examples, store) == done
    assert third.asked == []


@pytest.mark.parametrize("change", ["file", "limit", "threads", "prompt"])
def test_answers_of_another_file_or_setting_are_not_reused(
    change: str, fake_runtime: Callable[..., Any], examples: list[Example], tmp_path: Path
) -> None:
    store = tmp_path / "s.jsonl"
    run(fake_runtime("one"), examples[:1], store)
    runtime = fake_runtime("new")
    if change == "file":
        runtime.bundle = replace(runtime.bundle, sha256="beef")
    if change == "threads":
        runtime.threads = 2
    if change == "prompt":
        examples[0] = replace(examples[0], messages=({"role": "user", "content": "x"}, examples[0].target))
    done = run(runtime, examples[:1], store, max_new_tokens=5 if change == "limit" else 9)
    assert done[0].generation.text == "new"
