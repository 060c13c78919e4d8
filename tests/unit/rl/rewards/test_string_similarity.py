from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_edge.rl.rewards.text import MOST_DIFFERENT_STRINGS, NEAR, string_similarity


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Paris", "PARIS"),
        ("straße", "STRASSE"),
        ("New York", "new-york"),
        ("Call Ann, please", "call Ann please!"),
        ("it’s", "it's"),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("caf\u00e9", "cafe\u0301"),
        ("5 km", "5km"),
        ("1,234.50 USD", "1234.5 usd"),
        ("2026-03-05", "2026/3/5"),
        ("05.03.2026", "05-03-2026"),
        ("٣ أكواب", "3 أكواب"),
        ("\u22125 °C", "-5 °C"),
        ("+7", "7"),
        ("covid-19", "Covid 19"),
        ("well-known", "well known"),
        ("and/or", "and or"),
        ("Wow!!", "wow"),
        ("x != 3", "x!=3"),
        ("x / 2", "x / 2."),
        ("U.S.A.", "USA"),
        ("Mail ann@x.com.", "mail ann@x.com"),
        ("call 030-1234", "call 030 1234"),
    ],
)
def test_spelling_alone_is_nearly_equal(a, b):
    assert string_similarity(a, b) == string_similarity(b, a) == NEAR


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("C", "C++"),
        ("A", "A+"),
        ("-5", "5"),
        ("5", "6"),
        ("1 2", "12"),
        ("1.2.3", "1.23"),
        ("10:30", "1030"),
        ("$5", "€5"),
        ("007", "7"),
        ("A113", "A114"),
        ("LA", "LAX"),
        ("on", "off"),
        ("London", "Lisbon"),
        ("x^2", "x2"),
        ("京都", "東京"),
        ("", "-"),
        ("", "word"),
    ],
)
def test_another_short_value_is_worth_nothing(a, b):
    assert string_similarity(a, b) == string_similarity(b, a) == 0.0


@pytest.mark.parametrize(
    ("a", "b", "most"),
    [
        ("a b com", "a@b.com", 0.25),
        ("bob@example.com", "rob@example.com", 0.45),
        ("2026-03-05", "2026-03-06", 0.25),
        ("5 km", "5 m", 0.25),
        ("5 %", "5", 0.25),
        ("cafe latte", "café latte", 0.45),
        ("東京都", "東京", 0.35),
        ("Привет, мир", "Привет, Мира", 0.45),
        ("Remind Bob at 5 pm", "Remind Bob at 6 pm", 0.35),
        ("San Francisco, CA", "San Francisco", 0.45),
    ],
)
def test_another_value_is_graded_and_clearly_below_one(a, b, most):
    assert 0.0 < string_similarity(a, b) == string_similarity(b, a) <= most


def test_one_value_by_hand():
    # Letters p a r i s t e x a s against p a r i s f r a n c e: 5 and the `a` in common, 2 * 6 / (10 + 11) = 4/7.
    assert string_similarity("Paris Texas", "Paris France") == pytest.approx(MOST_DIFFERENT_STRINGS * (2 * 4 / 7 - 1))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("a != b", "a = b"),
        ("a >= b", "a > b"),
        ("!x", "x"),
        ("x-3", "x3"),
        ("x - 3", "x + 3"),
        ("3-x", "3x"),
        ("-x", "x"),
        ("--all", "all"),
        ("\u2212x", "x"),
        ("-(x)", "(x)"),
        ("(a)/b", "(a)b"),
        ("x/2", "x2"),
        ("x/y", "xy"),
        ("3/4", "3-4"),
        ("2*x", "2x"),
        ("a<b", "ab"),
        ("x+y", "xy"),
        ("/etc/x", "etc/x"),
        ("john.doe@x.com", "johndoe@x.com"),
        ("ann@x.com", "ann@xcom"),
        ("1.5", "15"),
    ],
)
def test_operators_and_addresses_are_no_spelling(a, b):
    assert string_similarity(a, b) == string_similarity(b, a) <= MOST_DIFFERENT_STRINGS


@pytest.mark.parametrize("near", ["Book a table at eight", "Book a table for eight", "Cancel a table at eight"])
def test_closer_texts_score_higher(near):
    wanted = "Book a table at eight."
    assert string_similarity(near, wanted) > string_similarity("What is the weather like?", wanted)


TEXT = st.text(max_size=30) | st.lists(
    st.sampled_from(["5", "-", ".", ",", " ", "km", "é", "東", "A1", "+", "word", "\ud800", "½", "٣"]), max_size=10
).map("".join)


@settings(deadline=None)
@given(TEXT, TEXT)
def test_similarity_is_symmetric_and_keeps_its_range(a, b):
    similarity = string_similarity(a, b)
    assert similarity == string_similarity(b, a)
    assert (similarity == 1.0) == (a == b)
    assert similarity in (1.0, NEAR) or 0.0 <= similarity <= MOST_DIFFERENT_STRINGS


@pytest.mark.parametrize(
    "text",
    [
        "9" * 5000,
        "9." * 5000,
        "a9" * 5000,
        "-" * 5000,
        "1,234" * 2000,
        "\ufdfa" * 500,
        "a." * 2000 + "@",
        "/" * 5000,
        "a@" * 2500,
    ],
)
def test_degenerate_texts_are_compared(text):
    assert 0.0 <= string_similarity(text, text + "x") <= 1.0
