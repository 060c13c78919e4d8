"""What every verb shares: errors to exit codes, common options, JSON on stdout."""

from __future__ import annotations

import errno
import json
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from star_edge.errors import StarEdgeError

Command = TypeVar("Command", bound=Callable[..., Any])


class StarEdgeGroup(click.Group):
    """Turns an expected failure into its one line and its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StarEdgeError as error:
            _fail(ctx, str(error), error.exit_code, error)
        except KeyboardInterrupt:
            click.echo("Stopped. The same command goes on from what is finished.", err=True)
            ctx.exit(130)
        except Exception as error:
            if (line := _file_problem(error)) is None:
                raise
            _fail(ctx, line, 1, error)


def _file_problem(error: Exception) -> str | None:
    """What the system refused to do with a file, in one line; None for any other error, a closed pipe among them."""
    place = getattr(error, "filename", None)
    if _is_full_disk(error):
        return f"{place or 'the disk'}: no space left; free some and run the same command again, it goes on"
    if isinstance(error, OSError) and place is not None:
        return f"{place}: cannot be read or written ({error.strerror}); mend that, or choose another path"
    return None


def _is_full_disk(error: Exception) -> bool:
    """Libraries that write from native code (safetensors, torch) pass only the text of the system's error on."""
    return getattr(error, "errno", None) == errno.ENOSPC or os.strerror(errno.ENOSPC).lower() in str(error).lower()


def _fail(ctx: click.Context, line: str, code: int, error: BaseException) -> None:
    if ctx.find_root().meta.get("star_edge.verbose"):
        traceback.print_exception(error)
    click.echo(f"Error: {line}", err=True)
    ctx.exit(code)


def _remember_verbose(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    ctx.find_root().meta["star_edge.verbose"] = value
    return value


def verbose_option(command: Command) -> Command:
    """`-v`: library logs and tracebacks."""
    return click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_remember_verbose,
        help="Show library logs, and the traceback of an error.",
    )(command)


def json_option(command: Command) -> Command:
    """`--json`: the result as JSON on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def set_option(command: Command) -> Command:
    """`--set key=value`, repeatable."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a recipe value, for example --set validate.cases=200. Repeatable.",
    )(command)


def set_words(overrides: Sequence[str]) -> list[str]:
    """The `--set` options of a command line, as words."""
    return [word for override in overrides for word in ("--set", override)]


def base_option(command: Command) -> Command:
    """`--base MODEL`."""
    return click.option(
        "--base",
        metavar="MODEL",
        help="Folder, .gguf file or hub id of the model that an adapter sits on.  [default: the one it names]",
    )(command)


def out_option(help_text: str, *, required: bool = False) -> Callable[[Command], Command]:
    """`--out FOLDER`."""
    return click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=required, help=help_text)


def echo_json(value: Any) -> None:
    """Print JSON on stdout."""
    from star_edge.manifest import plain

    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def is_verbose() -> bool:
    """True after `-v` in this invocation."""
    return bool(click.get_current_context().find_root().meta.get("star_edge.verbose"))


def prepare_process() -> None:
    """Settings that libraries read when they are loaded; call it before the first heavy import.

    Warnings of the libraries are for their developers; ours say what a user can act on. `-v` shows them all.
    """
    import warnings

    # OpenMP threads that spin while they wait slow each other down tenfold when another process holds a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # said out loud, it does not warn of forks
    if is_verbose():
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # of the processes that this one starts
    warnings.filterwarnings("ignore")
