"""Right, nearly right and absurd answers to BFCL cases, to compare two checkers on; none is marked as right.

They add to `evaluate.perturb` what no model should answer: every form of source text, absurd types, damaged documents.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Iterator, Mapping
from typing import Any

from star_edge.contracts import ToolCall
from star_edge.evaluate.bfcl.cases import BfclCase
from star_edge.evaluate.perturb import perturbed

Calls = list[ToolCall]
Random = random.Random


def answers(case: BfclCase, *, seed: int, count: int) -> Iterator[Calls]:
    """`count` answers: those of `perturbed`, and others in which values were changed once or twice more."""
    rng = Random(f"{case.id} {seed}")
    known = [list(answer.calls) for answer in perturbed(case, seed=seed, count=count // 2)]
    yield from known
    for _ in range(count - len(known)):
        calls = rng.choice(known) if rng.random() < 0.4 else canonical(case, rng)
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            calls = with_other_value(case, calls, rng)
        yield calls


def canonical(case: BfclCase, rng: Random) -> Calls:
    """One call an answer, each parameter with one of its accepted values, source text where that is due."""
    calls = []
    for answer in case.answers:
        (name, accepted), *_ = answer.items()
        schemas = properties(case, name)
        arguments = {}
        for parameter, options in accepted.items():
            values = [option for option in options if option != ""]
            if not values or ("" in options and rng.random() < 0.5):
                continue
            value = picked(rng.choice(values), rng)
            schema = schemas.get(parameter, {})
            arguments[parameter] = value if case.language == "python" else source_text(case, value, schema, rng)
        calls.append(ToolCall(name, arguments))
    return calls


def properties(case: BfclCase, name: str) -> Mapping[str, Any]:
    documents = [document for document in case.functions if document["name"] == name] or case.functions
    found: Mapping[str, Any] = documents[0]["parameters"].get("properties", {}) if documents else {}
    return found


def picked(option: Any, rng: Random) -> Any:
    """The accepted values of a dictionary are lists of accepted values, one a key (an odd case may say otherwise)."""
    if isinstance(option, list):
        return [picked(item, rng) if isinstance(item, dict) else item for item in option]
    if isinstance(option, dict):
        lists = {key: choices if isinstance(choices, list) else [choices] for key, choices in option.items()}
        values = {key: rng.choice(choices) for key, choices in lists.items() if choices}
        return {key: value for key, value in values.items() if value != "" or rng.random() < 0.2}
    return option


# ---------------------------------------------------------------------------------------------------- source text


def form(rng: Random, usual: str, *others: str) -> str:
    """The form that the checkers know, or, one time in eight, another."""
    return rng.choice(others) if others and rng.random() < 0.125 else usual


def source_text(case: BfclCase, value: Any, schema: Mapping[str, Any], rng: Random) -> str:
    """A value as source text in one of the forms that a programmer may write."""
    kind = str(schema.get("type"))
    elements = str(schema.get("items", {}).get("type", ""))
    if isinstance(value, str):
        return form(rng, value, f'"{value}"', f"'{value}'")
    write = java_text if case.language == "java" else javascript_text
    return write(value, kind, elements, rng)


def java_text(value: Any, kind: str, elements: str, rng: Random) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value) + form(rng, {"long": "L", "float": "f"}.get(kind, ""), "l", "F", "d", "\n", ".0")
    if isinstance(value, list):
        return java_list(value, kind, elements, rng)
    if isinstance(value, dict):
        puts = " ".join(f'put("{key}", {java_text(item, "", "", rng)});' for key, item in value.items())
        kinds = rng.choice(("", "String, Object"))
        body = form(rng, f"{{{{ {puts} }}}}", f"{{{{{puts}}}}}", f"{{ {{{puts}}} }}", f"{{{puts}}}", f"{{{{{puts}")
        return form(rng, f"new HashMap<{kinds}>(){body}", f"new HashMap<{kinds}>() {body}", f"Map.of({puts})")
    return f'"{value}"'


def java_list(value: list[Any], kind: str, elements: str, rng: Random) -> str:
    items = [java_text(item, elements, "", rng) for item in value]
    if kind == "Array":
        items = [item[1:-1] if elements == "String" else item for item in items]
    joined = form(rng, ", ", ",").join(items)
    added = " ".join(f"add({item});" for item in items)
    lists = (
        f"new ArrayList<>(Arrays.asList({joined}))",
        f"new ArrayList<Object>() {{{{ {added} }}}}",
        f"new ArrayList<>(){{{{{added}}}}}",
        f"new ArrayList<Object>({joined})",
    )
    arrays = (f"new Object[]{{{joined}}}", f"new int[] {{ {joined} }}", f"{{{joined}}}", f"new int[3] {{{joined}}}")
    first, second = (lists, arrays) if kind == "ArrayList" else (arrays, lists)
    return form(rng, first[0], first[1], first[2], *first, *second)


def javascript_text(value: Any, kind: str, elements: str, rng: Random) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value) + form(rng, "n" if kind == "Bigint" else "", "n", " ", ".0")
    if isinstance(value, list):
        joined = form(rng, ", ", ",").join(javascript_text(item, elements, "", rng) for item in value)
        return form(rng, f"[{joined}]", f" [ {joined} ]", f"new Array({joined})", f"[{joined}", f"Array.of({joined})")
    if isinstance(value, dict):
        mark = rng.choice(("", "'", '"'))
        parts = (f"{mark}{key}{mark}: {javascript_text(item, '', '', rng)}" for key, item in value.items())
        fields = form(rng, ", ", ",").join(parts)
        return form(rng, f"{{{fields}}}", f"{{ {fields} }}", f"({{{fields}}})", f"{{{fields}")
    return form(rng, f"'{value}'", f'"{value}"', str(value))


# -------------------------------------------------------------------------------------------------------- changes


def other_values(value: Any, rng: Random) -> list[Any]:
    """Neighbours of one value: other types, other spellings, other orders, other nesting."""
    found = [None, True, False, 0, 1, 1.5, "", [], {}, [value], [[value]], {"key": value}, str(value), 10**400, [None]]
    if isinstance(value, bool | int | float):
        found += [int(value) if abs(value) < 1e300 else 0, bool(value), -value, value + 1]
        found += [float(value)] if abs(value) < 1e300 else []
    if isinstance(value, str):
        found += [
            value.upper(),
            value.title(),
            f" {value}.",
            value.replace(" ", ""),
            value.replace(" ", "_"),
            value + "x",
        ]
        found += [
            value[:-1],
            f"'{value}'",
            f'"{value}"',
            value + "\n",
            list(value),
            value.replace("'", '"'),
            f"{value}L",
        ]
    if isinstance(value, list):
        found += [
            value[::-1],
            value[:-1],
            [*value, *value[:1]],
            [str(item) for item in value],
            with_floats(value),
            [*value, ""],
        ]
        found += [[item.upper() if isinstance(item, str) else item for item in value], value[0] if value else None]
        found += [[changed_dict(item, rng) if isinstance(item, dict) else item for item in value]]
    if isinstance(value, dict):
        found += [
            changed_dict(value, rng),
            changed_dict(value, rng),
            dict(reversed(value.items())),
            [value],
            list(value),
        ]
    return found


def with_floats(value: list[Any]) -> list[Any]:
    return [float(item) if type(item) is int and abs(item) < 1e300 else item for item in value]


def changed_dict(value: dict[str, Any], rng: Random) -> dict[str, Any]:
    changed = dict(value)
    key = rng.choice(list(changed)) if changed else "key"
    kind = rng.randrange(4)
    if kind == 0:
        changed.pop(key, None)
    elif kind == 1:
        changed["surplus"] = 1
    elif kind == 2 and isinstance(changed.get(key), str):
        changed[key] = changed[key].upper().replace(" ", "-")
    else:
        changed[key] = rng.choice(other_values(changed.get(key), rng)[:14])
    return changed


def with_other_value(case: BfclCase, calls: Calls, rng: Random) -> Calls:
    """One argument of one call changed, a string mostly in its text."""
    places = [(place, name) for place, call in enumerate(calls) for name in call.arguments]
    if not places:
        return calls
    place, name = rng.choice(places)
    call = calls[place]
    value = call.arguments[name]
    damaged = isinstance(value, str) and value and rng.random() < 0.5
    other = damaged_text(value, rng) if damaged else rng.choice(other_values(value, rng))
    return [*calls[:place], ToolCall(call.name, {**call.arguments, name: other}), *calls[place + 1 :]]


def damaged_text(text: str, rng: Random) -> str:
    """A character less, doubled, or another one."""
    at = rng.randrange(len(text))
    return text[:at] + rng.choice(("", text[at] * 2, *"[]{}(),:'\"Lfn0 \n")) + text[at + 1 :]


# ------------------------------------------------------------------------------------------------------ documents


def odd_case(case: BfclCase, rng: Random) -> BfclCase:
    """The case with one document or answer changed, so that a checker meets types and shapes it does not expect."""
    functions, right = copy.deepcopy(list(case.functions)), copy.deepcopy(list(case.answers))
    document = rng.choice(functions)["parameters"]
    schema = rng.choice(list(document["properties"].values())) if document["properties"] else {}
    options = rng.choice(
        [options for answer in right for options in rng.choice(list(answer.values())).values()] or [[]]
    )
    change = rng.randrange(6)
    if change == 0:
        schema["type"] = rng.choice(
            ("number", "array", "tuple", "dict", "float", "any", "Set", "Queue", "Array", "", ["a"])
        )
    elif change == 1:
        schema["items"] = {"type": rng.choice(("string", "dict", "array", "Stack", "integer", "unknown"))}
    elif change == 2:
        document.pop(rng.choice(("required", "properties")))
    elif change == 3:
        options[:] = rng.choice(
            ([], [""], [None], [1], ["", []], [{}], [{"a": 1}], [[{"a": ["b"]}]], [[1, ""]], ["text"])
        )
    elif change == 4:
        functions.remove(rng.choice(functions))
    else:
        options.append(rng.choice(("", 3, "variable", {"a": {"b": 1}}, [[1]], {"a": 1}, None)))
    return dataclasses.replace(case, functions=tuple(functions), answers=tuple(right))
