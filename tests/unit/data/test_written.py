import json
from collections import Counter
from dataclasses import replace

import pytest

from star_edge.contracts import Example
from star_edge.data.spoken import can_be_read
from star_edge.data.written import (
    Shot,
    Wish,
    asking,
    fits,
    read_request,
    read_written,
    reading,
    reads_back,
    rows_of,
    shots_of,
    wishes,
)

TOOL = {
    "name": "get_forecast",
    "description": "Weather of some days.",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "default": 3},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "alerts": {"type": "boolean"},
        },
        "required": ["city"],
    },
}
OTHER = {**TOOL, "name": "news"}


def said(arguments, request):
    return f"Arguments: {json.dumps(arguments)}\nPerson: {request}"


def row(request, calls=1, role="user", tool=TOOL):
    call = {"name": tool["name"], "arguments": {"city": "Rome"}}
    answer = {"role": "assistant", "content": "", "tool_calls": [call] * calls}
    return Example("row", "test", ({"role": role, "content": request}, answer), (OTHER, tool))


def test_rows_show_one_request_with_calls_of_one_short_function():
    rows = [row("Rome tomorrow?"), row("Twice", calls=2), row("A\nB"), row("x" * 700), row("Rome?", role="tool")]
    rows += [row("Five times", calls=5), row("None", calls=0)]
    city = {"city": "Rome"}
    assert shots_of(rows) == [Shot(TOOL, (city,), "Rome tomorrow?"), Shot(TOOL, (city, city), "Twice")]


def one(city):
    return Shot(OTHER, ({"city": city},), f"How is {city}?")


def test_a_prompt_shows_three_rows_and_the_function():
    shots = [one(f"City {number}") for number in range(9)]
    first, second = wishes([TOOL, TOOL], parallel_share=0.0, seed=1)
    prompt = asking(first, shots, seed=1)
    text = prompt.prompt[0]["content"]
    assert text.count("Arguments: {") == text.count("Person: ") == 3
    assert text.count("Function: ") == 4
    assert json.dumps(TOOL, ensure_ascii=False) in text
    assert first.id != second.id
    assert prompt.id == first.id
    assert asking(first, shots, seed=1) == prompt
    assert asking(first, shots, seed=2) != prompt


def test_a_request_is_to_mention_what_is_required_and_some_of_the_rest():
    drawn = wishes([TOOL] * 200, parallel_share=0.0, seed=1)
    assert all("city" in wish.parameters and wish.calls == 1 for wish in drawn)
    assert 0.3 < sum("days" in wish.parameters for wish in drawn) / 200 < 0.5
    text = asking(drawn[0], [one("Oslo")], seed=1).prompt[0]["content"]
    assert f"for {', '.join(drawn[0].parameters)} and nothing else" in text
    bare = Wish({**TOOL, "parameters": {"type": "object", "properties": {}}}, "bare", ())
    assert "Arguments, which are {}, and" in asking(bare, [one("Oslo")], seed=1).prompt[0]["content"]


def test_some_functions_are_asked_for_in_several_calls_with_such_rows_to_show():
    drawn = wishes([TOOL] * 200, parallel_share=0.5, seed=1)
    assert 0.4 < sum(wish.calls > 1 for wish in drawn) / 200 < 0.6
    assert {wish.calls for wish in drawn} == {1, 2, 3, 4}
    wish = next(wish for wish in drawn if wish.calls == 3)
    both = Shot(OTHER, ({"city": "Oslo"}, {"city": "Bonn"}), "How are Oslo and Bonn?")
    text = asking(wish, [one("Rome"), both], seed=1).prompt[0]["content"]
    assert 'Arguments: {"city": "Oslo"}\nArguments: {"city": "Bonn"}\nPerson: How are Oslo and Bonn?' in text
    assert "How is Rome?" not in text
    assert "3 lines that begin with Arguments, for 3 different calls" in text
    assert "How is Rome?" in asking(wish, [one("Rome")], seed=1).prompt[0]["content"]  # where no row has several
    bare = {**TOOL, "parameters": {"type": "object", "properties": {}}}
    assert {wish.calls for wish in wishes([bare] * 50, parallel_share=1.0, seed=1)} == {1}


