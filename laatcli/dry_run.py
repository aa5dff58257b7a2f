"""`--dry-run`: the settings a command would run with, and where each comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from laatcli.console import Column, Console
from laatcli.recipes import FROM_RECIPE
from laatcli.settings import FILE
from laatcli.tables import option_names

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the settings and where each comes from; do nothing.")]
_HIDDEN = ("as_json", "quiet", "debug", "dry_run")


def show_resolved(console: Console, context: typer.Context, meant: Mapping[str, Any] | None = None) -> None:
    """Print option, value and origin ('default', 'recipe NAME', 'laat.toml' or 'command line') of the context's command.

    Args:
        console: a table on standard output, or with --json {"settings": {option: value}, "from": {option: origin}}.
        context: of the command, after parsing.
        meant: the parser's name of an option -> what its unset value (None) stands for, where that is known.
    """
    settings: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for option, name in option_names(context.command).items():
        if name in _HIDDEN:
            continue
        value = context.params[name]
        settings[option] = _plain((meant or {}).get(name) if value is None else value)
        origins[option] = _origin(context, name)
    console.result({"settings": settings, "from": origins})
    rows = [[f"--{option}", _shown(settings[option]), origins[option]] for option in settings]
    console.table([Column("option"), Column("value"), Column("from")], rows)


def _origin(context: typer.Context, name: str) -> str:
    source = context.get_parameter_source(name)
    if source is None or source.name == "DEFAULT":
        return "default"
    if source.name == "DEFAULT_MAP":
        recipe, options = context.meta.get(FROM_RECIPE, ("", frozenset()))
        return f"recipe {recipe}" if name in options else str(FILE)
    return "environment" if source.name == "ENVIRONMENT" else "command line"


def _plain(value: Any) -> Any:
    """JSON-able: fractions and paths as text."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return str(value).lower() if isinstance(value, bool) else str(value)
