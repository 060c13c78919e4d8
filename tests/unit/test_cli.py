from __future__ import annotations

import errno
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import click
import pytest
from click.testing import CliRunner
from tiny_runs import write_tiny_recipe

from star_edge.cli import main
from star_edge.contracts import Bundle

ROOT = Path(__file__).parents[2]
TINY = """\
name: tiny
teacher: {source: ./nowhere}
student: {source: ./nowhere}
data: {train: [{path: rows.jsonl}]}
"""


def commands(
    command: click.Command = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if path:
        yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, (*path, name))


COMMANDS = dict(commands())


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example_and_documented_options(path: tuple[str, ...]) -> None:
    for flag in ("-h", "--help"):
        shown = CliRunner().invoke(main, [*path, flag])
        assert shown.exit_code == 0
        assert "Example:" in shown.output
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} has no help"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_example_in_every_help_text_parses(path: tuple[str, ...]) -> None:
    example = (COMMANDS[path].help or "").split("Example:")[1].replace("\\\n", " ")
    for line in example.strip().splitlines():
        assert parses(shlex.split(line.strip())), line


def readme_commands() -> list[str]:
    blocks = re.findall(r"```(?:sh|console|bash)\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [
        re.split(" #| > ", line.removeprefix("$ "))[0].strip()
        for line in lines
        if "star-edge " in line and not line.startswith("#")
    ]


@pytest.mark.parametrize("line", readme_commands())
def test_every_command_in_the_readme_parses(line: str) -> None:
    assert parses(shlex.split(line)), line


def parses(words: list[str]) -> bool:
    """True when click accepts the words; nothing is run."""
    assert words[0] == "star-edge", words
    command: click.Command = main
    arguments = words[1:]
    context = click.Context(main, **main.context_settings)
    while isinstance(command, click.Group) and arguments:
        name, child, arguments = command.resolve_command(context, arguments)
        assert child is not None, f"{name} is no command"
        command = child
    # A command keeps the help option that it is first asked for: without this parent one that knows no -h.
    command.make_context("star-edge", arguments, parent=context)
    return True


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["distill", "quickstrat"], 1, "Error: recipe quickstrat: no such file; did you mean 'quickstart/star.yaml'?"),
        (["distill", "quickstart", "--set", "distil.objective=ce"], 1, "unknown key 'distil'; did you mean 'distill'?"),
        (["distill", "{recipe}"], 1, "Error: ./nowhere: not found; give a folder, a .gguf file"),
        (["distill", "quickstart", "--until", "soon", "--out", "{new}"], 2, "'soon' is no stage"),
        (["distill", "quickstart", "--until", "soon", "--dry-run"], 2, "'soon' is no stage; there are: base, data"),
        (["distill"], 2, "Missing argument 'RECIPE'"),
        (["report", "{folder}"], 2, "is not a run of star-edge"),
        (["parity", "{folder}"], 1, "report.json: no such file"),
        (["validate", "{folder}", "--cases", "{rows}", "--out", "{new}"], 1, "manifest.json: no such file"),
        (["export", "{new}", "--out", "{folder}/x"], 1, "no such folder"),
        (["export", "{folder}", "--gguf", "Q9", "--out", "{new}"], 2, "Invalid enum value 'Q9'; there are F16, Q8_0"),
        (["recipes", "check", "{recipe}"], 1, "./nowhere: not found"),
        (["data", "check", "{new}"], 1, "No such file"),
    ],
)  # fmt: skip
def test_failures_are_one_line_with_the_right_exit_code(
    arguments: list[str], code: int, message: str, recipe: Path, tmp_path: Path
) -> None:
    places = {"recipe": recipe, "folder": tmp_path, "rows": tmp_path / "rows.jsonl", "new": tmp_path / "new"}
    result = CliRunner().invoke(main, [argument.format(**places) for argument in arguments])
    assert result.exit_code == code, result.output
    assert message in result.stderr
    if code == 1:
        assert result.stderr.strip().count("\n") == 0
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device", "ckd/model"), RuntimeError("I/O error: No space left on device")],
    ids=["from Python", "from native code"],
)
def test_a_full_disk_anywhere_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_name: str) -> None:
        raise error

    monkeypatch.setattr("star_edge.recipe.find", full)
    result = CliRunner().invoke(main, ["distill", "quickstart"])
    assert result.exit_code == 1
    assert "no space left; free some and run the same command again" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["distill", "{recipe}", "--until", "base"],
        ["evaluate", "{model}", "--suite", "{requests}"],
        ["data", "synth", "recipes/quickstart/requests.yaml"],
        ["export", "{model}"],
    ],
    ids=lambda words: words[0],
)
def test_a_file_where_a_folder_is_due_is_one_line(arguments: list[str], tiny_student: Path, tmp_path: Path) -> None:
    (tmp_path / "afile").write_text("mine")
    recipe = write_tiny_recipe(tmp_path / "recipe", tiny_student)
    places = {"recipe": recipe, "model": tiny_student, "requests": recipe.with_name("heldout.jsonl")}
    out = tmp_path / "afile" / "x"
    result = CliRunner().invoke(main, [*(word.format(**places) for word in arguments), "--out", str(out)])
    assert result.exit_code == 1, result.output
    said = f"Error: {out}: cannot be read or written (Not a directory); mend that, or choose another path"
    assert result.stderr.strip().splitlines()[-1] == said
    assert (tmp_path / "afile").read_text() == "mine"


