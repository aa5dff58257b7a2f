"""`laat pull`: a repository of the Hugging Face hub in, its checkpoint, report and card in a folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laatcli import options
from laatcli.console import Column, Console
from stages.parameters import parameter

EXAMPLES = ("laat pull ORG/NAME", "laat pull ORG/NAME --revision v1 -o models/v1")


def pull(
    console: Console,
    repository: Annotated[str, typer.Argument(metavar="ORG/NAME", help="A repository of laat push.", show_default=False)],
    revision: str | None = parameter(None, "A branch, a tag or a commit.", unset="the main branch"),
    output: Path | None = parameter(None, "Output folder.", unset="NAME", short=("-o",), panel=options.OUTPUT),
) -> None:
    """Fetch a published checkpoint with its anchors, report, rows and card, and verify them.

    Existing files are not replaced. Afterwards hf-hub:ORG/NAME works as MODEL without a network, too.
    """
    from stages.exchange.pull import pull as fetch

    found = fetch(repository, output, revision=revision, progress=console.note)
    console.result(found.to_record())
    rows = [[str(path), f"{path.stat().st_size:,}"] for path in found.files.values()]
    console.table([Column("file"), Column("bytes", True)], rows)
    said = {
        None: "no report: nothing is said of its accuracy",
        True: "the report is of this checkpoint and agrees with its rows",
        False: "the report is of this checkpoint; its rows are not there to compare it with",
    }
    console.line(said[found.verified])
    done = "fetched" if found.written else "up to date:"
    console.line(f"{done} {found.repository} at commit {found.commit[:12]}, checkpoint SHA-256 {found.sha256[:12]}")