SEVERAL = Wish(TOOL, "a", ("city",), calls=2)


@pytest.mark.parametrize(
    ("text", "cities"),
    [
        ('Arguments: {"city": "Rome"}\nArguments: {"city": "Oslo"}\nPerson: How are Rome and Oslo?', ["Rome", "Oslo"]),
        ('Arguments: {"city": "Rome"}\nPerson: How are Rome and Oslo?', None),  # one call of two
        ('Arguments: {"city": "Rome"}\nArguments: {"city": "Rome"}\nPerson: How is Rome, twice?', None),
        ('Arguments: {"city": "Rome"}\nArguments: {"city": "Oslo"}\nPerson: How is it in Rome?', None),
    ],
)
def test_a_request_for_several_calls_says_all_of_them(text, cities):
    found = read_written(SEVERAL, text, "a")
    assert (found and [call.arguments["city"] for call in found.target_calls]) == cities
    if found is None:
        return
    assert found.kind == "parallel"
    assert rows_of({"a": [found]}, parallel_share=1.0, seed=1) == [found]  # it is joined to nothing
    both = ['Arguments: {"city": "Oslo"}', 'Arguments: {"city": "Rome"}']
    assert reads_back(found, "\n".join(both))
    assert not reads_back(found, both[0])
    assert not reads_back(found, "\n".join([*both, both[0]]))


def test_the_way_back_shows_the_words_and_asks_for_the_arguments():
    shots = [one("Oslo")]
    made, other = (written("f", city)[0] for city in ("Rome", "Bonn"))
    prompt = reading(made, shots, seed=1)
    text = prompt.prompt[0]["content"]
    assert 'Person: How is Oslo?\nArguments: {"city": "Oslo"}' in text
    assert text.endswith("Person: How is Rome today?\n\n" + text.split("\n\n")[-1])
    assert reading(replace(other, id=made.id), shots, seed=1).id != prompt.id
    assert reading(made, [one("Bonn")], seed=1).id != prompt.id


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('Arguments: {"city": "Rome"}', True),
        ('Arguments for get_forecast: {"city": "Rome"}', True),
        ('Arguments: {"city": "Rome", "days": 3}\n', True),  # a default is as good as nothing
        ('Arguments: {"city": "Rome", "days": 3.0}', True),
        ('Arguments: {"city": "Rome", "days": true}', False),
        ('Arguments: {"city": "Rome", "days": 4}', False),
        ('Arguments: {"city": "rome"}', False),
        ('Arguments: {"city": "Rome"}\nPerson: more', False),
        ('Arguments: ["Rome"]', False),
        ("Arguments: {", False),
        ("", False),
    ],
)
def test_a_row_is_kept_when_its_arguments_come_back(text, same):
    assert reads_back(written("f", "Rome")[0], text) is same


def test_a_default_that_is_said_may_come_back_or_not():
    made = read_written(
        Wish(TOOL, "a", ("city", "days")), said({"city": "Rome", "days": 3}, "Rome for the next 3 days"), "a"
    )
    answers = ('{"city": "Rome", "days": 3}', '{"city": "Rome"}', '{"city": "Rome", "days": 5}')
    assert [reads_back(made, f"Arguments: {answer}") for answer in answers] == [True, True, False]


def test_a_label_without_a_default_that_is_said_does_not_come_back():
    made = read_written(Wish(TOOL, "a", ("city",)), said({"city": "Rome"}, "Rome for the next 3 days"), "a")
    answers = ('{"city": "Rome"}', '{"city": "Rome", "days": 3}')
    assert [reads_back(made, f"Arguments: {answer}") for answer in answers] == [True, False]


@pytest.mark.parametrize(("days", "same"), [(("", ', "days": 3'), True), ((', "days": 3', ', "days": 3'), False)])
def test_a_default_that_is_said_of_several_calls_is_in_as_many(days, same):
    made = read_written(
        Wish(TOOL, "a", ("city", "days"), 2),
        'Arguments: {"city": "Rome"}\nArguments: {"city": "Oslo", "days": 3}\nPerson: 3 days in Rome and 3 in Oslo',
        "a",
    )
    answer = "\n".join(
        f'Arguments: {{"city": "{city}"{more}}}' for city, more in zip(("Rome", "Oslo"), days, strict=True)
    )
    assert reads_back(made, answer) is same


