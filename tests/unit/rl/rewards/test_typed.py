"""The `typed` reward: each hole of the published one closed, values computed by hand, and what must always hold."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_rows import CALLS, GARBAGE, TOOLS, VALUES, target_of

from star_edge.calls.match import same_calls
from star_edge.calls.parse import format_calls
from star_edge.contracts import ToolCall
from star_edge.errors import DataError
from star_edge.rl.rewards.text import NEAR
from star_edge.rl.rewards.typed import typed

ALARM = {
    "name": "set_alarm",
    "description": "",
    "parameters": {
        "type": "object",
        "properties": {
            "hour": {"type": "integer"},
            "label": {"type": "string"},
            "sound": {"type": "string", "enum": ["bell", "bells", "none"]},
            "volume": {"type": "number", "default": 0.5},
            "repeat": {"type": "boolean"},
            "days": {"type": "array", "items": {"type": "string"}},
            "where": {
                "type": "object",
                "properties": {"room": {"type": "string"}, "floor": {"type": "integer"}, "note": {"type": "string"}},
                "required": ["room"],
            },
            "code": {"type": ["string", "integer"]},
        },
        "required": ["hour", "label"],
    },
}
STOP = {"name": "stop", "description": "", "parameters": {"type": "object", "properties": {}}}
OFFERED = [ALARM, STOP]
BASE = {"hour": 5, "label": "work"}


def alarm(**arguments):
    return ToolCall("set_alarm", arguments)


def reward(made, due):
    return typed(format_calls(made), target_of(due), OFFERED)


def of_arguments(made, due):
    return reward([alarm(**made)], [alarm(**due)])


def of_value(name, made, due):
    """The reward when only this parameter may be wrong."""
    return of_arguments({**BASE, name: made}, {**BASE, name: due})


WRONG_OPTIONAL = of_value("repeat", True, False)
WRONG_REQUIRED = of_arguments({**BASE, "hour": 6}, BASE)


# ------------------------------------------------------------------------------- the holes of the published reward


@pytest.mark.parametrize(("made", "due"), [("5", 5), (5, "5"), (True, 1), (1, True), (0, False), ("true", True)])
@pytest.mark.parametrize("name", ["hour", "label", "repeat", "unheard_of"])
def test_hole_a_value_of_another_type_passes(name, made, due):
    rest = {key: value for key, value in BASE.items() if key != name}
    assert of_arguments({**rest, name: made}, {**rest, name: due}) <= WRONG_OPTIONAL


def test_hole_closed_without_losing_that_json_has_one_kind_of_number():
    assert of_value("volume", 1, 1.0) == of_value("volume", 1.0, 1) == 1.0
    assert of_value("days", [1.0, 2], [1, 2.0]) == 1.0


def test_hole_closed_for_integers_written_with_a_point():
    assert of_arguments({**BASE, "hour": 5.0}, BASE) == WRONG_REQUIRED
    assert of_value("where", {"room": "hall", "floor": 2.0}, {"room": "hall", "floor": 2}) < 1.0
    # The row's own mistake is no reason to punish what fits the schema, nor the row itself.
    assert (
        of_arguments(BASE, {**BASE, "hour": 5.0}) == of_arguments({**BASE, "hour": 5.0}, {**BASE, "hour": 5.0}) == 1.0
    )


@pytest.mark.parametrize(("made", "due"), [("C", "C++"), ("-5", "5"), ("a b com", "a@b.com")])
def test_hole_punctuation_is_dropped(made, due):
    assert of_arguments({**BASE, "label": made}, {**BASE, "label": due}) <= WRONG_REQUIRED + 0.2


def test_hole_a_reordered_nested_object_scores_nothing():
    assert of_value("where", {"floor": 2, "room": "hall"}, {"room": "hall", "floor": 2}) == 1.0


def test_hole_one_wrong_nested_key_costs_everything():
    due = {"room": "hall", "floor": 2, "note": "left"}
    shares = [
        of_value("where", made, due)
        for made in (
            due,
            {"room": "hall", "floor": 2},
            {"room": "hall"},
            {"floor": 3},
        )
    ]
    assert shares == sorted(set(shares), reverse=True)
    assert shares[1] > WRONG_OPTIONAL


@pytest.mark.parametrize(("near", "far"), [("東京都", "大阪"), ("Привет, Мира", "Доброе утро"), ("شكرا جزيل", "مرحبا")])
def test_hole_non_ascii_text_is_all_or_nothing(near, far):
    due = {"東京都": "東京", "Привет, Мира": "Привет, мир", "شكرا جزيل": "شكرا جزيلا"}[near]
    graded = of_arguments({**BASE, "label": near}, {**BASE, "label": due})
    assert of_arguments({**BASE, "label": far}, {**BASE, "label": due}) < graded < 1.0


def test_hole_greedy_matching_depends_on_the_order():
    due = [alarm(hour=5, label="work"), alarm(hour=5, label="gym")]
    made = [alarm(hour=5, label="gym"), alarm(hour=6, label="work")]
    # A greedy matching hands the first target to the first call that comes near it.
    assert reward(made, due) == reward(made[::-1], due) == reward(made, due[::-1])
    assert reward(made, due) == pytest.approx((1.0 + WRONG_REQUIRED) / 2)


def test_hole_a_hallucinated_parameter_costs_more_than_refusing():
    assert reward([alarm(**BASE, colour="red")], [alarm(**BASE)]) > 0 > typed("I cannot.", target_of([STOP_CALL]), [])


STOP_CALL = ToolCall("stop", {})


@pytest.mark.parametrize(
    "attempt",
    [[ToolCall("nope", {})], [STOP_CALL], [alarm()], [alarm(colour="red")], [alarm(hour="x")] * 3],
    ids=["unknown", "other", "empty", "hallucinated", "many"],
)
def test_hole_abstaining_is_the_safe_move(attempt):
    due = [alarm(**BASE), alarm(hour=7, label="gym")]
    for abstention in ("", "I cannot do that.", "<tool_call>{", "<tool_call>\n{}\n</tool_call>"):
        assert typed(abstention, target_of(due), OFFERED) == -1.0 < reward(attempt, due)
        # Nor is it within an answer of several calls.
        assert reward([due[0], attempt[0]], due) >= reward([due[0]], due)


# ------------------------------------------------------------------------------------------------ values by hand


@pytest.mark.parametrize(
    ("made", "due", "expected"),
    [
        (BASE, BASE, 1.0),
        ({}, {}, 1.0),
        # ½ (1 + 2) / (1 + 4): the name and one of two required parameters.
        ({"hour": 6, "label": "work"}, BASE, 0.3),
        ({"hour": 5}, BASE, 0.3),
        ({}, BASE, 0.1),
        # ½ (1 + 4) / (1 + 4 + 1): an optional one missing, extra or wrong.
        (BASE, {**BASE, "repeat": True}, 5 / 12),
        ({**BASE, "repeat": True}, BASE, 5 / 12),
        ({**BASE, "sound": "bells"}, {**BASE, "sound": "bell"}, 5 / 12),
        # ½ (1 + 4) / (1 + 4 + 2): no such parameter.
        ({**BASE, "colour": "red"}, BASE, 5 / 14),
        # ½ (1 + 2 + 2 NEAR) / 5 + ½ NEAR
        ({"hour": 5, "label": "Work"}, BASE, (3 + 2 * NEAR) / 10 + NEAR / 2),
        # The default of `volume`, filled in or left out; another value, filled in or left out.
        ({**BASE, "volume": 0.5}, BASE, 5 / (2 * (5 + 1 - NEAR)) + NEAR / 2),
        (BASE, {**BASE, "volume": 0.5}, (5 + NEAR) / 12 + NEAR / 2),
        ({**BASE, "volume": 0.6}, BASE, 5 / 12),
        (BASE, {**BASE, "volume": 0.6}, 5 / 12),
        # ½ (5 + 2/3) / 6 + ½ · 2/3: an element is missing, wherever it stood.
        ({**BASE, "days": ["Mon", "Tue"]}, {**BASE, "days": ["Mon", "Tue", "Wed"]}, 5 / 12 + 2 / 36 + 1 / 3),
        ({**BASE, "days": ["Tue", "Wed"]}, {**BASE, "days": ["Mon", "Tue", "Wed"]}, 5 / 12 + 2 / 36 + 1 / 3),
        ({**BASE, "days": ["Mon", "Wed"]}, {**BASE, "days": ["Mon", "Tue", "Wed"]}, 5 / 12 + 2 / 36 + 1 / 3),
        # Two elements in the other order: one of two is in place.
        ({**BASE, "days": ["Tue", "Mon"]}, {**BASE, "days": ["Mon", "Tue"]}, 5 / 12 + 1 / 24 + 1 / 4),
        ({**BASE, "days": []}, {**BASE, "days": ["Mon"]}, 5 / 12),
        # Nested: room weighs 2, floor 1.
        ({**BASE, "where": {"room": "hall", "floor": 3}}, {**BASE, "where": {"room": "hall", "floor": 2}}, 29 / 36),
        ({**BASE, "where": {"room": "hall"}}, {**BASE, "where": {"room": "hall", "floor": 2}}, 29 / 36),
        ({**BASE, "where": {"floor": 2}}, {**BASE, "where": {"room": "hall", "floor": 2}}, 5 / 12 + 1 / 36 + 1 / 6),
        # A schema that names both types takes a number for its text.
        ({**BASE, "code": "5"}, {**BASE, "code": 5}, (5 + NEAR) / 12 + NEAR / 2),
        ({**BASE, "code": 6}, {**BASE, "code": "5"}, 5 / 12),
    ],
)
def test_one_call_by_hand(made, due, expected):
    assert of_arguments(made, due) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ([alarm(**BASE), STOP_CALL], 1.0),
        ([STOP_CALL, alarm(**BASE)], 1.0),
        ([STOP_CALL], 1 / 2),
        # A repeat counts twice and takes no one's place: 1 / (max(1, 2) + 2).
        ([STOP_CALL, STOP_CALL], 1 / 4),
        ([STOP_CALL, ToolCall("nope", {})], 1 / 2),
        ([STOP_CALL, STOP_CALL, alarm(**BASE)], 2 / 4),
        ([ToolCall("nope", {}), ToolCall("nope", BASE)], 0.0),
        ([ToolCall("Stop", {}), alarm(hour=5)], 0.3 / 2),
    ],
)
def test_several_calls_by_hand(made, expected):
    assert reward(made, [alarm(**BASE), STOP_CALL]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("It is five.", 1.0),
        ("none of these words matter <|im_end|>", 1.0),
        ("", -1.0),
        (" <|im_end|>\n", -1.0),
        (format_calls([STOP_CALL]), -1.0),
        ("Words first. " + format_calls([STOP_CALL]), -1.0),
        ("Words <tool_call>{", -1.0),
    ],
)
def test_where_a_reply_is_due_any_words_but_a_call_will_do(completion, expected):
    assert typed(completion, {"role": "assistant", "content": "Which hour?"}, OFFERED) == expected


def test_the_strict_parser_decides_what_a_call_is():
    due = target_of([STOP_CALL])
    assert typed('Sure: <tool_call>{"name": "stop", "arguments": "{}"}', due, OFFERED) == 1.0
    assert typed('```json\n{"name": "stop", "arguments": {}}\n```', due, OFFERED) == -1.0
    assert typed(format_calls([STOP_CALL]) + "<tool_call>", due, OFFERED) == -1.0


# --------------------------------------------------------------------------------------------------- the orderings


def test_right_is_above_nearly_right_is_above_wrong():
    due = {"hour": 5, "label": "call 030 1234", "days": ["Mon"]}
    ladder = [
        due,
        {**due, "label": "Call 030-1234"},
        {**due, "label": "call 030 1235"},
        {"hour": 5, "label": "gym", "days": []},
        {"hour": 6, "label": "gym", "days": []},
    ]
    rewards = [of_arguments(made, due) for made in ladder]
    assert all(above > below + 0.02 for above, below in pairwise(rewards))
    assert rewards[1] > 0.95
    assert rewards[2] < 0.75


def test_a_missing_required_parameter_costs_more_than_a_missing_optional_one():
    due = {**BASE, "repeat": True}
    assert of_arguments(BASE, due) > of_arguments({"hour": 5, "repeat": True}, due)


def test_an_unknown_parameter_costs_more_than_a_known_one_and_less_than_the_call():
    assert 0.0 < of_arguments({**BASE, "colour": 1}, BASE) < of_arguments({**BASE, "repeat": True}, BASE) < 1.0


def test_a_default_does_not_stand_in_for_a_required_parameter():
    parameters = {"type": "object", "properties": {"n": {"type": "integer", "default": 3}}, "required": ["n"]}
    tools = [{"name": "f", "description": "", "parameters": parameters}]
    assert typed(format_calls([ToolCall("f", {})]), target_of([ToolCall("f", {"n": 3})]), tools) == pytest.approx(1 / 6)


def test_listed_values_are_all_or_nothing_up_to_their_spelling():
    def of(made, due, listed):
        properties = {"x": {"type": "string", "enum": listed}}
        tools = [{"name": "f", "parameters": {"type": "object", "properties": properties}}]
        return typed(format_calls([ToolCall("f", {"x": made})]), target_of([ToolCall("f", {"x": due})]), tools)

    nearly = pytest.approx((1 + NEAR) / 4 + NEAR / 2)
    assert of("LOW", "low", ["low", "lower"]) == of("low", "LOW", ["low", "lower"]) == nearly
    assert of("lower", "low", ["low", "lower"]) == of("lowe", "low", ["low", "lower"]) == 0.25
    assert of("LOW", "low", ["low", "LOW"]) == of(["low"], "low", ["low"]) == 0.25


def test_an_object_whose_schema_names_no_properties_takes_any():
    def extra(schema):
        properties = {"x": {"type": "object", **schema}}
        tools = [{"name": "f", "parameters": {"type": "object", "properties": properties}}]
        made, due = ToolCall("f", {"x": {"a": 1, "b": 2}}), ToolCall("f", {"x": {"a": 1}})
        return typed(format_calls([made]), target_of([due]), tools)

    closed = extra({"properties": {"a": {}}})
    assert extra({}) == extra({"properties": {"a": {}}, "additionalProperties": True}) > closed


def test_alternatives_are_judged_by_the_one_that_fits_the_target():
    options = [{"type": "string", "enum": ["Low", "High"]}, {"type": "object", "properties": {"note": {}}}]
    tools = [{"name": "f", "parameters": {"type": "object", "properties": {"x": {"anyOf": options}}}}]

    def of(made, due):
        return typed(format_calls([ToolCall("f", {"x": made})]), target_of([ToolCall("f", {"x": due})]), tools)

    assert of("Lower", "Low") == of("High", "Low") == of({"note": "low"}, "Low") == 0.25
    assert of({"note": "low"}, {"note": "Low"}) == pytest.approx((1 + NEAR) / 4 + NEAR / 2)


@pytest.mark.parametrize("wrap", [lambda tool: tool, lambda tool: {"type": "function", "function": tool}])
def test_schemas_are_read_as_data_sets_write_them(wrap):
    tools = [wrap({"name": "f", "parameters": {"n": {"type": "int"}, "unit": {"type": "str, optional"}}})]
    due = ToolCall("f", {"n": 3, "unit": "cm"})
    assert typed(format_calls([ToolCall("f", {"n": 3})]), target_of([due]), tools) == pytest.approx(3 / 8)
    assert typed(format_calls([ToolCall("f", {"unit": "cm"})]), target_of([due]), tools) == pytest.approx(2 / 8)


def test_rows_that_cannot_be_read_are_refused():
    with pytest.raises(DataError, match="needs a 'name'"):
        typed(format_calls([STOP_CALL]), {"tool_calls": [{"arguments": {}}]}, OFFERED)
    with pytest.raises(DataError, match="tool 'stop'"):
        typed(format_calls([STOP_CALL]), target_of([STOP_CALL]), [{"name": "stop", "parameters": 3}])
    for nonsense in ({"required": 3}, {"required": "a"}, {"anyOf": 5}, {"properties": {"a": {"required": 5}}}):
        tool = {"name": "stop", "parameters": {"properties": {}, **nonsense}}
        with pytest.raises(DataError, match=r"tool 'stop': '(required|anyOf)'"):
            typed(format_calls([STOP_CALL]), target_of([STOP_CALL]), [tool])


# -------------------------------------------------------------------------------------------------- for any calls

SCHEMAS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "integer", "object", "array", ["string", "integer"]]),
        "enum": st.lists(VALUES, max_size=2) | st.just(5),
        "const": VALUES,
        "default": VALUES,
        "items": st.just({"type": "string"}),
        "properties": st.just({"x": {"type": "integer"}, "y": {}}),
        "required": st.sampled_from([["x"], None, True]),
        "anyOf": st.just([{"type": "string"}, {"type": "array", "items": {}}, {}]),
    },
)
OFFERS = st.lists(
    st.fixed_dictionaries({"a": SCHEMAS, "b": SCHEMAS, "c": SCHEMAS}), min_size=3, max_size=3, unique_by=repr
).map(
    lambda offers: [
        {"name": name, "parameters": {"type": "object", "properties": properties, "required": ["a"]}}
        for name, properties in zip("fgh", offers, strict=True)
    ]
)

# Schemas take long to draw.
FEWER = settings(deadline=None, max_examples=40)


@FEWER
@given(CALLS, CALLS, OFFERS)
def test_attempts_lie_between_zero_and_one_and_only_the_same_calls_reach_one(made, due, tools):
    similarity = typed(format_calls(made), target_of(due), tools)
    assert 0.0 <= similarity <= 1.0
    assert similarity < 1.0 or same_calls(made, due)


@FEWER
@given(CALLS, CALLS, OFFERS, st.randoms(use_true_random=False))
def test_the_order_of_calls_keys_and_tools_changes_nothing(made, due, tools, random):
    def shuffled(items):
        return random.sample(items, len(items))

    def shuffled_calls(calls):
        return [ToolCall(call.name, deeply(call.arguments)) for call in shuffled(calls)]

    def deeply(value):
        if isinstance(value, dict):
            return {key: deeply(inner) for key, inner in shuffled([*value.items()])}
        return [deeply(item) for item in value] if isinstance(value, list) else value

    straight = typed(format_calls(made), target_of(due), tools)
    mixed = typed(format_calls(shuffled_calls(made)), target_of(shuffled_calls(due)), shuffled(tools))
    assert mixed == pytest.approx(straight, abs=1e-12)


@FEWER
@given(CALLS, OFFERS)
def test_the_target_itself_earns_one(calls, tools):
    assert typed(format_calls(calls), target_of(calls), tools) == 1.0


@FEWER
@given(CALLS, CALLS, OFFERS, st.data())
def test_mending_one_parameter_never_lowers_the_reward(made, due, tools, data):
    position = data.draw(st.integers(0, len(made) - 1))
    call = made[position]
    models = [other for other in due if other.name == call.name]
    if not models:
        return
    # What a call is mended towards is the target that it is matched with; with one of its name there is no doubt.
    due = [other for other in due if other.name != call.name or other is models[0]]
    made = [other for other in made if other.name != call.name or other is call]
    key = data.draw(st.sampled_from("abc"))
    arguments = {**call.arguments}
    arguments.pop(key, None)
    if key in models[0].arguments:
        arguments[key] = models[0].arguments[key]
    mended = [ToolCall(call.name, arguments) if other is call else other for other in made]
    before, after = (typed(format_calls(calls), target_of(due), tools) for calls in (made, mended))
    assert after >= before - 1e-12


@FEWER
@given(CALLS, CALLS, st.sampled_from("abc"))
def test_a_parameter_left_out_never_pays_more_than_a_wrong_one(made, due, key):
    due = [ToolCall(call.name, {**call.arguments, key: 1}) for call in due]
    wrong = [ToolCall(call.name, {**call.arguments, key: "another type"}) for call in made]
    left_out = [ToolCall(call.name, {k: v for k, v in call.arguments.items() if k != key}) for call in made]
    rewards = [typed(format_calls(calls), target_of(due), TOOLS) for calls in (left_out, wrong)]
    assert rewards[0] <= rewards[1] + 1e-12


@settings(deadline=None)
@given(GARBAGE, GARBAGE, CALLS)
def test_any_text_is_scored(completion, reply, calls):
    for target in ({"role": "assistant", "content": reply}, target_of(calls)):
        assert -1.0 <= typed(completion, target, TOOLS) <= 1.0


def milliseconds(made, due, tools):
    """Processor time of one reward once the target has been read, the median of sixteen different completions.

    In milliseconds of a quiet machine: a neighbour on the core slows a plain loop, measured by turns, as much. The
    median, for a collection of garbage that earlier tests left may fall into any of them.
    """
    completions, target = [format_calls(calls) for calls in made], target_of(due)
    typed(completions.pop(), target, tools)
    spent = []
    for completion in completions:
        started = time.process_time()
        typed(completion, target, tools)
        scored = time.process_time()
        sum(number * number for number in range(LOOP_OF_A_MILLISECOND))
        spent.append((scored - started) / (time.process_time() - scored))
    return statistics.median(spent)


LOOP_OF_A_MILLISECOND = 20_000
"""Turns of a plain loop that take a quiet machine about a millisecond."""


def texts(count, length, shift):
    words = ("call", "my", "mother", "about", "the", "garden", "at", "number", f"{shift}", "tonight")
    return [
        " ".join(words[(n * 7 + k * (shift + 1)) % 10] for k in range(length)) + f" {n}{shift}" for n in range(count)
    ]


SHAPES = {
    "short texts": (lambda n, shift: f"Sankt Peter-Ording {n} {shift}", 1.5),
    "sixty characters": (lambda n, shift: texts(25, 10, shift)[n], 2.0),
    "30 integers": (lambda n, shift: [*range(n, n + shift), *range(30 - shift)], 2.0),
    "10x3 matrices": (lambda n, shift: [[k, k * n, k + shift] for k in range(10)], 4.0),
    "20 strings": (lambda n, shift: texts(20, 2, shift + n), 6.0),
    "objects": (lambda n, shift: {"city": f"Sankt Peter-Ording {n}", "zip": shift, "tags": ["a", f"b {n}"]}, 2.0),
    "arrays of objects": (lambda n, shift: [{"item": f"tea {k + shift}", "count": n} for k in range(5)], 5.0),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_five_calls_of_five_parameters_take_about_a_millisecond(shape):
    value, expected = SHAPES[shape]
    tools = [{"name": "note", "parameters": {"type": "object", "properties": {key: {} for key in "abcde"}}}]

    def calls(shift):
        return [
            ToolCall("note", {key: value(5 * n + place, shift) for place, key in enumerate("abcde")}) for n in range(5)
        ]

    # What it takes on a machine of its own; a neighbour on the core may cost as much again.
    assert milliseconds([calls(shift) for shift in range(1, 18)], calls(0), tools) < 2 * expected


@pytest.mark.parametrize("item", [1, "word", {"a": 1}, [1]])
def test_long_arrays_are_scored_in_time(item):
    made = [ToolCall("f", {"a": [item, 0] * 150})]
    started = time.process_time()
    assert 0.0 < typed(format_calls(made), target_of([ToolCall("f", {"a": [0, item] * 140})]), TOOLS) < 1.0
    assert time.process_time() - started < 0.05


def nested(depth, leaf, width=1):
    for _ in range(depth):
        leaf = [leaf] * width
    return leaf


@pytest.mark.parametrize(("depth", "width"), [(50, 1), (60, 1), (5, 3)])
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"x": value}])
def test_deep_arrays_cost_their_size(depth, width, wrap):
    made, due = (ToolCall("f", {"a": wrap(nested(depth, leaf, width))}) for leaf in ("tea one", "tea two"))
    assert milliseconds([[made]] * 5, [due], TOOLS) < 60


def test_values_nested_beyond_what_completions_may_equal_nothing():
    deep = nested(5000, 1)
    tools = [{"name": "f", "parameters": {"type": "object", "properties": {"a": {"default": deep}}}}]
    for due in ({"a": deep}, {"a": [deep, "b"]}, {"b": {"a": deep}}):
        for made in ({"a": nested(60, 1)}, {"a": [nested(50, 1), "b"]}, {}):
            assert 0.0 <= typed(format_calls([ToolCall("f", made)]), target_of([ToolCall("f", due)]), tools) < 1.0


def test_an_array_too_long_to_align_pairs_equal_elements_or_positions():
    due = [f"word {n}" for n in range(40)]
    of = lambda made: of_value("days", made, due)  # noqa: E731
    # 5/12 for the rest; the value's own share is 1/12 beside the minimum's 1/2.
    assert of(["other", *due[:-1]]) == pytest.approx(5 / 12 + 39 / 40 * (1 / 12 + 1 / 2))
    assert of([f"Word {n}" for n in range(40)]) == pytest.approx(5 / 12 + NEAR * (1 / 12 + 1 / 2))


@pytest.mark.parametrize("due", [[BASE], [BASE, {**BASE, "hour": 7}], [BASE, {**BASE, "hour": 7}, {**BASE, "hour": 8}]])
@pytest.mark.parametrize("call", [BASE, {**BASE, "hour": 7}, {**BASE, "label": "Work"}, {"hour": 9}])
@pytest.mark.parametrize("times", [2, 3, 6])
def test_repeating_a_call_never_pays(due, call, times):
    due = [alarm(**arguments) for arguments in due]
    for others in ([], due[1:], [alarm(hour=3)]):
        once = [other for other in others if other.arguments != call]
        assert reward([*once, *[alarm(**call)] * times], due) < reward([*once, alarm(**call)], due)


def test_a_repeat_is_worse_than_a_nearly_right_call():
    due = [alarm(hour=5, label="Paris", repeat=True, volume=1)]
    exact = due[0].arguments
    for other in ({**exact, "repeat": False}, {**exact, "label": "City of Paris"}, {**exact, "hour": 6}):
        assert reward(due * 2, due) < reward([alarm(**other)], due)


def test_a_call_that_is_due_twice_is_made_twice():
    due = [alarm(**BASE)] * 2 + [STOP_CALL]
    assert reward(due, due) == reward(due[::-1], due) == 1.0
    assert reward(due[1:], due) == pytest.approx(2 / 3)
    assert reward([due[0], *due], due) == pytest.approx(3 / 5)


def test_a_number_in_another_form_makes_no_other_call():
    forms = [alarm(**BASE), alarm(**{**BASE, "hour": 5.0})]
    assert reward(forms, [alarm(**BASE)]) == reward(forms[::-1], [alarm(**BASE)]) == pytest.approx(1 / 3)


@FEWER
@given(CALLS, CALLS, OFFERS, st.data())
def test_repeating_never_pays_whatever_the_calls(made, due, tools, data):
    again = data.draw(st.sampled_from(made))
    if made.count(again) < due.count(again):
        return
    rewards = [typed(format_calls(calls), target_of(due), tools) for calls in (made, [*made, again])]
    assert rewards[1] < rewards[0] or rewards == [0.0, 0.0]
