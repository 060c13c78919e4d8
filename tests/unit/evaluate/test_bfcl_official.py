"""Our verdicts and readers against the published ones, run from the fetched wheel."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from bfcl_answers import answers, canonical, odd_case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from official_bfcl import OfficialBfcl

from star_edge.calls.parse import format_calls
from star_edge.contracts import ToolCall
from star_edge.evaluate.bfcl import java, javascript
from star_edge.evaluate.bfcl.cases import BfclCase
from star_edge.evaluate.bfcl.checker import check, judge

ANSWERS = 12
MODULES: dict[str, ModuleType] = {"java": java, "javascript": javascript}


@pytest.fixture(scope="module")
def official(bfcl_wheel: Path) -> OfficialBfcl:
    return OfficialBfcl(bfcl_wheel)


def compare(official: OfficialBfcl, case: BfclCase, calls: list[ToolCall]) -> bool | None:
    """The published verdict (None: it stopped with an exception), after ours was found to say the same."""
    expected = official.ok(case, calls)
    reason = check(case, calls)
    assert (reason is None) == bool(expected), f"{case.id}: published {expected}, ours {reason}, calls {calls}"
    if expected is None:
        assert "cannot be judged" in str(reason), f"{case.id}: {reason}"
    return expected


def test_verdicts_equal_the_published_ones_on_every_case(
    official: OfficialBfcl, bfcl_cases: tuple[BfclCase, ...]
) -> None:
    seen: Counter[bool | None] = Counter()
    right_cases = set()
    for case in bfcl_cases:
        for calls in answers(case, seed=1, count=ANSWERS):
            verdict = compare(official, case, calls)
            seen[verdict] += 1
            right_cases |= {case.id} if verdict else set()
    assert seen.total() == 3641 * ANSWERS
    # Neither kind of verdict is rare, and nearly every case was once answered rightly.
    assert min(seen[True], seen[False]) > 10_000
    assert len(right_cases) > 3_550


def test_verdicts_equal_the_published_ones_on_odd_documents(
    official: OfficialBfcl, bfcl_cases: tuple[BfclCase, ...]
) -> None:
    """Types nobody knows, parts that are missing, accepted values of other shapes."""
    rng = random.Random(2)
    seen: Counter[bool | None] = Counter()
    for case in bfcl_cases:
        if case.answers:
            odd = odd_case(case, rng)
            for answered in (case, odd):
                calls = canonical(answered, rng)
                seen[compare(official, odd, calls)] += 1
    assert min(seen[True], seen[False], seen[None]) > 500


@pytest.mark.slow
def test_verdicts_equal_the_published_ones_on_many_more_answers(
    official: OfficialBfcl, bfcl_cases: tuple[BfclCase, ...]
) -> None:
    for case in bfcl_cases:
        for calls in answers(case, seed=3, count=100):
            compare(official, case, calls)


def test_text_is_judged_like_the_calls_in_it(official: OfficialBfcl, bfcl_cases: tuple[BfclCase, ...]) -> None:
    for case in bfcl_cases[::4]:
        for calls in answers(case, seed=4, count=2):
            assert judge(case, format_calls(calls)).ok == bool(official.ok(case, calls)), case.id


def test_all_cases_are_judged_within_ten_seconds_of_one_core(bfcl_cases: tuple[BfclCase, ...]) -> None:
    """Measured: 0.1 s; ten seconds are promised."""
    texts = [format_calls(next(answers(case, seed=5, count=2))) for case in bfcl_cases]
    started = time.process_time()
    verdicts = [judge(case, text) for case, text in zip(bfcl_cases, texts, strict=True)]
    assert time.process_time() - started < 10
    assert len(verdicts) == 3641


# -------------------------------------------------------------------------------------------------- readers

JAVA_PIECES = [
    "new ArrayList<", "new ArrayList<>()", "new HashMap<", "new HashMap<>()", "new int[]", "new String[] {", "Integer",
    "<String, Object>", ">", ">()", "(", ")", "))", "Arrays.asList(", "{{", "}}", "{", "}", "add(", "add(1);",
    'add("a b");', 'put("', 'put("k", 1);', 'put("k2", "v");', '"', "'", ",", ", ", ";", " ", "\n", "1", "-2", "3L",
    "4l", "1.5", "2f", "1e-3F", "true", "false", "'a'", '"b c"', "null", "x", "é", "٣", "1_0", "inf", "9" * 4301,
]  # fmt: skip
JAVASCRIPT_PIECES = [
    "[", "]", "[[", "]]", "], [", "{", "}", "{}", "[]", ",", ", ", ":", ": ", ";", '"', "'", "1", "-2", "1.5", "3n",
    "1e5", "NaN", "true", "false", "null", "a", "key", '"b"', "'c d'", '"k": ', "{a: 1", "b: [1, 2]", "new Array(",
    "new  Array( [", ")", " ", "\n", "é", "9" * 4301,
]  # fmt: skip


def source_texts(pieces: list[str]) -> st.SearchStrategy[str]:
    """Random text, and pieces of the language in any order; few enough that the published patterns come to an end."""
    joined = st.lists(st.sampled_from(pieces), max_size=14).map("".join)
    return st.one_of(joined, st.text(max_size=12), st.builds("{}{}{}".format, joined, st.text(max_size=3), joined))


def outcome(read: object, *arguments: object) -> str:
    """The value with the types inside it, or that there is none."""
    try:
        return repr(read(*arguments))  # type: ignore[operator]
    except Exception:
        return "raises"


@pytest.mark.parametrize(("language", "pieces"), [("java", JAVA_PIECES), ("javascript", JAVASCRIPT_PIECES)])
def test_readers_equal_the_published_ones(official: OfficialBfcl, language: str, pieces: list[str]) -> None:
    module = MODULES[language]
    containers = [kind for kind in module.KINDS if module.KINDS[kind] in (list, dict)]
    kinds = st.one_of(st.sampled_from(containers), st.sampled_from(list(module.KINDS)))

    @settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
    @given(source_texts(pieces), kinds, st.sampled_from([None, *module.KINDS]))
    def agree(text: str, kind: str, elements: str | None) -> None:
        assert outcome(module.read, text, kind, elements) == outcome(official.read, language, text, kind, elements)

    agree()
