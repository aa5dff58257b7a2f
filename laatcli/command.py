"""How a command is declared: its examples, its options, and typed errors as one line and an exit code."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field, is_dataclass
from typing import Annotated, Any, get_type_hints

import typer

from laatcli.console import Console
from stages.devices import is_out_of_memory
from stages.errors import LaatError, UnverifiedWarning, UsageError
from stages.launch import read_launch
from stages.parameters import Parameter, check_value, declaration, parameters

INTERRUPTED = 130
_SHARED = {
    "as_json": Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")],
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")],
    "debug": Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")],
}


def command(
    app: typer.Typer, name: str, examples: Sequence[str], panel: str, *, together: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function `f(console, …)` as a command.

    A parameter whose default is a `stages.parameters.parameter` is the option declared there. One whose type is a dataclass of
    such parameters becomes one option per field, and the function gets the object. `--json`, `--quiet` and `--debug` are added
    and reach it as `console`. Typed errors become one line on standard error and their exit code; Ctrl-C becomes 130. With
    `together` the command is one run of all the processes that were launched: rank 0 prints for all.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        groups = {one.name: one.annotation for one in own if is_dataclass(one.annotation)}
        singles = {one.name: declaration(one.default) for one in own if isinstance(one.default, Field)}

        def run(*, as_json: bool, quiet: bool, debug: bool, **options: Any) -> None:
            console = Console(as_json=as_json, quiet=quiet, rank=_rank() if together else 0)

            def body() -> None:
                built = {name: _take(kind, options) for name, kind in groups.items()}
                for one, about in singles.items():
                    check_value(one.replace("_", "-"), about, options[one])
                function(console, **options, **built)

            with _unverified_files_noted(console):
                code = guarded(body, console, debug=debug)
            if code:
                raise typer.Exit(code)

        shown = [option for one in own for option in _options(one)]
        shown += [_keyword(name, annotation, False) for name, annotation in _SHARED.items()]
        run.__signature__ = inspect.Signature([one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in shown])  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in shown}
        run.__doc__ = function.__doc__
        epilog = "\n\n".join(["[bold]Examples[/bold]", *(f"  {example}" for example in examples)])
        app.command(name, epilog=epilog, rich_help_panel=panel, no_args_is_help=False)(run)
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
    return _keyword(option.replace("-", "_"), Annotated[kind, made], default)


def _take(kind: Any, options: dict[str, Any]) -> Any:
    """The object that the parsed options describe; they are removed from `options`."""
    values = {}
    for declared, about, option in parameters(kind):
        value = options.pop(option.replace("-", "_"))
        values[declared.name] = value if about.parse is None or value is None else about.parse(value)
        check_value(option, about, values[declared.name])
    return kind(**values)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def guarded(run: Callable[[], None], console: Console, *, debug: bool) -> int:
    """Run a command's body and return its exit code; a user's mistake never shows a traceback unless `debug`."""
    failure: BaseException
    try:
        run()
    except typer.Exit:  # it is a RuntimeError, too
        raise
    except LaatError as error:
        failure, code = error, error.exit_code
        if not _reported_elsewhere(error, console.rank):
            fix = f". {error.fix[0].upper()}{error.fix[1:]}" if error.fix else ""
            console.error(f"{error.what}{fix}")
    except KeyboardInterrupt as error:
        failure, code = error, INTERRUPTED
        if console.rank == 0:  # all are interrupted together
            console.error("interrupted")
    except BrokenPipeError as error:  # the reader of our output went away, as `| head` does
        failure, code = error, 0
        _forget_stdout()
    except OSError as error:
        failure, code = error, 4
        console.error(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        _forget_stdout()
    except (MemoryError, RuntimeError) as error:  # torch raises RuntimeError for memory and device faults alike
        failure, code = error, 5
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        fix = "try a smaller --batch-size, or see where with --debug" if is_out_of_memory(error) else "see where with --debug"
        console.error(f"the computation failed: {reason}. {fix[0].upper()}{fix[1:]}")
    else:
        return 0
    if debug:
        traceback.print_exception(failure)
    return code


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


def _reported_elsewhere(error: LaatError, rank: int) -> bool:
    """Whether another process of the run reports the same error."""
    if error.repeated is None:  # the processes had not met
        return rank > 0 and isinstance(error, UsageError)  # all have the same command line
    return error.repeated


def _forget_stdout() -> None:
    """Keep the interpreter from complaining again, at its end, about output that could not be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
