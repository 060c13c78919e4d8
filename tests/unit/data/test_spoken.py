import pytest

from star_edge.contracts import Example, ToolCall
from star_edge.data.spoken import unsaid

BOOK = {
    "name": "book",
    "description": "",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "nights": {"type": "integer"},
            "rooms": {"type": "array", "items": {"type": "integer"}},
            "quiet": {"type": "boolean"},
            "class": {"type": "string", "enum": ["budget", "fine"]},
            "view": {"anyOf": [{"const": "sea"}, {"type": "null"}]},
            "note": {"type": "string", "default": "none at all"},
            "extras": {"type": "array", "items": {"type": "string", "enum": ["breakfast", "garage"]}},
            "key": {"type": "string"},
        },
        "required": ["city"],
    },
}


def row(*messages):
    said = [{"role": "user", "content": text} if isinstance(text, str) else text for text in messages]
    return Example("1", "test", (*said, {"role": "assistant", "content": ""}), (BOOK,))


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"city": "Rome"}, []),  # required: the model has to say something
        ({"nights": 3}, []),
        ({"nights": 4}, ["nights"]),
        ({"rooms": [3]}, []),
        ({"rooms": [3, 7]}, ["rooms"]),
        ({"quiet": True, "class": "budget", "extras": ["garage"]}, []),
        ({"key": "demonstration"}, ["key"]),
        ({"view": "sea", "note": None}, []),
        ({"note": ""}, []),
        ({"note": "False"}, []),
        ({"note": "USD"}, []),  # a code, of which nobody can tell
        ({"note": "quiet room"}, ["note"]),
        ({"note": "none at all"}, []),
        ({"nobody": "offered it"}, ["nobody"]),
    ],
)
def test_values_of_optional_parameters_are_looked_for_in_what_was_said(arguments, found):
    example = row("Book three nights in Oslo")
    assert unsaid([ToolCall("book", arguments)], example) == [("book", name, arguments[name]) for name in found]


def test_all_that_came_before_is_heard():
    call = {"name": "book", "arguments": {"city": "Oslo", "nights": 12}}
    example = row(
        {"role": "system", "content": "The customer's key is fjord-77."},
        "Book it as last time",
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": '{"rooms": [81]}'},
        "And again",
    )
    again = ToolCall("book", {"city": "Oslo", "nights": 12, "rooms": [81], "key": "fjord-77"})
    assert unsaid([again], example) == []
    assert unsaid([again, ToolCall("book", {"nights": 13})], example) == [("book", "nights", 13)]


def test_what_is_about_to_be_answered_is_not_heard():
    call = {"name": "book", "arguments": {"nights": 9}}
    example = Example(
        "1",
        "test",
        ({"role": "user", "content": "Book"}, {"role": "assistant", "content": "", "tool_calls": [call]}),
        (BOOK,),
    )
    assert unsaid(example.target_calls, example) == [("book", "nights", 9)]


@pytest.mark.parametrize(
    ("request_text", "numbers"),
    [
        ("for thirty minutes", [30]),
        ("twenty-five of them", [20, 25]),
        ("a hundred and two", [100, 102]),
        ("two hundred and five thousand", [2, 200, 205, 205000]),
        ("half a million", [0.5]),
        ("2.5 million or 5k", [2.5, 2500000, 5, 5000]),
        ("a dozen, twice, on the third page", [12, 2, 3]),
        ("two dozen or a couple", [2, 24]),
        ("twenty-five percent", [20, 25, 0.2, 0.25]),
        ("a room and a view", []),
    ],
)
def test_numbers_are_heard_in_words(request_text, numbers):
    example = row(request_text)
    for number in (0.2, 0.25, 0.5, 1, 2, 2.5, 3, 5, 12, 20, 24, 25, 30, 100, 102, 200, 205, 5000, 205000, 2500000):
        found = unsaid([ToolCall("book", {"nights": number})], example)
        assert (not found) == (number in numbers), number


@pytest.mark.parametrize(("city", "heard"), [("北京", True), ("東京", False)])
def test_words_without_spaces_between_them_are_heard(city, heard):
    assert (not unsaid([ToolCall("book", {"note": city})], row("我想去北京旅游"))) is heard


@pytest.mark.parametrize(
    ("said", "time"),
    [("at six in the evening", "18:00"), ("at half past six", "18:30"), ("at noon", "12:00"), ("at 9 pm", "21:00")],
)
def test_hours_are_heard_as_a_clock_shows_them(said, time):
    assert not unsaid([ToolCall("book", {"note": time})], row(said))
    assert unsaid([ToolCall("book", {"note": "17:45"})], row(said))
