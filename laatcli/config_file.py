"""Options from files: laat.toml, one table per command, and the recipes that come with the package. The command line wins.

laat.toml is the file of `--config`, else the one in the current folder or its nearest parent, up to the root of a repository (a
folder with `.git`). Relative paths in it are relative to its folder.

`--dry-run` shows every option with its value and where that value comes from.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import typer

from laatcli.arguments import with_home
from laatcli.console import CONSOLE_OPTIONS, Column, Console
from stages.errors import InputError, UsageError, nearest
from stages.files.reading import read_file
from stages.files.toml_file import parse_toml
from stages.parameters import Parameter
from stages.text import decode_text

if TYPE_CHECKING:
    from importlib.abc import Traversable  # in 3.10, too

NAME = "laat.toml"
# a type -> what it is in TOML, and in words; all others are text
_KINDS: dict[Any, tuple[Any, str]] = {
    int: (int, "a whole number"),
    float: (int | float, "a number"),
    bool: (bool, "true or false"),
}
_TEXT = (str, "text")
# where the context keeps what a recipe set: its name and the options
_FROM_RECIPE = "laat.recipe"
# ... and the path of the file that was used, for messages
_FROM_FILE = "laat.file"
_NO_PATHS = ("-", "none")
_LOCAL = "local-dir:"
_OPTION = re.compile(r"--[a-z][a-z0-9-]*")
_TYPED = ("default", "environment", "command line")


def apply_file(context: typer.Context, given: Path | None) -> None:
    """Make the values of laat.toml, or of the file `given`, the defaults of the commands.

    Raises UsageError when the file is not valid, InputError when it cannot be read.
    """
    path = given or _find_file()
    if path is not None:
        context.default_map = _checked_file(context, path)
        context.meta[_FROM_FILE] = str(path)


def file_read(context: typer.Context) -> str | None:
    """The path of the file with options that was read, if there is one."""
    path: str | None = context.meta.get(_FROM_FILE)
    return path


def file_used(context: typer.Context) -> str | None:
    """The same, if it sets options of the context's command."""
    tables = {} if context.parent is None else context.parent.default_map or {}
    return file_read(context) if tables.get(str(context.info_name)) else None


def _find_file() -> Path | None:
    """The nearest laat.toml in this folder and those above it, relative to here."""
    try:
        here = Path.cwd()
    except OSError:  # the folder was removed
        return None
    for folder in (here, *here.parents):
        if os.path.isfile(folder / NAME):
            return Path(os.path.relpath(folder / NAME, here))
        if os.path.exists(folder / ".git"):
            return None
    return None


def _checked_file(context: typer.Context, path: Path) -> dict[str, Any]:
    commands = context.command.commands  # type: ignore[attr-defined]
    defaults: dict[str, Any] = {}
    data = read_file(path)
    try:
        text = decode_text(data, "settings file", path)
    except InputError as error:
        raise UsageError(error.what, error.fix) from None
    for name, table in parse_toml(text, f"'{path}'").items():
        if not isinstance(table, dict):
            takers = ", ".join(f"[{command}]" for command in commands if command == name or name in _options(commands[command]))
            fix = f"write it below {takers}" if takers else "write each option below its command, such as [train]"
            raise UsageError(f"'{path}' sets '{name}' outside of a command's table", fix)
        if name not in commands:
            raise UsageError(f"'{path}' has a table for the unknown command '{name}'", f"nearest: {nearest(name, commands)}")
        defaults[name] = _checked_options(table, commands[name], f"table [{name}] of '{path}'", path.parent)
    return defaults


def recipe_names() -> list[str]:
    """The names that `--recipe` takes, sorted."""
    return sorted(entry.name.removesuffix(".toml") for entry in _recipes().iterdir() if entry.name.endswith(".toml"))


def _apply_recipe(context: typer.Context, name: str | None) -> str | None:
    """Put the recipe's values below those of laat.toml. Called while options are parsed, before the others are looked up."""
    if name is None or context.resilient_parsing:
        return name
    known = recipe_names()
    if name not in known:
        raise UsageError(f"unknown recipe '{name}'", f"nearest: {nearest(name, known)}")
    table = parse_toml(_recipes().joinpath(f"{name}.toml").read_text("utf-8"), f"the recipe '{name}'")
    values = _checked_options(table, context.command, f"the recipe '{name}'")
    given = context.default_map or {}
    context.default_map = {**values, **given}
    context.meta[_FROM_RECIPE] = (name, frozenset(values) - frozenset(given))
    return name


def of_recipe(context: typer.Context) -> set[str]:
    """The parser's names of the options that have their values from a recipe."""
    name, options = context.meta.get(_FROM_RECIPE, ("", ()))
    return {option for option in options if _origin(context, option) == f"recipe {name}"}


def _recipes() -> Traversable:
    return resources.files("stages.training").joinpath("recipes")