def test_calls_that_differ_by_case_alone_are_not_several():
    text = 'Arguments: {"city": "Rome"}\nArguments: {"city": "rome"}\nPerson: Weather of Rome and rome'
    assert read_written(Wish(TOOL, "a", ("city",), 2), text, "a") is None


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (said({"city": "Rome", "days": 5}, "How will Rome be in the next 5 days?"), {"city": "Rome", "days": 5}),
        (said({"city": "Rome"}, '"What about rome?"'), {"city": "Rome"}),
        (said({"city": "Rome", "days": 3}, "What about Rome today?"), {"city": "Rome"}),  # nobody said the default
        (said({"city": "Rome", "alerts": True}, "Warn me of storms in Rome"), None),  # was not asked for
        (said({"city": "Rome", "unit": "celsius"}, "Rome in Celsius, please"), {"city": "Rome", "unit": "celsius"}),
        (said({"city": "Rome", "days": 7}, "Rome for seven days"), {"city": "Rome", "days": 7}),
        (said({"city": "Rome", "days": 3}, "Rome for the next 3 days"), {"city": "Rome", "days": 3}),  # a default, said
        (said({"city": "Rome", "days": 4}, "What about Rome today?"), None),  # a value out of nowhere
        (said({"days": 5}, "The next 5 days, please"), None),
        (said({"city": "Rome", "days": "5"}, "Rome for 5 days"), None),
        (said({"city": "Rome", "days": True}, "Rome, all days"), None),
        (said({"city": "Rome", "unit": "kelvin"}, "Rome in kelvin"), None),
        (said({"city": "Rome", "hours": 5}, "Rome for 5 hours"), None),
        (said({"city": None}, "Weather, please, for none"), None),
        (said({"city": "Rome"}, "get_forecast of Rome"), None),
        (said({"city": "Rome"}, "forecast(Rome) please"), None),
        (said({"city": "Rome"}, "Rome?"), None),
        (said({"city": "Rome"}, "Would you like to see Rome's weather?"), None),  # an offer
        (said({"city": "Rome"}, "How can I help you with Rome?"), None),
        (said({"city": "Rome"}, "If you’d like to see Rome, say so."), None),
        (said({"city": "Rome"}, "Do you want the weather of Rome?"), None),
        (said({"city": "Rome"}, "Rome, if that is what you want."), None),
        (said({"city": "Rome"}, "Continue with your request of Rome."), None),
        (said({"city": "Rome"}, "Here are the forecasts of Rome."), None),
        (said({"city": "Rome"}, "Weather of Paris today"), None),
        (said({"city": "Rome"}, "Weather of Rome today\nArguments: {}"), None),
        ("Arguments: {broken\nPerson: Weather of Rome today", None),
        ("Person: Weather of Rome today", None),
        ('Arguments: ["Rome"]\nPerson: Weather of Rome today', None),
        ("", None),
    ],
)
def test_only_calls_that_can_be_read_off_the_words_are_kept(text, arguments):
    found = read_written(Wish(TOOL, "a", ("city", "days", "unit")), text, "a")
    if arguments is None:
        assert found is None
        return
    assert [dict(call.arguments) for call in found.target_calls] == [arguments]
    assert (found.kind, found.source, found.tools) == ("single", "written", (TOOL,))


