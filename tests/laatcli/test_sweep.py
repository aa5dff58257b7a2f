"""Every option of every command with values out of range, no numbers or odd text: a typed error, never a traceback."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
import typer

from laatcli.app import app
from stages.errors import UsageError

COMMANDS: Any = typer.main.get_command(app)
NUMBERS = (
    "0",
    "-1",
    str(2**31),
    str(2**63),
    str(10**30),
    "9" * 5000,
    "1e400",
    "-1e400",
    "nan",
    "inf",
    "",
    " ",
    "0x10",
    "½",
    "1/0",
)
TEXTS = ("", " ", "nan", "-1", "\n", "x" * 5000, "/dev/null/x", "../..", "a\x1b[31m", "\udcff")
# arguments that lead to a file that is not there, once all options are accepted
ARGUMENTS = {
    "anchors": ("--classes", "missing.txt"),
    "demo": ("--out", "/dev/null/x"),
    "suites": ("missing",),
    "doctor": (),
    "train": (),
    "compare": ("missing.json", "gone.json"),
}


def options() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Command, option, and the values to try."""
    for name, command in COMMANDS.commands.items():
        for parameter in command.params:
            left_out = parameter.param_type_name != "option" or parameter.is_flag or "--help" in parameter.opts
            if not left_out and (name, parameter.name) != ("demo", "out"):  # would run the demo
                kind = inspect.signature(command.callback).parameters[parameter.name].annotation
                kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
                number = any(word in str(kind) for word in ("int", "float"))
                yield name, max(parameter.opts, key=len), NUMBERS if number else (*TEXTS, *NUMBERS[:7])


def code_of(command: str, option: str, value: str) -> int:
    arguments = [*ARGUMENTS.get(command, ("missing.st",)), option, value]
    try:
        return int(COMMANDS.main([command, *arguments], prog_name="laat", standalone_mode=False) or 0)
    except typer.BadParameter.__bases__[0] as error:
        return int(error.exit_code)  # type: ignore[attr-defined]
    except UsageError as error:  # of a callback: `app.main` prints it
        return error.exit_code


@pytest.mark.parametrize(
    ("command", "option", "values"), list(options()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_no_value_of_an_option_ends_in_a_traceback(
    command: str, option: str, values: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in values:
        assert code_of(command, option, value) in (2, 3, 4), value[:50]
    assert list(tmp_path.iterdir()) == []
