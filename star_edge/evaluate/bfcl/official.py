"""Our outputs as the result files that `bfcl evaluate` of the bfcl-eval package reads.

    DIR/result/<model>/non_live/BFCL_v4_<category>_result.json      rows {"id", "result"}
    DIR/result/<model>/live/...

The official tool reads a result with the handler that its registry names for the model. The one for Qwen's function
calling reads the Hermes form, but in its own way: a block counts only where a line break stands on both sides of its
JSON, and one that is no JSON is passed over. So that both tools see the same calls, strictly read calls are written in
canonical form, and in a completion that our reading finds malformed no block is left that theirs would take. Nor is one
where their checker would stop with an exception, and the whole evaluation with it: such calls are wrong here.
"""

from __future__ import annotations

import ast
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from star_edge.calls.parse import OPEN_TAG, format_calls, parse_completion
from star_edge.errors import EvaluationError
from star_edge.evaluate.bfcl.cases import CATEGORIES, BfclCase
from star_edge.evaluate.bfcl.checker import CANNOT_JUDGE, check
from star_edge.manifest import write_atomic

DEFAULT_MODEL = "Qwen/Qwen3-0.6B-FC"
HANDLER = "QwenFCHandler"
_REGISTRY = "bfcl_eval/constants/model_config.py"


def official_result(case: BfclCase, text: str) -> str:
    """A completion in which the official Qwen handler reads the calls that we read, and no others."""
    calls = parse_completion(text).calls
    if calls and not (check(case, calls) or "").startswith(CANNOT_JUDGE):
        return format_calls(calls)
    return text.replace(f"{OPEN_TAG}\n", f"{OPEN_TAG} \n")


def export_official(
    cases: Sequence[BfclCase], texts: Mapping[str, str], out: Path, *, model_name: str, wheel: Path, force: bool = False
) -> Path:
    """Write the result files of the cases that have an output.

    Args:
        out: what `BFCL_PROJECT_ROOT` is to be when the official tool runs.
        model_name: one that the tool's registry reads with the Qwen handler.
        wheel: the bfcl-eval wheel, whose registry is asked.
        force: remove the model's results that are there, of other categories too.
    Returns: the folder of the model's results.
    Raises: EvaluationError: another model name, or files are there. ArtifactError: a file cannot be written.
    """
    check_model_name(model_name, wheel)
    folder = out / "result" / model_name.replace("/", "_")
    files: dict[Path, list[str]] = {}
    for case in cases:
        if case.id in texts:
            row = {"id": case.id, "result": official_result(case, texts[case.id])}
            # ASCII alone: the tool opens the files in whatever encoding its locale names.
            files.setdefault(folder / _place(case.category), []).append(json.dumps(row) + "\n")
    # The tool scores every file of the model that it finds, so none of an earlier export may stay.
    taken = [path for category in CATEGORIES if (path := folder / _place(category)).exists()]
    if taken and not force:
        raise EvaluationError(f"{taken[0]}: results are there already; choose another folder, or --force")
    for path in taken:
        path.unlink()
    for path, lines in files.items():
        write_atomic(path, "".join(lines))
    return folder


def check_model_name(name: str, wheel: Path) -> None:
    """Raises: EvaluationError: bfcl-eval does not read results of that name in the Hermes form."""
    names = readable_models(wheel)
    if name not in names:
        raise EvaluationError(
            f"{name}: bfcl-eval does not read its results in the Hermes form; give --model-name one of "
            f"{', '.join(names)}"
        )


def readable_models(wheel: Path) -> tuple[str, ...]:
    """Names in the official registry whose results are read with the Qwen handler.

    Raises: EvaluationError: the wheel cannot be read.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            tree = ast.parse(archive.read(_REGISTRY))
    except (OSError, KeyError, SyntaxError, zipfile.BadZipFile) as error:
        raise EvaluationError(f"{wheel}: no model registry in it ({error!r}); remove the file and try again") from error
    entries = (
        pair
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for pair in zip(node.keys, node.values, strict=True)
    )
    return tuple(
        key.value
        for key, value in entries
        if isinstance(key, ast.Constant) and isinstance(key.value, str) and _uses_handler(value)
    )


def _uses_handler(entry: ast.expr) -> bool:
    return isinstance(entry, ast.Call) and any(
        keyword.arg == "model_handler" and isinstance(keyword.value, ast.Name) and keyword.value.id == HANDLER
        for keyword in entry.keywords
    )


def _place(category: str) -> str:
    group = "live" if category.startswith("live_") else "non_live"
    return f"{group}/BFCL_v4_{category}_result.json"
