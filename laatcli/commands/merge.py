"""`laat merge`: several anchors.st in, one out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from laatcli import options
from laatcli.console import Column, Console
from laatcli.cosines import measure_cosines, near_duplicates, show_cosines, warn_near_duplicates
from stages.anchors.anchor_set import KIND, AnchorSet
from stages.anchors.merged import merge_anchors
from stages.errors import UsageError
from stages.files import artifacts
from stages.files.reading import STDIO
from stages.parameters import parameter
from stages.text import counted

EXAMPLES = (
    "laat merge vit-b-16.st vit-b-32.st",
    "laat merge clip.st glove.st --weights 3,1 -o merged.st",
    "laat merge prompts.st descriptions.st -o - | laat expand - -o expanded.st",
)


def parse_weights(text: str) -> tuple[float, ...]:
    """'3,1' -> positive numbers. Raises UsageError."""
    fix = "write a number above 0 for each file, with commas between them: 3,1"
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--weights '{text}' is not numbers with commas between them", fix) from None
    for weight in found:
        if not 0 < weight < math.inf:
            raise UsageError(f"--weights has {weight:g}, which is not a finite number above 0", fix)
    return found


def merge(
    console: Console,
    context: typer.Context,
    anchors: Annotated[
        list[Path],
        typer.Argument(help="Two or more files of anchors, raw or expanded; one can be -, standard input.", show_default=False),
    ],
    weights: str | None = parameter(
        None, "A weight for each file, such as 3,1; only their ratios matter.", unset="all the same"
    ),
    output: Path = parameter(Path("merged.st"), options.OUTPUT_FILE, short=("-o",), panel=options.OUTPUT),
) -> None:
    """Merge anchors of the same classes: those of several encoders, prompts or sources.

    The anchors of a class are multiplied with the square roots of the weights,
    concatenated and normalized. So the cosine of two merged anchors is the
    weighted mean of their cosines in the files.
    """
    given = None if weights is None else parse_weights(weights)
    _check_files(anchors, given)
    console.stdout_taken = str(output) == STDIO
    options.check_places(context, [("--output", output)], [("ANCHORS", path) for path in anchors])
    files = [artifacts.read(path, KIND) for path in anchors]
    sets = [AnchorSet.from_artifact(file, f"'{path}'") for file, path in zip(files, anchors, strict=True)]
    merged = merge_anchors(sets, given or (), [f"'{path}'" for path in anchors])
    artifact = merged.to_artifact()
    inputs = {f"anchors {number}": file.lineage() for number, file in enumerate(files, 1)}
    written = artifacts.write(artifacts.Artifact(artifact.kind, artifact.tensors, artifact.params, inputs), output)
    figures = [measure_cosines(console, one.vectors) for one in (*sets, merged)]
    near = near_duplicates(merged.classes, figures[-1])
    console.result(
        {
            "output": str(output),
            "sha256": written.sha256,
            "classes": len(merged.classes),
            "width": merged.vectors.shape[1],
            "origin": merged.origin,
            "cosines": figures[-1].to_record(),
            **near,
        }
    )
    console.line(f"{output}: {counted(len(merged.classes), 'anchor')} of width {merged.vectors.shape[1]}")
    console.table(
        [Column("part"), Column("source"), Column("map"), Column("width", True), Column("weight", True)],
        [
            [str(path), _source(one), one.label, str(part.width), f"{part.weight:.4g}"]
            for path, one, part in zip(anchors, sets, merged.parts, strict=True)
        ],
    )
    show_cosines(console, list(zip([*map(str, anchors), "merged"], figures, strict=True)))
    warn_near_duplicates(console, merged.classes, figures[-1])


def _check_files(anchors: Sequence[Path], weights: Sequence[float] | None) -> None:
    """Raise UsageError unless there are two or more files, each once, and as many weights."""
    if len(anchors) < 2:
        raise UsageError(f"one file of anchors is given, '{anchors[0]}'", "name two or more: `laat merge A.st B.st`")
    files = [path.resolve() for path in anchors]
    twice = next((path for at, path in enumerate(anchors) if files[at] in files[:at]), None)
    if twice is not None:
        raise UsageError(f"'{twice}' is given twice", "give each file once; --weights 2,1 makes one count more")
    if weights is not None and len(weights) != len(anchors):
        raise UsageError(
            f"--weights has {counted(len(weights), 'number')} for {len(anchors)} files", "give one weight for each file"
        )


def _source(anchors: AnchorSet) -> str:
    """The encoder of a set, or what else it comes from."""
    names = [str(anchors.origin[key]) for key in ("model", "pretrained") if anchors.origin.get(key)]
    source = str(anchors.origin.get("source", "unknown"))
    return f"{source}, {'/'.join(names)}" if names else source
