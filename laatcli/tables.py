"""A TOML table of options of one command, checked: unknown options and values of another kind are refused."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from stages.errors import UsageError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KINDS = {str: "text", Path: "text", int: "a whole number", float: "a number", bool: "true or false"}


def parse_toml(data: bytes, where: str) -> dict[str, Any]:
    """The tables of a TOML file. Raises UsageError with the place of the fault; `where` is how errors call the file."""
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{where} is not a TOML file: {error}", "mend or remove it") from None
    except RecursionError:
        raise UsageError(f"{where} is not a TOML file: nested too deeply", "mend or remove it") from None


def checked_options(table: Mapping[str, Any], command: Any, where: str) -> dict[str, Any]:
    """The values of `table` under the names that the parser knows.

    Args:
        table: option as typed, without dashes (the argument's name for an argument) -> value.
        command: the parser's command.
        where: how errors call the table, for example "table [train] of 'laat.toml'".

    Raises UsageError for an unknown option, naming the nearest, and for a value of another kind than the option's.
    """
    known = option_names(command)
    kinds = _annotated_types(command)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise UsageError(f"{where} has the unknown option '{key}'", f"nearest: {nearest(key, known)}")
        name = known[key]
        if not _fits(value, kinds[name]):
            raise UsageError(f"{where} sets '{key}' to {_shown(value)}, expected {_kind(kinds[name])}", "mend the value")
        values[name] = value
    return values


def option_names(command: Any) -> dict[str, str]:
    """Option as typed, without dashes -> the parser's name of it; in the order of --help."""
    return {_option_name(parameter): parameter.name for parameter in command.params}


def _option_name(parameter: Any) -> str:
    """The option as typed, without dashes; the argument's name for an argument."""
    longest = max(parameter.opts, key=len)
    return str(longest).lstrip("-")


def _annotated_types(command: Any) -> dict[str, Any]:
    """The parser's name of each option -> the type it is declared with, without None."""
    found = {}
    for name, parameter in inspect.signature(command.callback, eval_str=True).parameters.items():
        declared = parameter.annotation
        if get_origin(declared) is Annotated:
            declared = get_args(declared)[0]
        if get_origin(declared) in (Union, types.UnionType):
            declared = next(choice for choice in get_args(declared) if choice is not type(None))
        # choices are typed as text
        found[name] = str if isinstance(declared, type) and issubclass(declared, Enum) else declared
    return found


def _fits(value: Any, wanted: Any) -> bool:
    if get_origin(wanted) is list:
        return isinstance(value, list) and all(_fits(item, get_args(wanted)[0]) for item in value)
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, str if wanted is Path else wanted)


def _kind(wanted: Any) -> str:
    """What to write, with an example where quotes or brackets are easily forgotten."""
    if get_origin(wanted) is list:
        return f"a list of {_KINDS[get_args(wanted)[0]]} in brackets"
    return f"{_KINDS[wanted]} in quotes" if wanted in (str, Path) else _KINDS[wanted]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    text = repr(value) if isinstance(value, str | int | float | list) else str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
