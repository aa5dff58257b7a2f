"""`laat push`: a checkpoint in, a repository of the Hugging Face hub with a model card out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laatcli import options
from laatcli.console import Column, Console
from stages.errors import UsageError
from stages.parameters import parameter

if TYPE_CHECKING:
    from stages.exchange.publish import Publication, Published

EXAMPLES = (
    "laat push run/model.st ORG/NAME --report report.json --license mit --dry-run",
    "laat push run/model.st ORG/NAME --report report.json --license mit --private",
)


def push(
    console: Console,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A checkpoint, run/model.st, demo or hf-hub:ORG/NAME.", show_default=False)
    ],
    repository: Annotated[str, typer.Argument(metavar="ORG/NAME", help="The repository on the hub.", show_default=False)],
    license: str | None = parameter(
        None,
        "Licence of the model, as the hub names it: mit, apache-2.0, cc-by-4.0, other …",
        unset="asked for on a terminal",
    ),
    report: Path | None = parameter(
        None, "A report of laat eval on this checkpoint, published with its rows; its figures go into the model card."
    ),
    private: bool = parameter(False, "Make a new repository private."),
    dry_run: bool = parameter(False, "Show the model card and the files; needs no network.", panel=options.OUTPUT),
) -> None:
    """Publish a checkpoint on the Hugging Face hub, with its anchors, its report and a model card.

    The card says what was measured and what was not. In a repository that exists,
    a new commit replaces the files; its history keeps the old ones.
    """
    from stages.exchange.licences import COMMON
    from stages.exchange.publish import prepare, upload

    if license is None:
        if not sys.stdin.isatty() or console.as_json or console.quiet:
            raise UsageError("a model is published under a licence, and none was given", f"add --license: {COMMON}")
        license = typer.prompt(f"Licence of the model ({COMMON})", err=True)
    publication = prepare(model, repository, license=license, report=report, progress=console.note)
    if report is None:
        console.warn("no report: the model card says that nothing was measured; --report FILE adds figures")
    if dry_run:
        console.result({**publication.to_record(), "url": None})
        console.document(publication.card)
        for name, data in publication.files.items():
            console.note(f"{name}  {len(data):,} bytes")
        console.note("dry run: nothing was published")
        return
    done = upload(publication, private=private, progress=console.note)
    console.result({**publication.to_record(), "url": done.url})
    _show_files(console, publication)
    _show_what_was_there(console, done)
    console.line(f"published: {done.url}")
    name = publication.repository.name
    console.line(f"use it: laat predict hf-hub:{name} FILES, or laat pull {name}")


def _show_files(console: Console, publication: Publication) -> None:
    rows = [[name, f"{len(data):,}"] for name, data in publication.files.items()]
    console.table([Column("file"), Column("bytes", True)], rows)


def _show_what_was_there(console: Console, done: Published) -> None:
    """What became of the files of a repository that existed."""
    if done.created:
        return
    parts = {"replaced": done.replaced, "removed": done.removed, "kept": done.kept}
    said = "; ".join(f"{word} {', '.join(names)}" for word, names in parts.items() if names)
    console.note(f"the repository existed: a new commit{f' ({said})' if said else ''}; its history keeps the old files")
