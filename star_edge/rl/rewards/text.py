"""How alike two strings are as values of a parameter: numbers, signs, codes and symbols count, spelling hardly.

A string is read in two ways, after Unicode's NFKC and case folding. Its *key* is what is left when spelling is taken
away: spaces, sentence punctuation and the joints of words, but not operators and signs. Its *atoms* are what a graded
comparison may break it into: letters of longer words one by one, but numbers, symbols, codes such as `A113` and words
of up to three letters whole, because `5 km` is nearly `5 m` only to the eye.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from rapidfuzz.distance import Indel

NEAR = 0.95
"""The similarity of two values that mean the same and are written differently."""

MOST_DIFFERENT_STRINGS = 0.5
"""What two strings of different meaning may reach."""

_SHORT_WORD = 3
# A number or a symbol counts as much as a word of four letters.
_WHOLE_WEIGHT = 4

# Over the shape of a text: a letter, 9 digit, $ symbol, those of `_THEMSELVES` themselves, blank for the rest.
# Of 1.2.3 or 01.02.2026 no point is decimal; a comma stands between thousands only before three digits.
_NUMBER = (
    r"(?P<number>(?:(?<![a9.+\-])[+\-])?"
    r"(?:(?<!9\.)(?:9{1,3}(?:,999)+(?!9)|9+)\.9+(?!9|\.9)|9{1,3}(?:,999)+(?!9)|9+))"
)
_CODE = r"(?P<code>9*a+9[a9]*)"
# These are operators or parts of an address at a word's beginning, beside symbols, and beside a variable of one letter;
# else spelling: `well-known`, `and/or`, `Wow!`, `2026/3/5`. A slash between two numbers alone is a fraction's.
_AFTER_VARIABLE = r"(?<![a9]a)(?<=a)"
_MINUSES = rf"(?<![a9\-])-+(?=a)|(?<=[$=@])-|-(?=[$=@])|{_AFTER_VARIABLE}-(?=9)|(?<=9)-(?=a(?![a9]))"
_SLASH = rf"(?<![a9])/(?=[a9])|(?<=[$=@])/|/(?=[$=@])|{_AFTER_VARIABLE}/(?=[a9])|(?<!/9)(?<!/99)(?<=9)/(?=9+(?![/9]))"
_NOT = r"(?<![a9!])!(?=[a9$=])|!(?==)"
_REST = rf"(?P<word>a+)|(?P<symbol>[$+=@]|{_MINUSES}|{_SLASH}|{_NOT})"
_PIECES = re.compile(f"{_NUMBER}|{_REST}")
_ATOMS = re.compile(f"{_CODE}|{_NUMBER}|{_REST}")

_ADDRESS = re.compile(r"[^ @]+@[^ @]+")
_POINT_INSIDE = re.compile(r"\.(?=[a9])")

_THEMSELVES = frozenset("+-.,!/=@")
_SPELLING = frozenset(";:?'\"_")
_MINUS = "\u2212"


@lru_cache(maxsize=16384)
def string_similarity(predicted: str, wanted: str) -> float:
    """1 when equal, `NEAR` when only spelling differs, else at most `MOST_DIFFERENT_STRINGS`.

    For strings of different keys it is `MOST_DIFFERENT_STRINGS * max(0, 2 r - 1)`, where r is the normalised Indel
    similarity of the atoms (2 * longest common subsequence / total length): unrelated words share about half of
    their letters, so that half is worth nothing.
    """
    if predicted == wanted:
        return 1.0
    a, b = _read(predicted), _read(wanted)
    if not a.key or not b.key:
        return 0.0
    if a.key == b.key:
        return NEAR
    common = Indel.normalized_similarity(a.atoms, b.atoms, score_cutoff=0.5)
    return MOST_DIFFERENT_STRINGS * max(0.0, 2 * common - 1)


class _Reading(NamedTuple):
    key: str
    atoms: tuple[str, ...]


@lru_cache(maxsize=4096)
def _read(text: str) -> _Reading:
    text = text.lower() if text.isascii() else unicodedata.normalize("NFKC", _folded(text))
    shape = text.translate(_SHAPES)
    if "@" in shape:
        shape = _ADDRESS.sub(lambda address: _POINT_INSIDE.sub("$", address[0]), shape)
    found = [(one.lastgroup, text[one.start() : one.end()]) for one in _ATOMS.finditer(shape)]
    atoms = [atom for kind, part in found for atom in _atoms(kind, part)]
    if "code" in dict(found):
        found = [(one.lastgroup, text[one.start() : one.end()]) for one in _PIECES.finditer(shape)]
    return _Reading("".join([_piece(kind, part) for kind, part in found]), tuple(atoms))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().replace(_MINUS, "-")


def _piece(kind: str | None, text: str) -> str:
    # A mark on both sides keeps "1 2" apart from "12", while "new york" may be "newyork".
    return f"\0{_number(text)}\0" if kind == "number" else text


def _atoms(kind: str | None, text: str) -> tuple[str, ...]:
    if kind == "word":
        # The blank keeps a word of one letter apart from a letter of a word.
        is_whole = len(text) <= _SHORT_WORD and not any(map(_is_east_asian, text))
        return (f" {text}",) * len(text) if is_whole else tuple(text)
    return (_number(text) if kind == "number" else text,) * _WHOLE_WEIGHT


def _number(text: str) -> str:
    """A number's value in one form: no plus, no thousands, no zeros behind the point, none before 1 or 2 digits.

    A longer run of digits that begins with 0 is an identifier and keeps it.
    """
    is_negative = False
    if not text[0].isdigit():
        is_negative, text = text[0] != "+", text[1:]
    whole, _, decimals = text.replace(",", "").partition(".")
    whole, decimals = ("".join(str(unicodedata.decimal(digit)) for digit in part) for part in (whole, decimals))
    if len(whole) <= 2:
        whole = whole.lstrip("0") or "0"
    value = ".".join(filter(None, [whole, decimals.rstrip("0")]))
    return f"-{value}" if is_negative and value != "0" else value


def _is_east_asian(character: str) -> bool:
    """Scripts from the CJK radicals on write a word in one to three characters and no blanks between words."""
    return character >= "\u2e80"


class _Shapes(dict[int, str]):
    """A table for `str.translate`: each character's kind, read once."""

    def __missing__(self, code: int) -> str:
        self[code] = _kind(chr(code))
        return self[code]


def _kind(character: str) -> str:
    category = unicodedata.category(character)
    if character in _THEMSELVES:
        return character
    if category == "Pd" or character == _MINUS:
        return "-"
    if category == "Nd":
        return "9"
    if category[0] in "LMN":
        return "a"
    if category[0] in "ZC" or character in _SPELLING or (category[0] == "P" and not character.isascii()):
        return " "
    return "$"


_SHAPES = _Shapes()
