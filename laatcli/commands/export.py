"""`laat export`: a model in, files for programs without laat out."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from laatcli import options
from laatcli.console import Column, Console
from laatcli.inputs import load_classifier
from stages.data.request import ImageRequest
from stages.exchange.export_options import ExportOptions, check_place
from stages.exchange.model_request import ModelRequest
from stages.parameters import parameter
from stages.text import counted

if TYPE_CHECKING:
    from stages.exchange.export import Exported

EXAMPLES = (
    "laat export run/model.st -o model.onnx",
    "laat export run/model.st -o model.pt2 --pixels float --data photos",
    "laat export run/model.st -o exported --format torch",
)


def export(
    console: Console,
    context: typer.Context,
    model: options.Model,
    request: ModelRequest,
    images: ImageRequest,
    export_options: ExportOptions,
    output: Path = parameter(
        Path("model.onnx"), "File that ends in .onnx or .pt2, or a folder.", short=("-o",), panel=options.OUTPUT
    ),
) -> None:
    """Write a model for programs without laat: ONNX, torch.export, open_clip, or plain weights.

    Images and anchors are inputs of the model, so new classes need no new export:
    only their anchors, which `laat anchors --like` makes. Normalization and the
    logit scale are inside. The anchors are written beside the model.

    What was written is run and compared with the model, on up to 200 images of
    --data, or of the bundled shapes. Nothing is left if a logit differs by more
    than --tolerance or an image gets another class (exit code 5).
    """
    form = export_options.format_of(output)
    check_place(output, form, force=export_options.force)
    options.check_places(
        context,
        [] if output.is_dir() else [("--output", output)],
        [("MODEL", model), ("--data", images.data), *request.files],
    )
    opened = load_classifier(console, model, request)
    from stages.exchange.export import export_classifier
    from stages.exchange.export_check import read_images

    if form in (None, "open_clip") and opened.classifier.origin.foreign.get("kind") == "clip":
        export_options = replace(export_options, text_tower=export_options.text_tower or model)
    some = read_images(images, opened.classifier.image_size)
    console.note(f"exporting {opened.name}")
    with console.progress("compare") as bar:
        done = export_classifier(opened.classifier, output, export_options, some, bar.update)
    _show(console, done)


def _show(console: Console, done: Exported) -> None:
    found, record = done.comparison, done.record
    console.result(
        {
            "output": str(done.path),
            "format": done.format,
            "opset": record.get("opset"),
            "files": done.files,
            "bytes": sum(done.files.values()),
            "comparison": {**asdict(found), "tolerance": found.tolerance},
            "seconds": done.seconds,
            "record": record,
        }
    )
    names = {"onnx": f"ONNX, opset {record.get('opset')}", "pt2": "torch.export", "torch": "weights", "open_clip": "open_clip"}
    files = ", ".join(f"{name} {_size(size)}" for name, size in done.files.items())
    console.line(f"{done.path}: {names[done.format]}, {counted(len(record['classes']), 'class', 'classes')} ({files})")
    if done.format in ("onnx", "pt2"):
        size, dtype, (low, high) = (record["images"][key] for key in ("size", "dtype", "range"))
        anchors = "" if record["anchors"] is None else f", anchors (classes, {record['width']})"
        console.line(f"inputs: images (batch, 3, {size}, {size}) {dtype} from {low} to {high}{anchors}; outputs: logits"
                     + ("" if record["anchors"] is None else ", embeddings"))  # fmt: skip
    heads = [Column("compared in"), Column("images"), Column("largest logit difference", True)]
    heads += [Column("same class", True), Column("seconds", True)]
    difference = f"{found.largest:.1e}, at most {found.tolerance:.0e}"
    counts = f"{found.images:,} of {found.source}", difference, f"{found.same} of {found.decided}", f"{done.seconds:.1f}"
    console.table(heads, [[found.runtime, *counts]])
    if found.undecided:
        left_out = counted(found.undecided, "image is", "images are")
        console.note(f"{left_out} left out of 'same class': rounding could change which of the two largest logits is first")


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"
