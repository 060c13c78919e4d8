"""Recipes: find, load, override, check, hash.

A recipe is YAML whose keys are the fields of `contracts.Recipe`. Every mistake is one line that names the file, the
line, and the nearest name there is. Numbers are taken as YAML reads them: `1e-5` is a string there and is refused
rather than guessed at.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import yaml

from star_edge.contracts import Recipe
from star_edge.errors import RecipeError
from star_edge.manifest import hash_json, plain
from star_edge.recipe_values import check_values

KeyPath = tuple[Any, ...]  # keys of mappings (str) and positions in lists (int)
ENDLESS = "an anchor holds itself, or values nest too deeply; write the values out"
YAML_BLIND_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


@dataclass(frozen=True)
class LoadedRecipe:
    """A checked recipe and the file it came from (paths inside it are relative to that file's folder first)."""

    recipe: Recipe
    path: Path

    @property
    def folder(self) -> Path:
        return self.path.parent


def packaged_folder() -> Path:
    """The folder of the recipes that ship with star-edge."""
    return Path(str(resources.files("star_edge.recipes")))


def list_recipes() -> list[Path]:
    """Every recipe that ships with star-edge, sorted."""
    return sorted(path for path in packaged_folder().rglob("*.yaml") if _is_recipe(path))


def _is_recipe(path: Path) -> bool:
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        return True  # let `load` say what is wrong with it
    keys = {key.value for key, _ in node.value} if isinstance(node, yaml.MappingNode) else set()
    return {"teacher", "student"} <= keys


def find(name: str) -> Path:
    """Resolve a path, or the name of a packaged recipe (`quickstart` means `quickstart/star.yaml`).

    Raises: RecipeError: neither exists.
    """
    direct = Path(name)
    if direct.is_file():
        return direct
    folder = packaged_folder()
    relative = name.removeprefix("recipes/")
    for candidate in (folder / relative, folder / relative / "star.yaml", folder / f"{relative}.yaml"):
        if candidate.is_file():
            return candidate
    known = [path.relative_to(folder).as_posix() for path in list_recipes()]
    near = difflib.get_close_matches(relative, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else "see `star-edge recipes list`"
    raise RecipeError(f"recipe {name}: no such file; {hint}")


def load(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read, override and check a recipe.

    Args:
        path: the YAML file.
        overrides: `key.path=value` texts; the value is YAML, list items are addressed by number.

    Raises: RecipeError: unreadable file, unknown key, wrong type, or an impossible value.
    """
    label = path.name if not path.parent.name else f"{path.parent.name}/{path.name}"
    tree, lines = _read_yaml(path, label)
    for override in overrides:
        _apply(tree, override, lines)
    _forget_vllm_logprobs(tree, lines, label)
    _refuse_unknown_keys(Recipe, tree, (), lines, label)
    try:
        recipe = msgspec.convert(tree, Recipe, strict=True)
    except msgspec.ValidationError as error:
        raise _type_error(error, tree, lines, label) from None
    check_values(recipe, label)
    return LoadedRecipe(recipe, path)


def recipe_hash(recipe: Recipe) -> str:
    """Hex SHA-256 of the resolved recipe."""
    return hash_json(recipe)


def recorded_hash(resolved: Path) -> str:
    """The hash that a run wrote above its resolved recipe; recipes have more keys later, and other hashes then."""
    first = resolved.read_text(encoding="utf-8").partition("\n")[0]
    found = re.fullmatch(r"# ([0-9a-f]{64})", first)
    return found[1] if found else recipe_hash(load(resolved).recipe)


def to_yaml(recipe: Recipe) -> str:
    """The resolved recipe as YAML that `load` reads back to the same recipe."""
    text: str = yaml.dump(plain(recipe), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def value_text(value: Any) -> str:
    """One value as a recipe, or `--set`, writes it."""
    text: str = yaml.dump(plain(value), Dumper=_Dumper, default_flow_style=True, width=math.inf)
    return text.removesuffix("...\n").strip()


class _Dumper(yaml.SafeDumper):
    """Floats with a point before the exponent, so that YAML reads them back as numbers."""


def _represent_float(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    text = repr(value)
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Dumper.add_representer(float, _represent_float)


def _read_yaml(path: Path, label: str) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """The document as plain values, and for each key path where it stands (`:14` for line 14)."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path}: cannot read it ({error})") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = yaml.safe_load(text)
        if not isinstance(tree, dict) or node is None:
            raise RecipeError(f"recipe {label}: expected keys and values; see `star-edge recipes show quickstart`")
        return _unshared(tree), dict(_line_numbers(node, (), label))
    except RecursionError:
        raise RecipeError(f"recipe {label}: {ENDLESS}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise RecipeError(f"recipe {label}{where}: {problem}; check indentation and quotes there") from None


def _unshared(value: Any) -> Any:
    """The same tree with a copy wherever an anchor is used: `--set` changes one place, not all that look like it."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def _line_numbers(node: yaml.Node, path: KeyPath, label: str) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise RecipeError(
                    f"recipe {label}:{key.start_mark.line + 1}: key {key.value!r} stands twice; remove one"
                )
            seen.add(key.value)
            yield (*path, key.value), f"recipe {label}:{key.start_mark.line + 1}"
            yield from _line_numbers(value, (*path, key.value), label)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, index), f"recipe {label}:{item.start_mark.line + 1}"
            yield from _line_numbers(item, (*path, index), label)


def _apply(tree: dict[str, Any], override: str, lines: dict[KeyPath, str]) -> None:
    """Write one `key.path=value` into the tree; the path's place becomes the override itself."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise RecipeError(f"--set {override}: expected key=value, for example --set distill.optimizer.lr=2.0e-6")
    try:
        value = _unshared(yaml.safe_load(text))
    except RecursionError:
        raise RecipeError(f"--set {override}: {ENDLESS}") from None
    except yaml.YAMLError:
        value = text
    path: KeyPath = tuple(int(part) if part.isdecimal() else part for part in dotted.split("."))
    target: Any = tree
    for depth, part in enumerate(path):
        lines[path[: depth + 1]] = f"--set {override}"
        if isinstance(target, list) and not (isinstance(part, int) and part < len(target)):
            raise RecipeError(f"--set {override}: the list has {len(target)} items, numbered from 0; {part!r} is none")
        if not isinstance(target, (dict, list)):
            raise RecipeError(f"--set {override}: {'.'.join(map(str, path[:depth]))!r} is a value and has no keys")
        if depth == len(path) - 1:
            target[part] = value
            _forget_below(path, lines)
        else:
            if isinstance(target, dict) and target.get(part) is None:
                target[part] = {}
            target = target[part]


def _forget_below(path: KeyPath, lines: dict[KeyPath, str]) -> None:
    """What the file had inside a value that was replaced: a mistake in the new one is not on those lines."""
    for below in [key for key in lines if len(key) > len(path) and key[: len(path)] == path]:
        del lines[below]


def _place(path: KeyPath, lines: dict[KeyPath, str], label: str) -> str:
    """Where a key stands, or the nearest above it of which that is known."""
    known = max((length for length in range(len(path) + 1) if path[:length] in lines), default=0)
    return lines.get(path[:known], f"recipe {label}")


def _forget_vllm_logprobs(tree: dict[str, Any], lines: dict[KeyPath, str], label: str) -> None:
    """Pass over a key that is gone, where it says what is so anyway: resolved recipes of earlier runs have it."""
    cache = tree.get("cache")
    if not isinstance(cache, dict) or not isinstance(asked := cache.get("vllm_logprobs"), bool):
        return
    if cache.get("use_vllm") and not asked:
        where = _place(("cache", "vllm_logprobs"), lines, label)
        raise RecipeError(f"{where}: cache.vllm_logprobs: what vLLM draws has vLLM's log-probabilities; remove the key")
    del cache["vllm_logprobs"]


def _refuse_unknown_keys(kind: Any, value: Any, path: KeyPath, lines: dict[KeyPath, str], label: str) -> None:
    """msgspec ignores keys a dataclass lacks, so they are looked for here, with the nearest name."""
    inner = _dataclass_in(kind)
    if inner is not None and isinstance(value, dict):
        hints = typing.get_type_hints(inner)
        for key, item in value.items():
            if key not in hints:
                near = difflib.get_close_matches(str(key), hints, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(hints)}"
                where = _place((*path, key), lines, label)
                raise RecipeError(f"{where}: unknown key {key!r}; {hint}")
            _refuse_unknown_keys(hints[key], item, (*path, key), lines, label)
    elif isinstance(value, list):
        item_kind = next(iter(typing.get_args(kind)), Any)
        for index, item in enumerate(value):
            _refuse_unknown_keys(item_kind, item, (*path, index), lines, label)


def _dataclass_in(kind: Any) -> Any:
    """The dataclass of a field's type, `X | None` included; None where there is none."""
    members = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return next((member for member in members if dataclasses.is_dataclass(member)), None)


def _type_error(error: msgspec.ValidationError, tree: Any, lines: dict[KeyPath, str], label: str) -> RecipeError:
    """msgspec's message with the line of the key it speaks of."""
    message, _, place = str(error).partition(" - at `$")
    path: KeyPath = tuple(int(part) if part.isdecimal() else part for part in re.findall(r"\w+", place.rstrip("`")))
    where = _place(path, lines, label)
    key = ".".join(map(str, path)) or "the recipe"
    value = tree
    for part in path:
        value = value[part] if isinstance(value, (dict, list)) else None
    if isinstance(value, str) and YAML_BLIND_FLOAT.fullmatch(value):
        mantissa, exponent = re.split("[eE]", value)
        better = (
            f"{mantissa if '.' in mantissa else mantissa + '.0'}e{exponent if exponent[0] in '+-' else '+' + exponent}"
        )
        return RecipeError(f"{where}: {key}: YAML reads {value!r} as text; write {better}")
    choices = ", ".join(map(str, _choices(path)))
    return RecipeError(f"{where}: {key}: {message.replace('`', '')}{choices and '; there are ' + choices}")


def _choices(path: KeyPath) -> tuple[Any, ...]:
    """What a key may be where its type lists it; nothing for other types."""
    kind: Any = Recipe
    for part in path:
        inner = _dataclass_in(kind)
        kind = typing.get_type_hints(inner)[part] if inner else next(iter(typing.get_args(kind)), Any)
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
