"""The Typer app: `laat` and `python -m laatcli`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from laatcli.command import command
from laatcli.commands import anchors, attack, compare, demo, doctor, eval, expand, inspect, plot, report, suites, train
from laatcli.config_file import apply_file
from laatcli.console import Console
from stages.version import __version__

PIPELINE, HELPERS = "Pipeline", "Utilities"

app = typer.Typer(
    name="laat",
    help="Adversarially robust zero-shot image classifiers: class names to anchors, anchors to a robust model.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

command(app, "anchors", anchors.EXAMPLES, PIPELINE)(anchors.anchors)
command(app, "expand", expand.EXAMPLES, PIPELINE)(expand.expand)
command(app, "train", train.EXAMPLES, PIPELINE, together=True)(train.train)
command(app, "attack", attack.EXAMPLES, PIPELINE)(attack.attack)
command(app, "eval", eval.EXAMPLES, PIPELINE, together=True)(eval.evaluate)
command(app, "compare", compare.EXAMPLES, HELPERS)(compare.compare)
command(app, "report", report.EXAMPLES, HELPERS)(report.report)
command(app, "inspect", inspect.EXAMPLES, HELPERS)(inspect.inspect)
command(app, "suites", suites.EXAMPLES, HELPERS)(suites.suites)
command(app, "plot", plot.EXAMPLES, HELPERS)(plot.plot)
command(app, "demo", demo.EXAMPLES, HELPERS)(demo.demo_command(app))
command(app, "doctor", doctor.EXAMPLES, HELPERS)(doctor.doctor)


def _print_version(asked: bool) -> None:
    """Called while options are parsed: no command needs to follow."""
    if asked:
        typer.echo(f"laat {__version__}")
        raise typer.Exit


@app.callback()
def laat(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Adversarially robust zero-shot image classifiers: class names to anchors, anchors to a robust model.

    Options can also be set in laat.toml, one table per command; the command line wins.
    """
    apply_file(context)


# Typer exports only this child of the class that all its usage errors have
_WrongUsage: type[Exception] = typer.BadParameter.__bases__[0]


def main() -> None:
    """Entry point of the console script. A wrong command line is one line on standard error and exit code 2."""
    try:
        code = app(prog_name="laat", standalone_mode=False)
    except _WrongUsage as error:
        code = getattr(error, "exit_code", 2)
        if type(error).__name__ != "NoArgsIsHelpError":  # there the help is printed already
            context = getattr(error, "ctx", None)
            message = getattr(error, "format_message", error.__str__)()
            Console().error(f"{message} (`{context.command_path if context else 'laat'} --help` shows the options)")
    sys.exit(code)
