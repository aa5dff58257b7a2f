"""laat.toml: options of commands in a file, one table a command. The command line wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from laatcli.console import Console
from laatcli.tables import checked_options, parse_toml
from stages.errors import UsageError, nearest

FILE = Path("laat.toml")


def apply_settings(context: typer.Context) -> None:
    """Make the values of ./laat.toml the defaults of the commands. Ends with exit code 2 when the file is not sound."""
    if not FILE.is_file():
        return
    try:
        context.default_map = _checked(context)
    except UsageError as error:
        end_with(error)


def end_with(error: UsageError) -> None:
    """End while options are still parsed, where no command's body is there to catch a typed error."""
    Console().error(f"{error.what}. {error.fix[0].upper()}{error.fix[1:]}")
    raise typer.Exit(error.exit_code) from None


def _checked(context: typer.Context) -> dict[str, Any]:
    try:
        data = FILE.read_bytes()
    except OSError as error:
        raise UsageError(f"'{FILE}' cannot be read: {error.strerror}", "mend or remove it") from None
    commands = context.command.commands  # type: ignore[attr-defined]
    defaults: dict[str, Any] = {}
    for name, table in parse_toml(data, f"'{FILE}'").items():
        if name not in commands:
            raise UsageError(f"'{FILE}' has a table for the unknown command '{name}'", f"nearest: {nearest(name, commands)}")
        if not isinstance(table, dict):
            raise UsageError(f"'{name}' in '{FILE}' is no table", f"write it as [{name}] with one option a line")
        defaults[name] = checked_options(table, commands[name], f"table [{name}] of '{FILE}'")
    return defaults
