"""`--recipe NAME`: published settings that come with the package, as defaults below laat.toml and the command line."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Annotated

import typer

from laatcli.settings import end_with
from laatcli.tables import checked_options, parse_toml
from stages.errors import UsageError, nearest

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

# where the context keeps what a recipe set: its name and the options
FROM_RECIPE = "laat.recipe"


def recipe_names() -> list[str]:
    """The names that `--recipe` takes, sorted."""
    return sorted(entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml"))


def apply_recipe(context: typer.Context, name: str | None) -> str | None:
    """Put the recipe's values below those of laat.toml. Called while options are parsed, before the others are looked up.

    Ends with exit code 2 for an unknown name.
    """
    if name is None or context.resilient_parsing:
        return name
    try:
        known = recipe_names()
        if name not in known:
            raise UsageError(f"unknown recipe '{name}'", f"nearest: {nearest(name, known)}")
        table = parse_toml(_folder().joinpath(f"{name}.toml").read_bytes(), f"the recipe '{name}'")
        values = checked_options(table, context.command, f"the recipe '{name}'")
    except UsageError as error:
        end_with(error)
    given = context.default_map or {}
    context.default_map = {**values, **given}
    context.meta[FROM_RECIPE] = (name, frozenset(values) - frozenset(given))
    return name


def _folder() -> Traversable:
    return resources.files("stages.train").joinpath("recipes")


Recipe = Annotated[
    str | None,
    typer.Option(
        help=f"Published settings: {', '.join(recipe_names())}. laat.toml and other options override them.",
        is_eager=True,
        callback=apply_recipe,
        autocompletion=recipe_names,
        show_default=False,
    ),
]
