"""`laat import`: a published checkpoint of another program in, model.st out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laatcli import options
from laatcli.console import Console
from stages.exchange.import_request import ImportRequest
from stages.exchange.model_request import ImportedModel
from stages.files.earlier import earlier_artifact, write_or_keep
from stages.files.reading import STDIO
from stages.parameters import parameter
from stages.text import counted

if TYPE_CHECKING:
    from stages.exchange.import_checkpoint import Converted
    from stages.files.artifacts import Artifact

EXAMPLES = (
    "laat import model_best.pt --as laat --anchors expanded.st -o model.st",
    "laat import fare_eps_2.pt --as fare --classes classes.txt -o fare.st",
)


def import_checkpoint(
    console: Console,
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file: a pickle of torch, or safetensors.", show_default=False)],
    what: ImportRequest,
    model: ImportedModel,
    output: Path = parameter(Path("model.st"), options.OUTPUT_FILE, short=("-o",), panel=options.OUTPUT),
    force: bool = parameter(False, "Replace the output, whatever it is.", panel=options.OUTPUT),
) -> None:
    """Convert a published checkpoint of another program into one of laat.

    A pickle is opened in a process of its own with limited memory, and only
    tensors, numbers and texts are read from it: nothing in it is executed.
    """
    console.stdout_taken = str(output) == STDIO
    options.check_places(context, [("--output", output)], [("FILE", file), *model.files])
    from stages.exchange.import_checkpoint import convert_checkpoint

    earlier = None if force else earlier_artifact(output, "an import", _is_import)
    made = convert_checkpoint(file, what, model, said=console.note)
    written, there = write_or_keep(made.artifact, output, earlier, "an import of another file or with other parameters")
    _show(console, made, output, written.sha256, up_to_date=there)


def _is_import(found: Artifact) -> bool:
    return found.kind == "model" and "imported" in found.params["training"] and "calibration" not in found.params


def _show(console: Console, made: Converted, output: Path, sha256: str, *, up_to_date: bool) -> None:
    weights, params = made.weights, made.artifact.params
    record, classes = params["training"]["imported"], len(params["classes"])
    groups = {group: len(names) for group, names in params["groups"].items()} if record["groups_known"] else None
    console.result(
        {
            "output": str(output),
            "sha256": sha256,
            "up_to_date": up_to_date,
            "architecture": weights.architecture,
            "image_size": made.image_size,
            "tau": made.tau,
            "classes": classes,
            "groups": groups,
            "imported": record,
        }
    )
    if made.file.limited is False:
        console.note("this system cannot limit the memory of the process that reads a pickle; only its time was limited")
    console.line(
        f"{output}: {weights.architecture} at {made.image_size} px with {counted(classes, 'class', 'classes')}, "
        f"{counted(record['tensors'], 'tensor')} of {record['file']}, {made.parameters / 1e6:.2f} million parameters"
    )
    console.line(f"names and shapes are those of {weights.architecture}")
    for change in weights.changes:
        console.line(change)
    if "normalization" in record:
        name = record["normalization"]
        console.line(f"normalized as the published program normalizes {name}; --normalization names another")
    console.line(f"logits are cosines / tau, tau {made.tau:.6g}")
    if weights.ignored:
        parts = ", ".join(f"{name} ({counted(count, 'entry', 'entries')})" for name, count in weights.ignored.items())
        console.line(f"ignored: {parts}")
    console.line("how it was trained is not in the file: objective and threat model are unknown")
    if groups is None:
        console.line("whether it was trained on these classes is unknown: they have no groups")
    else:
        counts = ", ".join(f"{count} {group}" for group, count in groups.items())
        console.line(f"the groups are those of the anchors: {counts}")
    if up_to_date:
        console.line(f"{output} is up to date: same file and parameters (--force writes it again)")
