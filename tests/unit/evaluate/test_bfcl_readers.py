"""Java and JavaScript source text as values; the comparison with the published readers is in test_bfcl_official."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from star_edge.evaluate.bfcl import java, javascript

# (text, type, type of the elements, value): no value means that the text stands for itself.
JAVA: list[tuple[Any, ...]] = [
    ("12", "integer", None, 12),
    ("-12", "short", None, -12),
    ("12\n", "byte", None, 12),
    ("12.0", "integer", None),
    ("12L", "integer", None),
    (" 12", "integer", None),
    ("12L", "long", None, 12),
    ("12L\n", "long", None, 12),
    ("12l", "long", None, 12),
    ("12", "long", None),
    ("1.5f", "float", None, 1.5),
    ("1e3F", "float", None, 1000.0),
    ("1.5", "float", None),
    ("1.5", "double", None, 1.5),
    ("2", "double", None, 2.0),
    (".5", "double", None),
    ("true", "boolean", None, True),
    ("True", "boolean", None),
    ("'a'", "char", None),
    ('"a b"', "String", None),
    ("12", "any", None),
    ("new int[]{1, 2,3}", "Array", "integer", [1, 2, 3]),
    ("new int [] {1}", "Array", "integer"),
    ("new int[] { }", "Array", "integer", []),
    ("new int[]{1, , 2}", "Array", "integer", [1, 2]),
    ("new long[]{1L, 2}", "Array", "long", [1, "2"]),
    ('new String[]{"a", "b"}', "Array", "String", ['"a"', '"b"']),
    ('new Object[]{1, 2L, 1.5f, true, "a", x}', "Array", None, [1, 2, 1.5, True, "a", "x"]),
    ("{1, 2}", "Array", "integer"),
    ("f(new int[]{1})", "Array", "integer", [1]),
    ("new ArrayList<>(Arrays.asList(1, 2))", "ArrayList", "integer", [1, 2]),
    ('new ArrayList<String>(Arrays.asList("a","b"))', "ArrayList", "String", ["a", "b"]),
    ("new ArrayList<>(Arrays.asList(abc))", "ArrayList", "String", ["b"]),
    ("new ArrayList<>(Arrays.asList('a', 'b'))", "ArrayList", "char", ["a", "b"]),
    ("new ArrayList<>(Arrays.asList(1,))", "ArrayList", "integer", [1, ""]),
    ("new ArrayList<>(Arrays.asList())", "ArrayList", "integer"),
    ("new ArrayList<Integer>() {{ add(1); add(2); }}", "ArrayList", "integer", [1, 2]),
    ("new ArrayList<>(){{\nadd(1.5f);\nadd(x);\n}}", "ArrayList", "float", [1.5, "x"]),
    ("new ArrayList<>() {{ }}", "ArrayList", "integer", []),
    ("new ArrayList<>() {{ }} add(1) }}", "ArrayList", "integer", [1]),
    ("new ArrayList<>()", "ArrayList", "integer", []),
    ("new ArrayList<Map<String>>()", "ArrayList", "integer"),
    ("List.of(1, 2)", "ArrayList", "integer"),
    ('new HashMap<String, Object>() {{ put("a", 1); put("b", "c"); }}', "HashMap", None, {"a": 1, "b": "c"}),
    ('new HashMap<>() { { put("a", false); } }', "HashMap", None, {"a": False}),
    ('new HashMap<>() {put("a", 2L);}', "HashMap", None, {"a": 2}),
    ('new HashMap<>() {{ put("a", List.of(1)); }}', "HashMap", None, {"a": "List.of(1"}),
    ("new HashMap<>() {{}}", "HashMap", None, {}),
    ("new HashMap<>()", "HashMap", None, {}),
    ('new HashMap<>() {{ put("a", 1);', "HashMap", None, {}),
    ("new HashMap<\n>()", "HashMap", None),
    ('Map.of("a", 1)', "HashMap", None),
]
JAVASCRIPT: list[tuple[Any, ...]] = [
    ("12", "integer", None, 12),
    ("12.0", "integer", None),
    ("1.5", "float", None, 1.5),
    ("2", "float", None, 2.0),
    ("1e3", "float", None),
    ("12n", "Bigint", None, 12),
    ("12", "Bigint", None),
    ("false", "Boolean", None, False),
    ("FALSE", "Boolean", None),
    ("'a b'", "String", None, "a b"),
    ('"a b"', "String", None, "a b"),
    ("\"a b'", "String", None),
    ("'", "String", None, ""),
    ("`a`", "String", None),
    ("'a'", "any", None),
    ("[1, 2]", "array", "integer", [1, 2]),
    ("[1, 2.5, 'a']", "array", "integer", [1, "2.5", "'a'"]),
    ("[1, 'a', true, x, 1.5]", "array", None, [1, "a", True, "x", 1.5]),
    ("['a,b']", "array", "String", ["'a", "b'"]),
    ("[1,]", "array", "integer", [1, ""]),
    ("[]", "array", "integer", []),
    ("[1] + [2]", "array", "integer", [1]),
    ("new Array(1, 2)", "array", "float", [1.0, 2.0]),
    ("new Array()", "array", "float", []),
    ("Array.of(1)", "array", "integer"),
    (" [1 ", "array", "integer", "[1"),
    ("[[1, 2], [3]]", "array", "array", [[1, 2], [3]]),
    ("[ [1, 'a'] , [true] ]", "array", "integer", [[1, "a"], [True]]),
    ("new Array([1], [2])", "array", "array", [[1], [2]]),
    ("[[1], 2]", "array", "array", ["[1"]),
    ("[[1]\n,[2]]", "array", "array", [[1], [2]]),
    ("[[1],[2\n]]", "array", "array", ["[1"]),
    ("[[1],[2]x],[3]]", "array", "array", [[1], [2], [3]]),
    (f"[{'9' * 5000}]", "array", "integer"),
    ("{a: 1, 'b': \"c\"}", "dict", None, {"a": 1, "b": "c"}),
    ('{"a": true, "b": 1.5}', "dict", None, {"a": True, "b": 1.5}),
    ("{a: [1, 2], b: ['c']}", "dict", None, {"a": [1, 2], "b": ["c"]}),
    ("{a: '1'}", "dict", None, {"a": 1}),
    ("{a: {b: 1}}", "dict", None, {"a": "{b: 1"}),
    ("{a: 1, b: c, d}", "dict", None, {"a": 1, "b": "c, d"}),
    ("{}", "dict", None, {}),
    ("{a}", "dict", None, {}),
    ("({a: 1})", "dict", None),
    (" {a: 1 ", "dict", None, "{a: 1"),
]


def as_written(value: Any) -> str:
    """Tells 1 from 1.0 and from True."""
    return repr(value)


@pytest.mark.parametrize("row", JAVA, ids=lambda row: f"{row[1]}-{row[0][:40]}")
def test_java(row: tuple[Any, ...]) -> None:
    text, kind, elements, *value = row
    assert as_written(java.read(text, kind, elements)) == as_written(value[0] if value else text)


@pytest.mark.parametrize("row", JAVASCRIPT, ids=lambda row: f"{row[1]}-{row[0][:40]}")
def test_javascript(row: tuple[Any, ...]) -> None:
    text, kind, elements, *value = row
    assert as_written(javascript.read(text, kind, elements)) == as_written(value[0] if value else text)


@pytest.mark.parametrize("kind", ["Set", "Hashtable", "Queue", "Stack", "unknown"])
def test_a_type_that_nothing_reads_raises(kind: str) -> None:
    with pytest.raises(LookupError):
        java.read("x", kind)
    with pytest.raises(LookupError):
        java.read("new Object[]{x}", "Array", kind)
    with pytest.raises(LookupError):
        javascript.read("x", kind)


@pytest.mark.parametrize(
    ("read", "text", "kind"),
    [
        (java.read, "9" * 5000, "integer"),
        (java.read, "9" * 5000 + "L", "long"),
        (javascript.read, "9" * 5000, "integer"),
        (javascript.read, "9" * 5000 + "n", "Bigint"),
        (javascript.read, "3n\n", "Bigint"),
    ],
)
def test_a_number_that_python_does_not_convert_raises(read: Callable[[str, str], Any], text: str, kind: str) -> None:
    with pytest.raises(ValueError):
        read(text, kind)


@pytest.mark.parametrize(
    "text", ["[" + "[1]," * 2000 + "[2", "new Array(" + "[1], " * 2000, "[[" + "]," * 2000, "[[1]" + " " * 2000 + ","]
)
def test_a_list_of_lists_that_never_ends_is_read_at_once(text: str) -> None:
    started = time.process_time()
    javascript.read(text, "array", "array")
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("text", "kind"),
    [("new HashMap<>() {" + " " * 2000, "HashMap"), ("new ArrayList<>() {{" + " " * 2000 + "}", "ArrayList")],
)
def test_java_braces_that_never_close_are_read_at_once(text: str, kind: str) -> None:
    started = time.process_time()
    java.read(text, kind, "integer")
    assert time.process_time() - started < 2
