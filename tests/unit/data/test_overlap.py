"""Requests and word sequences that training shares with an evaluation."""

from __future__ import annotations

import pytest

from star_edge.contracts import Example
from star_edge.data.overlap import Match, normalise_text, overlap, overlap_with_texts

THIRTEEN = "one two three four five six seven eight nine ten eleven twelve thirteen"
TWELVE = THIRTEEN.removesuffix(" thirteen")


def row(name: str, *requests: str) -> Example:
    messages = [m for r in requests for m in ({"role": "user", "content": r}, {"role": "assistant", "content": "Ok."})]
    return Example(name, "test", tuple(messages), ())


@pytest.mark.parametrize("seen", ["Set an alarm for 7!", "set  an alarm for 7", "SET AN ALARM, for 7?"])
def test_same_request_in_other_dress_is_exact(seen: str) -> None:
    report = overlap([row("t1", "other"), row("t2", seen)], [row("e1", "Set an alarm for 7.")])

    assert report.exact_matches == (Match("t2", "e1"),)
    assert report.ngram == 0


@pytest.mark.parametrize(("request_", "count"), [("Yes, please do.", 0), ("Yes, please do it.", 1)])
def test_requests_shorter_than_asked_for_are_no_overlap(request_: str, count: int) -> None:
    assert overlap([row("t", request_)], [row("e", request_)], shortest=4).exact == count
    assert overlap([row("t", request_)], [row("e", request_)]).exact == 1


def test_only_the_last_request_is_compared_as_a_whole() -> None:
    train = [row("t1", "hello", "good bye"), row("t2", "good bye", "hello")]

    assert overlap(train, [row("e1", "hello")]).exact_matches == (Match("t2", "e1"),)
    assert overlap(train, [row("e1", "hello", "new")]).exact == 0


@pytest.mark.parametrize(
    ("train", "evaluation", "count"),
    [
        (f"please {THIRTEEN} now", f"and {THIRTEEN} then", 1),
        (f"please {TWELVE} now", f"and {TWELVE} then", 0),
        (THIRTEEN.upper().replace(" ", ", "), THIRTEEN, 1),
        (TWELVE, TWELVE, 0),
    ],
)
def test_thirteen_shared_words_count_and_twelve_do_not(train: str, evaluation: str, count: int) -> None:
    assert overlap([row("t", train)], [row("e", evaluation)]).ngram == count


def test_earlier_requests_count_for_word_sequences() -> None:
    report = overlap([row("t", THIRTEEN, "yes")], [row("e", "no", f"so {THIRTEEN}", "fine")])

    assert report.ngram_matches == (Match("t", "e"),)


def test_sequences_do_not_run_across_messages() -> None:
    report = overlap([row("t", TWELVE, "thirteen")], [row("e", THIRTEEN)])

    assert report.ngram == 0


def test_texts_of_any_suite_can_be_compared() -> None:
    report = overlap_with_texts([row("t", "hi there")], {"case-1": ["first", "Hi there"], "case-2": [], "case-3": [""]})

    assert report.exact_matches == (Match("t", "case-1"),)
    assert (report.train_rows, report.evaluation_rows) == (1, 3)


def test_rows_without_words_are_not_equal() -> None:
    assert overlap([row("t", "?!")], [row("e", "...")]).exact == 0


def test_summary_counts_all_and_lists_the_first() -> None:
    summary = overlap([row(f"t{i}", "hi") for i in range(30)], [row("e", "hi")]).summary()

    assert (summary["exact"], summary["ngram"]) == (30, 0)
    assert summary["exact_matches"][0] == {"train_id": "t0", "evaluation_id": "e"}
    assert len(summary["exact_matches"]) == 20


def test_normalising_keeps_words_of_any_script() -> None:
    assert normalise_text("  Öffne das  Büro-Licht! 明かり") == "öffne das büro licht 明かり"
