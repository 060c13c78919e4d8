"""The 13 single-turn categories of BFCL v4: 3,641 cases, read out of the wheel's zip."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_edge.contracts import Example, Message
from star_edge.errors import EvaluationError
from star_edge.evaluate.bfcl import wheel as bfcl_wheel
from star_edge.evaluate.bfcl.tools import Language, shown_tool

CATEGORIES: tuple[str, ...] = (
    "simple_python",
    "simple_java",
    "simple_javascript",
    "multiple",
    "parallel",
    "parallel_multiple",
    "irrelevance",
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
    "live_irrelevance",
    "live_relevance",
)

_LANGUAGES: dict[str, Language] = {"simple_java": "java", "simple_javascript": "javascript"}
_DATA = "bfcl_eval/data"


@dataclass(frozen=True, slots=True)
class BfclCase:
    """One case.

    messages: the conversation up to the answer, system messages and earlier turns included.
    functions: the function documents as published, which is how the checker reads them.
    answers: one `{function_name: {parameter: [accepted value, ...]}}` a call that is due; an accepted value "" says
        that the parameter may be left out. Empty where only the presence of a call is judged.
    """

    id: str
    category: str
    messages: tuple[Message, ...]
    functions: tuple[Mapping[str, Any], ...]
    answers: tuple[Mapping[str, Mapping[str, Any]], ...]

    @property
    def language(self) -> Language:
        """The language of the functions, which decides how argument values are read."""
        return _LANGUAGES.get(self.category, "python")

    @property
    def expects_call(self) -> bool:
        """False where the right answer is not to call."""
        return "irrelevance" not in self.category

    @property
    def example(self) -> Example:
        """The case as a row whose target, an assistant turn, is still empty; tools as the model is shown them."""
        return Example(
            id=self.id,
            source="bfcl",
            messages=(*self.messages, {"role": "assistant", "content": ""}),
            tools=tuple(shown_tool(document, self.language) for document in self.functions),
            kind=self.category,
        )


def load(categories: Sequence[str] = CATEGORIES, *, wheel: Path | None = None) -> tuple[BfclCase, ...]:
    """The cases of some categories, in the order of the categories and of the published files.

    Args:
        wheel: a `bfcl-eval` wheel; fetched when None.
    Raises: EvaluationError: an unknown category, or a wheel that cannot be had or read.
    """
    check_categories(categories)
    path = wheel or bfcl_wheel.fetch()
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(case for category in categories for case in _read_category(archive, category))
    except (OSError, zipfile.BadZipFile, LookupError, ValueError) as error:
        raise EvaluationError(f"{path}: not the bfcl-eval {bfcl_wheel.VERSION} wheel ({error!r})") from error


def check_categories(categories: Sequence[str]) -> None:
    """Raises: EvaluationError: one is unknown."""
    for category in categories:
        if category not in CATEGORIES:
            raise EvaluationError(f"no BFCL category {category!r}; choose from {', '.join(CATEGORIES)}")


def _read_category(archive: zipfile.ZipFile, category: str) -> list[BfclCase]:
    questions = _read_rows(archive, f"{_DATA}/BFCL_v4_{category}.json")
    answers: dict[str, Any] = {}
    if not category.endswith("relevance"):
        rows = _read_rows(archive, f"{_DATA}/possible_answer/BFCL_v4_{category}.json")
        answers = {row["id"]: row["ground_truth"] for row in rows}
    return [
        BfclCase(
            id=row["id"],
            category=category,
            # A single-turn question is a list of one turn, which may hold a whole conversation.
            messages=tuple(row["question"][0]),
            functions=tuple(row["function"]),
            answers=tuple(answers[row["id"]]) if answers else (),
        )
        for row in questions
    ]


def _read_rows(archive: zipfile.ZipFile, member: str) -> list[Any]:
    return [json.loads(line) for line in archive.read(member).split(b"\n") if line.strip()]
