"""How a command is declared: its examples, its options, and typed errors as one line and an exit code."""

from __future__ import annotations

import inspect
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field, is_dataclass
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from laatcli.config_file import file_used, set_elsewhere
from laatcli.console import CONSOLE_OPTIONS, Console
from laatcli.streams import drop_unwritten
from stages.devices import is_out_of_memory
from stages.errors import LaatError, UnverifiedWarning, UsageError
from stages.launch import read_launch
from stages.parameters import Parameter, check_value, declaration, parameters, parser_name

INTERRUPTED = 130
# Typer exports only this child of the class that all its usage errors have
WrongUsage: type[Exception] = typer.BadParameter.__bases__[0]
# a byte that is not UTF-8, as Python's repr spells it in the parser's messages
_BYTE = re.compile(r"(?<!\\)\\udc([89a-f][0-9a-f])")


class _Command(TyperCommand):
    """A command whose usage errors all know it; the parser leaves it out of some."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except WrongUsage as error:
            error.ctx = getattr(error, "ctx", None) or ctx  # type: ignore[attr-defined]
            raise


# torchrun ends all processes when the first has failed: one that leaves its error to rank 0 gives that the time to tell it
SECONDS_TO_TELL = 5


def command(
    app: typer.Typer, name: str, examples: Sequence[str], panel: str, *, together: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function `f(console, …)` as a command.

    A parameter whose default is a `stages.parameters.parameter` is the option declared there. One whose type is a dataclass of
    such parameters becomes one option per field, and the function gets the object. `--json`, `--quiet` and `--debug` are added
    and reach it as `console`. Errors become one line on standard error and an exit code; Ctrl-C becomes 130. With
    `together` the command is one run of all the processes that were launched: rank 0 prints for all.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = [one for one in list(inspect.signature(function, eval_str=True).parameters.values())[1:] if one.name != "context"]
        wanted = "context" in inspect.signature(function).parameters
        groups = {one.name: one.annotation for one in own if is_dataclass(one.annotation)}
        singles = {one.name: declaration(one.default) for one in own if isinstance(one.default, Field)}

        def run(*, context: typer.Context, as_json: bool, quiet: bool, debug: bool, **options: Any) -> None:
            console = Console(as_json=as_json, quiet=quiet, rank=_rank() if together else 0, debug=debug)

            def body() -> None:
                built = {name: _take(kind, options) for name, kind in groups.items()}
                for one, about in singles.items():
                    check_value(one.replace("_", "-"), about, options[one])
                function(console, **({"context": context} if wanted else {}), **options, **built)

            if (used := file_used(context)) is not None:
                console.note(f"settings from {used}")
            with _unverified_files_noted(console):
                code = guarded(body, console, context)
            if code:
                raise typer.Exit(code)

        shown = [_keyword("context", typer.Context, inspect.Parameter.empty)]
        shown += [option for one in own for option in _options(one)]
        shown += [_keyword(name, annotation, False) for name, annotation in CONSOLE_OPTIONS.items()]
        run.__signature__ = inspect.Signature([one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in shown])  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in shown}
        run.__doc__ = function.__doc__
        epilog = "\n\n".join(["[bold]Examples[/bold]", *(f"  {example}" for example in examples)])
        app.command(name, cls=_Command, epilog=epilog, rich_help_panel=panel, no_args_is_help=False)(run)
        return function

    return register


def _options(one: inspect.Parameter) -> Iterator[inspect.Parameter]:
    """The parameters that Typer reads in place of a command's."""
    if is_dataclass(one.annotation):
        types = get_type_hints(one.annotation)
        for declared, about, option in parameters(one.annotation):
            yield _option(option, types[declared.name], declared.default, about)
    elif isinstance(one.default, Field):
        yield _option(one.name.replace("_", "-"), one.annotation, one.default.default, declaration(one.default))
    else:
        yield one


def _option(option: str, kind: Any, default: Any, about: Parameter) -> inspect.Parameter:
    if about.parse is not None or kind is Any:
        kind = str if default is not None else str | None
        default = default if default is None else str(default)
    flags = [f"--{option}/--no-{option}" if kind is bool and default else f"--{option}", *about.short]
    help = about.help.replace("[", r"\[") + (rf" \[default: {about.unset}]" if about.unset else "")
    made = typer.Option(*flags, help=help, rich_help_panel=about.panel)
    return _keyword(parser_name(option), Annotated[kind, made, about], default)


