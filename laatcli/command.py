"""How a command is declared: its examples, the options every command has, and typed errors as one line and an exit code."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from laatcli.console import Console
from stages.errors import LaatError, UsageError
from stages.launch import read_launch

INTERRUPTED = 130
_SHARED = {
    "as_json": (bool, Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]),
    "quiet": (bool, Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]),
    "debug": (bool, Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]),
}


def command(
    app: typer.Typer, name: str, examples: Sequence[str], panel: str, *, together: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function `f(console, …)` as a command.

    `--json`, `--quiet` and `--debug` are added to its options and reach it as `console`. Typed errors become one line on
    standard error and their exit code; Ctrl-C becomes 130. With `together` it is one run of all the processes that were
    launched: rank 0 shows and tells for all.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*args: Any, as_json: bool, quiet: bool, debug: bool, **options: Any) -> None:
            console = Console(as_json=as_json, quiet=quiet, rank=_rank() if together else 0)
            code = guarded(lambda: function(console, *args, **options), console, debug=debug)
            if code:
                raise typer.Exit(code)

        _add_shared_options(run, function)
        epilog = "\n\n".join(["[bold]Examples[/bold]", *(f"  {example}" for example in examples)])
        app.command(name, epilog=epilog, rich_help_panel=panel, no_args_is_help=False)(run)
        return function

    return register


def guarded(run: Callable[[], None], console: Console, *, debug: bool) -> int:
    """Run a command's body and return its exit code; a user's mistake never shows a traceback unless `debug`."""
    failure: BaseException
    try:
        run()
    except typer.Exit:  # a RuntimeError by birth
        raise
    except LaatError as error:
        failure, code = error, error.exit_code
        if not _told_elsewhere(error, console.rank):
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
        console.error(f"the computation failed: {reason}. Try a smaller --batch-size, or see where with --debug")
    else:
        return 0
    if debug:
        traceback.print_exception(failure)
    return code


def _rank() -> int:
    try:
        return read_launch().rank
    except UsageError:  # the command says so
        return 0


def _told_elsewhere(error: LaatError, rank: int) -> bool:
    """Whether another process of the run tells the same error."""
    if error.repeated is None:  # the processes had not met
        return rank > 0 and isinstance(error, UsageError)  # all have the same command line
    return error.repeated


def _forget_stdout() -> None:
    """Keep the interpreter from complaining again, at its end, about output that could not be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _add_shared_options(run: Callable[..., None], function: Callable[..., None]) -> None:
    """Give `run` the signature that Typer reads: the function's own without `console`, plus the shared options."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, (_, annotation) in _SHARED.items()
    ]
    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    del run.__wrapped__  # type: ignore[attr-defined]
