"""laat.toml: options of commands in a file, one table a command. The command line wins."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from laatcli.console import Console
from stages.errors import UsageError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path("laat.toml")


def apply_settings(context: typer.Context) -> None:
    """Make the values of ./laat.toml the defaults of the commands. Ends with exit code 2 when the file is not sound."""
    if not FILE.is_file():
        return
    try:
        context.default_map = _checked(context)
    except UsageError as error:
        Console().error(f"{error.what}. {error.fix}")
        raise typer.Exit(error.exit_code) from None


def _checked(context: typer.Context) -> dict[str, Any]:
    try:
        tables = tomllib.loads(FILE.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"'{FILE}' is not a TOML file: {error}", "Mend or remove it") from None
    commands = context.command.commands  # type: ignore[attr-defined]
    defaults: dict[str, Any] = {}
    for name, table in tables.items():
        if name not in commands:
            raise UsageError(f"'{FILE}' has a table for the unknown command '{name}'", f"Nearest: {nearest(name, commands)}")
        if not isinstance(table, dict):
            raise UsageError(f"'{name}' in '{FILE}' is no table", f"Write it as [{name}] with one option a line")
        known = {_option_name(parameter): parameter.name for parameter in commands[name].params}
        unknown = [key for key in table if key not in known]
        if unknown:
            raise UsageError(
                f"table [{name}] of '{FILE}' has the unknown option '{unknown[0]}'",
                f"Nearest: {nearest(unknown[0], known)}",
            )
        defaults[name] = {known[key]: value for key, value in table.items()}
    return defaults


def _option_name(parameter: Any) -> str:
    """The option as typed, without dashes; the argument's name for an argument."""
    longest = max(parameter.opts, key=len)
    return str(longest).lstrip("-")