def _take(kind: Any, options: dict[str, Any]) -> Any:
    """The object that the parsed options describe; they are removed from `options`."""
    values = {}
    for declared, about, option in parameters(kind):
        value = options.pop(parser_name(option))
        values[declared.name] = value if about.parse is None or value is None else about.parse(value)
        check_value(option, about, values[declared.name])
    return kind(**values)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def guarded(run: Callable[[], Any], console: Console, context: typer.Context | None = None) -> int:
    """Run a command, or its body in its context, and return the exit code; no error shows a traceback unless with --debug."""
    try:
        code = run()
    except typer.Exit:  # it is a RuntimeError, too
        raise
    except (Exception, KeyboardInterrupt) as error:
        return _report(error, console, context)
    except SystemExit as ended:  # what Typer and Rich raise where the reader of the help went away
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        return _report(ended.__context__, console, context)
    return code or 0


def _report(error: BaseException, console: Console, context: typer.Context | None) -> int:
    """Print an error and return the exit code that it ends with."""
    if type(error).__name__ == "NoArgsIsHelpError":  # the help is printed already
        return 2
    console.traceback(error)
    if isinstance(error, BrokenPipeError):  # the reader of our output went away, as `| head` does
        drop_unwritten()
        return 0
    code, what, fix = describe(error)
    context = getattr(error, "ctx", context)
    if code == 2 and context is not None and (where := set_elsewhere(context, what)):
        what = f"{what} ({where})"
    elsewhere = console.rank > 0 if code == INTERRUPTED else _reported_elsewhere(error, console.rank)
    if not elsewhere:
        console.error(what, fix, code)
    elif code != INTERRUPTED and getattr(error, "repeated", None) is None:
        time.sleep(SECONDS_TO_TELL)
    if isinstance(error, OSError):
        drop_unwritten()
    return code


def describe(error: BaseException) -> tuple[int, str, str]:
    """The exit code that an error ends with, what happened, and what to do next."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    match error:
        case LaatError():
            found = error.exit_code, error.what, error.fix
        case WrongUsage():
            found = 2, *_wrong_usage(error)
        case KeyboardInterrupt():
            found = INTERRUPTED, "interrupted", ""
        case OSError():
            found = 4, f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", ""
        case MemoryError() | RuntimeError():  # torch raises RuntimeError for memory and device faults alike
            fix = (
                "try a smaller --batch-size, or see where with --debug" if is_out_of_memory(error) else "see where with --debug"
            )
            found = 5, f"the computation failed: {reason}", fix
        case _:
            what = f"unexpected error: {type(error).__name__}: {reason}"
            found = 1, what, "this is a bug in laat: please report it with what --debug shows"
    return found


def _wrong_usage(error: Exception) -> tuple[str, str]:
    message = getattr(error, "format_message", error.__str__)().rstrip(".")
    message = _BYTE.sub(r"\\x\1", message)
    if "No such option: --config" in message:
        return message, "it goes before the command: `laat --config FILE COMMAND`"
    context = getattr(error, "ctx", None)
    return message, f"`{context.command_path if context else 'laat'} --help` shows the options"


@contextmanager
def _unverified_files_noted(console: Console) -> Iterator[None]:
    """A context in which each file without a digest that is read is one line on standard error."""
    noted: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, UnverifiedWarning):
                show(message, category, *place, **more)
            elif str(message) not in noted:
                noted.add(str(message))
                console.note(str(message))

        warnings.simplefilter("always", UnverifiedWarning)
        warnings.showwarning = note
        yield


def _rank() -> int:
    try:
        return read_launch().rank
    except UsageError:  # the command reports it
        return 0


def _reported_elsewhere(error: BaseException, rank: int) -> bool:
    """Whether another process of the run reports the same error."""
    if not isinstance(error, LaatError):
        return False
    if error.repeated is None:  # the processes had not met
        return rank > 0 and isinstance(error, UsageError)  # all have the same command line
    return error.repeated