def _checked_options(table: Mapping[str, Any], command: Any, where: str, folder: Path = Path()) -> dict[str, Any]:
    """The values of `table` under the parser's names.

    Args:
        table: option as typed, without dashes (for an argument its name, or what --help calls it) -> value.
        command: the parser's command.
        where: how errors call the table, for example "table [train] of 'laat.toml'".
        folder: that relative paths begin at.

    Raises UsageError for an unknown option, naming the nearest, and for a value of the wrong type.
    """
    known, shown_in_help = _options(command), _arguments(command)
    declared = inspect.signature(command.callback, eval_str=True).parameters
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = known.get(key) or shown_in_help.get(key.upper())
        if name is None:
            names = [option for option in known if known[option] not in shown_in_help.values()]
            names += [argument.lower() for argument in shown_in_help]
            raise UsageError(f"{where} has the unknown option '{key}'", f"nearest: {nearest(key, names)}")
        if name in values:
            raise UsageError(f"{where} sets '{key}' twice", "leave one of them out")
        if value == "" or (isinstance(value, list) and "" in value):  # as a path it would be the file's folder
            raise UsageError(f"{where} sets '{key}' to an empty text", "give a value, or leave it out")
        annotation = declared[name].annotation
        expected = _expected(value, annotation)
        if expected:
            shown = repr(value) if isinstance(value, str) else _shown(value)
            shown = shown if len(shown) <= 40 else f"{shown[:40]}…"
            raise UsageError(f"{where} sets '{key}' to {shown}, expected {expected}", "fix the value")
        values[name] = _placed(value, annotation, folder)
    return values


def _placed(value: Any, declared: Any, folder: Path) -> Any:
    """A value of an option of the `declared` type, as typed where laat.toml is in `folder`: paths begin there."""
    if isinstance(value, list):
        return [_placed(one, declared, folder) for one in value]
    kind, *more = get_args(declared) if get_origin(declared) is Annotated else (declared,)
    if not isinstance(value, str):
        return value
    value = with_home(value)
    if folder == Path():
        return value
    if Path in (kind, *get_args(kind), *(inner for one in get_args(kind) for inner in get_args(one))):
        return value if value in _NO_PATHS else str(folder / value)
    places = next((one.places for one in more if isinstance(one, Parameter)), None)
    if places is None or value in places:
        return value
    # what may also be a name is a path where there is such a file, before the last colon in FILE:TENSOR
    prefix, rest = (_LOCAL, value.removeprefix(_LOCAL)) if value.startswith(_LOCAL) else ("", value)
    found = any(part and os.path.exists(folder / part) for part in (rest, rest.rpartition(":")[0]))
    return f"{prefix}{folder / rest}" if found else value


def set_elsewhere(context: typer.Context, what: str) -> str:
    """Of an error, which options that it names were not typed but set in a file; '' if there are none."""
    named = {
        f"--{option}": name for option, name in _options(context.command).items() if f"--{option}" in _OPTION.findall(what)
    }
    origins = {option: _origin(context, name) for option, name in named.items()}
    return ", ".join(f"{option} is set in {origin}" for option, origin in origins.items() if origin not in _TYPED)


def _options(command: Any) -> dict[str, str]:
    """Option as typed, without dashes (an argument's name) -> the parser's name of it, in the order of --help."""
    return {max(parameter.opts, key=len).lstrip("-"): parameter.name for parameter in command.params}


def _arguments(command: Any) -> dict[str, str]:
    """What --help calls an argument, such as MODEL -> the parser's name of it."""
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    return {(one.metavar or one.name).strip("[]").upper(): one.name for one in arguments}


def _expected(value: Any, declared: Any) -> str:
    """What an option of the `declared` type takes, in words, where `value` is not that; else ''."""
    if get_origin(declared) is Annotated:
        declared = get_args(declared)[0]
    if get_origin(declared) in (Union, UnionType):
        declared = next(choice for choice in get_args(declared) if choice is not type(None))
    many = get_origin(declared) is list
    wanted, words = _KINDS.get(get_args(declared)[0] if many else declared, _TEXT)
    items = value if many and isinstance(value, list) else [value]
    known = all(isinstance(item, wanted) and (wanted is bool or not isinstance(item, bool)) for item in items)
    if known and isinstance(value, list) == many:
        return ""
    return f"a list of {words} in brackets" if many else f"{words} in quotes" if wanted is str else words


def show_resolved(console: Console, context: typer.Context, meant: Mapping[str, Any]) -> None:
    """Print option, value and origin ('default', 'recipe NAME', 'laat.toml' or 'command line') of the context's command.

    Args:
        console: a table on standard output, or with --json {"settings": {option: value}, "from": {option: origin}}.
        context: of the command, after parsing.
        meant: the parser's name of an option -> what a value of None means, where that is known.
    """
    options = {option: name for option, name in _options(context.command).items() if name not in {*CONSOLE_OPTIONS, "dry_run"}}
    given = {option: context.params[name] for option, name in options.items()}
    settings = {option: _plain(meant.get(options[option]) if value is None else value) for option, value in given.items()}
    origins = {option: _origin(context, name) for option, name in options.items()}
    console.result({"settings": settings, "from": origins})
    rows = [[f"--{option}", "–" if value is None else _shown(value), origins[option]] for option, value in settings.items()]
    console.table([Column("option"), Column("value"), Column("from")], rows)


def _origin(context: typer.Context, name: str) -> str:
    source = context.get_parameter_source(name)
    if source is None or source.name == "DEFAULT":
        return "default"
    if source.name == "DEFAULT_MAP":
        recipe, options = context.meta.get(_FROM_RECIPE, ("", frozenset()))
        return f"recipe {recipe}" if name in options else str(context.meta[_FROM_FILE])
    return "environment" if source.name == "ENVIRONMENT" else "command line"


def _plain(value: Any) -> Any:
    """JSON-able: paths as text."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    return str(value)


Recipe = Annotated[
    str | None,
    typer.Option(
        help=f"Settings by name: {', '.join(recipe_names())}. laat.toml and other options override them.",
        is_eager=True,
        callback=_apply_recipe,
        autocompletion=recipe_names,
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the settings and where each comes from; do nothing.")]
