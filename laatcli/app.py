"""The Typer app: `laat` and `python -m laatcli`."""

from __future__ import annotations

from typing import Annotated

import typer

from laatcli.command import command
from laatcli.commands import anchors, attack, demo, doctor, eval, expand, inspect, train
from laatcli.settings import apply_settings
from stages import __version__

PIPELINE, HELPERS = "Pipeline", "Around it"

app = typer.Typer(
    name="laat",
    help="Zero-shot image classifiers that hold under attack: class names to anchors, anchors to a robust model.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

command(app, "anchors", anchors.EXAMPLES, PIPELINE)(anchors.anchors)
command(app, "expand", expand.EXAMPLES, PIPELINE)(expand.expand)
command(app, "train", train.EXAMPLES, PIPELINE)(train.train)
command(app, "attack", attack.EXAMPLES, PIPELINE)(attack.attack)
command(app, "eval", eval.EXAMPLES, PIPELINE)(eval.evaluate)
command(app, "inspect", inspect.EXAMPLES, HELPERS)(inspect.inspect)
command(app, "demo", demo.EXAMPLES, HELPERS)(demo.demo)
command(app, "doctor", doctor.EXAMPLES, HELPERS)(doctor.doctor)


@app.callback()
def laat(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    """Zero-shot image classifiers that hold under attack: class names to anchors, anchors to a robust model.

    Options can also stand in laat.toml, one table a command; the command line wins.
    """
    if version:
        typer.echo(__version__)
        raise typer.Exit
    apply_settings(context)


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="laat")
