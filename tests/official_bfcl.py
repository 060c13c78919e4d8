"""The published BFCL checker, run from the fetched wheel as the reference of ours."""

from __future__ import annotations

import ast
import contextlib
import io
import sys
import types
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from star_edge.contracts import ToolCall
from star_edge.evaluate.bfcl.cases import BfclCase

MODEL = "stand-in"


class OfficialBfcl:
    """Verdicts and source-text readers of the wheel's own code."""

    def __init__(self, wheel: Path) -> None:
        with _importing_from(wheel):
            from bfcl_eval.constants.enums import Language
            from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker
            from bfcl_eval.eval_checker.ast_eval.type_convertor.java_type_converter import java_type_converter
            from bfcl_eval.eval_checker.ast_eval.type_convertor.js_type_converter import js_type_converter
        self._checker, self._language = ast_checker, Language
        self._readers = {"java": java_type_converter, "javascript": js_type_converter}
        self._is_empty_output = _is_empty_output_of(wheel)

    def ok(self, case: BfclCase, calls: Sequence[ToolCall]) -> bool | None:
        """Its verdict; None when it stops with an exception."""
        decoded = [{call.name: dict(call.arguments)} for call in calls]
        if case.category.endswith("relevance"):
            return bool(self._is_empty_output(decoded)) == ("irrelevance" in case.category)
        try:
            verdict: dict[str, Any] = self._checker(
                list(case.functions), decoded, list(case.answers), self._language(case.language), case.category, MODEL
            )
        except Exception:
            return None
        return bool(verdict["valid"])

    def read(self, language: str, text: str, kind: str, elements: str | None) -> Any:
        """Its value of source text; raises whatever it raises."""
        with contextlib.redirect_stdout(io.StringIO()):
            return self._readers[language](text, kind, elements)


@contextmanager
def _importing_from(wheel: Path) -> Iterator[None]:
    """`bfcl_eval` from the zip, its table of models (which imports every model's client) replaced by one entry."""
    table = ModuleType("bfcl_eval.constants.model_config")
    table.MODEL_CONFIG_MAPPING = {MODEL: types.SimpleNamespace(underscore_to_dot=False)}  # type: ignore[attr-defined]
    sys.path.insert(0, str(wheel))
    sys.modules[table.__name__] = table
    try:
        yield
    finally:
        sys.path.remove(str(wheel))
        for name in [name for name in sys.modules if name.split(".")[0] == "bfcl_eval"]:
            del sys.modules[name]


def _is_empty_output_of(wheel: Path) -> Callable[[Any], bool]:
    """Its test for "no call", cut out of a module whose other half needs packages that are not installed here."""
    source = zipfile.ZipFile(wheel).read("bfcl_eval/utils.py")
    wanted = ("is_function_calling_format_output", "is_empty_output")
    kept = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name in wanted]
    names: dict[str, Any] = {}
    exec(compile(ast.Module(kept, []), "bfcl_eval/utils.py", "exec"), names)
    found: Callable[[Any], bool] = names["is_empty_output"]
    return found