@pytest.mark.parametrize(
    ("value", "request_text", "can"),
    [
        (-3.5, "It is -3.5 degrees", True),
        (3.5, "It is 35 degrees", False),
        (10, "It is 100 degrees", False),
        (10, "Ten of them", True),
        (1500, "It costs 1,500 dollars", True),
        (0.058, "At 5.8 %", True),
        (0.05, "At five percent", True),
        (5, "At 5 percent", True),
        (0.05, "At 5 Percent", True),
        (0.05, "At 5", False),
        ("2023-10-05", "On October 5, 2023", True),
        ("2023-10-05", "On October 6, 2023", False),
        ("18:30", "At 6:30 p.m.", True),
        ("18:00", "At 6 in the evening", True),
        ("18:00", "At 6 PM", True),
        ("18:30", "Wake me at 6:30pm", True),
        ("18:30", "At 6:30 am", False),
        ("San Francisco, CA", "Somewhere in San Francisco", True),
        ("Madison, Wisconsin", "What is on in Madison?", True),
        ("Los Angeles", "What is on in Madison?", False),
        ("Great Barrier Reef", "What is on at the barrier?", False),  # one word of three
        ("es", "In Spanish, please", True),
        ("celsius", "In degrees Celsius", True),
        ("recommended", "Recommend me some", True),
        (["a b", {"x": 7}], "A b, then 7", True),
        (["a b", {"x": 7}], "A b, then 8", False),
        ("???", "What???", False),
        (False, "Anything", True),
    ],
)
def test_numbers_are_said_in_some_way_and_most_words_in_some_form(value, request_text, can):
    assert can_be_read(value, request_text) is can


@pytest.mark.parametrize(
    ("value", "schema", "fit"),
    [(1, {"type": "number"}, True), (1.5, {"type": "integer"}, False), (None, {}, False), (["a", [None]], {}, False),
     ([1, "a"], {"items": {"type": "integer"}}, False), ("x", {}, True), ("x", {"type": ["string", "null"]}, True),
     (True, {"type": "integer"}, False), ("x", {"enum": ["y"]}, False), ("x", {"type": "text"}, False),
     ("x", {"$ref": "#/nowhere"}, False), ("x", {"$ref": "http://example.invalid/s.json"}, False),
     ("x", {"$ref": "#/properties/a"}, False)],
)  # fmt: skip
def test_arguments_meet_the_schema(value, schema, fit):
    assert fits({"a": value}, {"properties": {"a": schema}}) is fit


def test_arguments_are_all_that_is_required_and_nothing_unknown():
    parameters = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}
    assert [fits(given, parameters) for given in ({"a": 1}, {"b": 1}, {"a": 1, "c": 1})] == [True, False, False]


def written(name, *cities, tool=TOOL):
    found = [
        read_written(
            Wish({**tool, "name": name}, name, ("city",)),
            said({"city": city}, f"How is {city} today?"),
            f"{name}-{city}",
        )
        for city in cities
    ]
    assert None not in found
    return found


def calls_of(rows):
    return [[(call.name, call.arguments["city"]) for call in row.target_calls] for row in rows]


CITIES = ("Rome", "Oslo", "Bonn", "Lima", "Kiel", "Graz")


@pytest.mark.parametrize("seed", range(8))
def test_requests_of_a_function_are_joined_two_to_four_at_a_time_and_the_rest_stay_alone(seed):
    first, *rest = rows_of({"a": written("fa", *CITIES, "Rome")}, parallel_share=1.0, seed=seed)
    count = len(first.target_calls)

    assert 2 <= count <= 4
    assert calls_of([first, *rest]) == [
        [("fa", city) for city in CITIES[:count]],
        *([("fa", city)] for city in CITIES[count:]),
    ]
    assert [row.kind for row in (first, *rest)] == ["parallel", *["single"] * len(rest)]
    assert [tool["name"] for tool in first.tools] == ["fa"]
    assert all(city in first.prompt[0]["content"] for city in CITIES[:count])


def test_functions_with_one_request_are_joined_with_others():
    rows = rows_of({city: written(f"f{city}", city) for city in CITIES} | {"none": []}, parallel_share=1.0, seed=1)
    joined = [call for row in calls_of(rows) for call in row]

    assert joined == [(f"f{city}", city) for city in CITIES]
    assert 1 < len(rows) < len(CITIES)
    assert all([tool["name"] for tool in row.tools] == [call.name for call in row.target_calls] for row in rows)


def several(name, *cities):
    """A row of one request for a call each."""
    (row,) = rows_of(
        {"a": written(name, *cities)}, parallel_share=1.0, seed=next(n for n in range(99) if joins(n, cities))
    )
    return row


def joins(seed, cities):
    return len(rows_of({"a": written("f", *cities)}, parallel_share=1.0, seed=seed)) == 1