@pytest.mark.parametrize("error", [OSError("no file in sight"), KeyError()], ids=repr)
def test_errors_of_no_file_keep_their_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_edge.recipe.find", Mock(side_effect=error))
    with pytest.raises(type(error)):
        CliRunner().invoke(main, ["distill", "quickstart"], catch_exceptions=False)


def test_a_reader_of_stdout_that_went_away_is_not_spoken_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_edge.recipe.find", Mock(side_effect=BrokenPipeError(errno.EPIPE, "Broken pipe")))
    result = CliRunner().invoke(main, ["distill", "quickstart"])
    assert (result.exit_code, result.stderr) == (1, "")


def test_ctrl_c_says_that_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("star_edge.recipe.find", interrupted)
    result = CliRunner().invoke(main, ["distill", "quickstart"])
    assert result.exit_code == 130
    assert result.stderr == "Stopped. The same command goes on from what is finished.\n"


def test_synth_finds_packaged_grammars_and_keeps_rows_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["data", "synth", "recipes/quickstart/requests.yaml", "--out", "rows"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    before = (tmp_path / "rows" / "train.jsonl").read_bytes()
    assert before.count(b"\n") == 1200
    again = CliRunner().invoke(main, [*arguments, "--seed", "3"])
    assert again.exit_code == 1
    assert "holds rows already; choose another --out, or --force" in again.stderr
    assert (tmp_path / "rows" / "train.jsonl").read_bytes() == before
    assert CliRunner().invoke(main, [*arguments, "--seed", "3", "--force"]).exit_code == 0
    assert (tmp_path / "rows" / "train.jsonl").read_bytes() != before


def test_a_report_sets_gates_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "recipe.resolved.yaml").write_text(TINY)
    result = CliRunner().invoke(main, ["report", str(tmp_path), "--set", "validate.cases=5"])
    assert result.exit_code == 2
    assert "a report sets gates only" in result.stderr


def test_verbose_shows_the_traceback_and_keeps_line_and_exit_code() -> None:
    result = CliRunner().invoke(main, ["distill", "quickstrat", "-v"])
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("Error: recipe quickstrat: no such file")


def test_recipes_are_listed_and_shown_resolved() -> None:
    listed = CliRunner().invoke(main, ["recipes", "list"])
    assert "quickstart/star.yaml" in listed.stdout
    shown = CliRunner().invoke(main, ["recipes", "show", "quickstart", "--set", "seed=99"])
    assert "seed: 99" in shown.stdout
    assert shown.stdout.endswith("\n")


def test_data_check_counts_good_and_bad_rows(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    good = {
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}],
        "tools": [{"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}],
    }
    rows.write_text(json.dumps(good) + "\n{broken\n")
    result = CliRunner().invoke(main, ["data", "check", str(rows)])
    assert result.exit_code == 1
    assert "rows.jsonl:2" in result.stdout
    assert "1 good rows (1 reply), 1 bad" in result.stdout

    rows.write_text("")
    result = CliRunner().invoke(main, ["data", "check", str(rows)])
    assert result.exit_code == 1
    assert result.stderr == f"Error: {rows}: no rows; give a file with at least one line\n"

    rows.write_text(json.dumps({**good, "messages": good["messages"][:1]}) + "\n" + json.dumps(good) + "\n")
    result = CliRunner().invoke(main, ["data", "check", "--prompts", str(rows)])
    assert result.exit_code == 1
    assert "1 good rows (1 prompts), 1 bad" in result.stdout


def test_doctor_says_what_is_there_and_how_to_get_the_rest() -> None:
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 0
    packages = {row["package"]: row for row in json.loads(result.stdout)["packages"]}
    assert packages["torch"]["version"]
    assert packages["vllm"]["get"] == "pip install 'star-edge[vllm]'"


def test_the_next_command_after_an_export_parses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle(tmp_path / "my bundles", tmp_path / "x", "gguf", "F16", "", 1, 64)
    monkeypatch.setattr("star_edge.parity.exports.export_checkpoint", lambda *_, **__: [bundle])
    result = CliRunner().invoke(main, ["export", str(tmp_path), "--out", str(tmp_path / "out")])
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("next: ")]
    assert parses(shlex.split(line.removeprefix("next: ")))


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom star_edge.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'transformers', 'onnx', 'onnxruntime', 'llama_cpp', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_the_command_reference_in_docs_is_the_generated_one() -> None:
    # In a process of its own: click keeps the options of help that a command was first asked with, here by other tests.
    done = subprocess.run([sys.executable, "-m", "star_edge.cli.reference"], capture_output=True, text=True, check=True)
    assert (ROOT / "docs" / "cli.md").read_text() == done.stdout, "run python -m star_edge.cli.reference > docs/cli.md"


def test_the_recipe_keys_in_docs_are_the_generated_ones() -> None:
    from star_edge.cli.recipe_keys import reference

    page, command = ROOT / "docs" / "recipe-keys.md", "python -m star_edge.cli.recipe_keys > docs/recipe-keys.md"
    assert page.read_text() == reference(), f"run {command}"
