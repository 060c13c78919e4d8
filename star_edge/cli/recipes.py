"""`star-edge recipes`: look at what a run can start from."""

from __future__ import annotations

import click

from star_edge.cli.common import echo_json, json_option, set_option, verbose_option


@click.group()
def recipes() -> None:
    """List, show and check recipes.

    \b
    Example:
      star-edge recipes show quickstart
    """


@recipes.command("list")
@json_option
@verbose_option
def list_command(as_json: bool) -> None:
    """List the recipes that ship with star-edge, with the purpose each states.

    \b
    Example:
      star-edge recipes list
    """
    from star_edge import recipe

    folder = recipe.packaged_folder()
    rows = [
        (path.relative_to(folder).as_posix(), _purpose(path.read_text(encoding="utf-8")))
        for path in recipe.list_recipes()
    ]
    if as_json:
        echo_json([{"recipe": name, "purpose": purpose} for name, purpose in rows])
        return
    width = max(len(name) for name, _ in rows)
    for name, purpose in rows:
        click.echo(f"{name:<{width}}  {purpose}")


def _purpose(text: str) -> str:
    first = text.splitlines()[0] if text else ""
    return first.removeprefix("#").strip()


@recipes.command()
@click.argument("recipe")
@set_option
@click.option("--resolved", is_flag=True, help="Print every value, defaults and --set included.")
@verbose_option
def show(recipe: str, overrides: tuple[str, ...], resolved: bool) -> None:
    """Print a recipe, with its comments or resolved.

    \b
    Example:
      star-edge recipes show quickstart --resolved --set seed=3
    """
    from star_edge import recipe as recipe_module

    path = recipe_module.find(recipe)
    loaded = recipe_module.load(path, overrides)
    click.echo(
        recipe_module.to_yaml(loaded.recipe) if resolved or overrides else path.read_text(encoding="utf-8"), nl=False
    )


@recipes.command()
@click.argument("recipe")
@set_option
@verbose_option
def check(recipe: str, overrides: tuple[str, ...]) -> None:
    """Check a recipe's keys, types and values, the files it names, and the lengths it allows.

    \b
    Example:
      star-edge recipes check my-recipe.yaml
    """
    from pathlib import Path

    from star_edge import pipeline
    from star_edge import recipe as recipe_module

    loaded = recipe_module.load(recipe_module.find(recipe), overrides)
    pipeline.plan(loaded, Path("runs") / loaded.recipe.name)
    click.echo(f"{loaded.path}: ok ({loaded.recipe.name}, {recipe_module.recipe_hash(loaded.recipe)[:12]})")
