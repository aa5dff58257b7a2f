"""The Typer app: `laat` and `python -m laatcli`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from laatcli.arguments import typed_arguments
from laatcli.command import command, guarded
from laatcli.commands import (
    anchors,
    attack,
    benchmark,
    blend_weights,
    calibrate,
    compare,
    demo,
    doctor,
    eval,
    expand,
    export,
    import_checkpoint,
    inspect,
    merge,
    plot,
    predict,
    pull,
    push,
    report,
    suites,
    train,
)
from laatcli.config_file import apply_file
from laatcli.console import Console
from laatcli.streams import prepare_streams
from stages.version import __version__

PIPELINE, EXCHANGE, HELPERS = "Pipeline", "Exchange", "Utilities"

app = typer.Typer(
    name="laat",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

command(app, "anchors", anchors.EXAMPLES, PIPELINE)(anchors.anchors)
command(app, "merge", merge.EXAMPLES, PIPELINE)(merge.merge)
command(app, "expand", expand.EXAMPLES, PIPELINE)(expand.expand)
command(app, "train", train.EXAMPLES, PIPELINE, together=True)(train.train)
command(app, "attack", attack.EXAMPLES, PIPELINE)(attack.attack)
command(app, "eval", eval.EXAMPLES, PIPELINE, together=True)(eval.evaluate)
command(app, "benchmark", benchmark.EXAMPLES, PIPELINE)(benchmark.benchmark)
command(app, "calibrate", calibrate.EXAMPLES, PIPELINE)(calibrate.calibrate)
command(app, "blend-weights", blend_weights.EXAMPLES, PIPELINE)(blend_weights.blend_weights)
command(app, "predict", predict.EXAMPLES, PIPELINE)(predict.predict)
command(app, "import", import_checkpoint.EXAMPLES, EXCHANGE)(import_checkpoint.import_checkpoint)
command(app, "export", export.EXAMPLES, EXCHANGE)(export.export)
command(app, "push", push.EXAMPLES, EXCHANGE)(push.push)
command(app, "pull", pull.EXAMPLES, EXCHANGE)(pull.pull)
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
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read options from this file, not from the nearest laat.toml.", show_default=False),
    ] = None,
) -> None:
    """Adversarially robust zero-shot image classifiers: class names to anchors, anchors to a robust model.

    Options can also be set in laat.toml, one table per command. It is looked for
    in the current folder and then in its parents, up to the root of a repository.
    Relative paths in it are relative to its folder. The command line takes
    precedence.

    With --json, an error is one JSON object on the last line of standard error:
    code (the exit code), what (happened), and fix (what to do next, or empty).
    """
    apply_file(context, config)


def _run() -> int | None:
    code: int | None = app(typed_arguments(sys.argv[1:]), prog_name="laat", standalone_mode=False)
    return code


def main() -> None:
    """Entry point of the console script. Every error is one line on standard error and an exit code."""
    arguments = sys.argv[1 : sys.argv.index("--") if "--" in sys.argv else None]
    prepare_streams()
    Console.json_errors = "--json" in arguments
    console = Console(debug="--debug" in arguments)
    code = guarded(_run, console)
    unwritten = guarded(sys.stdout.flush, console)
    sys.exit(code or unwritten)