def test_a_request_for_several_calls_is_joined_with_those_of_other_functions():
    two, other = several("fa", "Rome", "Oslo"), several("fa", "Kiel", "Graz")
    rows = rows_of({"a": [two, other], "b": written("fb", "Lima")}, parallel_share=1.0, seed=1)

    assert sorted(map(len, calls_of(rows))) == [2, 3]
    assert calls_of(rows)[0] == [("fa", "Kiel"), ("fa", "Graz")]
    assert calls_of(rows)[1] == [("fa", "Rome"), ("fa", "Oslo"), ("fb", "Lima")]
    assert [tool["name"] for tool in rows[1].tools] == ["fa", "fb"]
    assert rows[1].kind == "parallel"


def test_rows_of_many_calls_or_of_functions_of_one_name_are_not_joined():
    four, two = several("fa", *CITIES[:4]), several("fb", *CITIES[:2])
    assert sorted(map(len, calls_of(rows_of({"a": [four], "b": [two]}, parallel_share=1.0, seed=1)))) == [2, 4]
    assert [
        len(calls) for calls in calls_of(rows_of({"a": [four], "b": written("fb", "Rome")}, parallel_share=1.0, seed=1))
    ] == [5]
    alike = {"a": written("fa", "Rome"), "b": written("fa", "Oslo")}
    assert [len(calls) for calls in calls_of(rows_of(alike, parallel_share=1.0, seed=1))] == [1, 1]


def test_first_is_said_once():
    many = {f"{n}": written(f"f{n}", CITIES[n % 6]) for n in range(200)}
    texts = [row.prompt[0]["content"] for row in rows_of(many, parallel_share=1.0, seed=2)]
    assert max(text.count("First: ") for text in texts) == 1


def test_three_and_four_calls_are_asked_for_more_often_than_two():
    tools = [{**TOOL, "name": f"f{n}"} for n in range(300)]
    counts = Counter(wish.calls for wish in wishes(tools, parallel_share=1.0, seed=1))
    assert counts.keys() == {2, 3, 4}
    assert counts[3] > counts[2] < counts[4]


def test_joined_rows_have_two_to_four_calls():
    many = {f"{n}": written(f"f{n}", CITIES[n % 6]) for n in range(60)}
    sizes = [len(row.target_calls) for row in rows_of(many, parallel_share=1.0, seed=2)]

    assert set(sizes[:-1]) == {2, 3, 4}


def test_without_a_share_every_distinct_call_is_a_row():
    rows = rows_of({"a": written("fa", "Rome", "Rome", "rome", "Oslo")}, parallel_share=0.0, seed=1)
    assert [row.target_calls[0].arguments["city"] for row in rows] == ["Rome", "Oslo"]
    odd = rows_of({"a": written("fa", "Rome")}, parallel_share=1.0, seed=1)
    assert [row.kind for row in odd] == ["single"]


@pytest.mark.parametrize(
    ("text", "request_text"),
    [
        (said({"city": "Rome"}, '"Weather of Paris today"'), "Weather of Paris today"),
        ("Arguments: {broken\nPerson: Weather of Rome today\n\nFunction: {}\nPerson: News?", "Weather of Rome today"),
        ("Person: Weather of Rome today", "Weather of Rome today"),
        (said({"city": "Contact Person: John at noon"}, "Weather of Rome today"), "Weather of Rome today"),
        ('Arguments: {\n  "city": "First Person: a novel of our times",\n}', None),
        (said({"city": "Rome"}, "Would you like to know the weather of Rome?"), None),
        (said({"city": "Rome"}, "get_forecast of Rome today"), None),
        (said({"city": "Rome"}, "Rome"), None),
        (said({"city": "Rome"}, ""), None),
        ("Arguments: {}", None),
    ],
)
def test_a_request_needs_no_arguments_and_is_what_a_person_says(text, request_text):
    found = read_request(Wish(TOOL, "a", ("city",)), text, "a-1")
    if request_text is None:
        assert found is None
    else:
        assert (found.id, found.tools, found.kind, found.target_calls) == ("a-1", (TOOL,), "", ())
        assert found.prompt == ({"role": "user", "content": request_text},)
