"""`star-edge reward audit` on a stand-in for the wheel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_bfcl
from click.testing import CliRunner, Result

from star_edge.cli import main


@pytest.fixture(autouse=True)
def wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny_bfcl.install(monkeypatch, tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["reward", "audit", *arguments])


def test_all_rewards_are_audited_and_printed() -> None:
    result = run("--answers", "200")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("200 perturbed answers to ")
    assert {"star", "typed", "binary"} <= {line.split(" ")[0] for line in result.stdout.splitlines()}


def test_some_rewards_as_json() -> None:
    result = run("--answers", "100", "--reward", "typed", "--reward", "typed", "--seed", "3", "--json")
    report = json.loads(result.stdout)
    assert [row["reward"] for row in report["rewards"]] == ["typed"]
    assert (report["answers"], report["seed"]) == (100, 3)
    assert sum(report["rewards"][0][share] for share in ("in_order", "tied", "inverted")) == pytest.approx(1.0)


def test_the_page_says_how_it_was_made_and_holds_no_answer_of_the_suite(tmp_path: Path) -> None:
    page = tmp_path / "new" / "rewards.md"
    assert run("--answers", "100", "--reward", "star", "--markdown", str(page)).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert f"`star-edge reward audit --reward star --answers 100 --seed 0 --markdown {page}`" in text
    assert "bfcl-eval 2026.3.23" in text
    assert not any(f'"{room}"' in text for room in tiny_bfcl.ROOMS)


def test_a_page_that_is_there_is_replaced_only_when_told(tmp_path: Path) -> None:
    page = tmp_path / "rewards.md"
    page.write_text("mine")
    asked = ("--answers", "100", "--reward", "star", "--markdown", str(page))
    refused = run(*asked)
    assert (refused.exit_code, refused.stdout, page.read_text()) == (1, "", "mine")
    assert "rewards.md: is there already; give --markdown another file, or --force" in refused.stderr
    assert run(*asked, "--force").exit_code == 0
    assert page.read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--answers", "100000"], 1, "perturbed answers, not 100000; ask for fewer"),
        (["--reward", "moon"], 2, "'moon' is not one of 'star', 'typed', 'binary'"),
        (["--force"], 2, "--force is for --markdown, which is not given"),
        (["--answers", "0"], 2, "0 is not in the range x>=1"),
    ],
)
def test_failures_are_one_line(arguments: list[str], code: int, message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    if code == 1:
        assert result.stderr.strip().count("\n") == 0
