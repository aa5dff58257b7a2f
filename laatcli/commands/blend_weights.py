"""`laat blend-weights`: two models of one architecture in, models between them out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laatcli import options
from laatcli.console import Column, Console
from stages.errors import UsageError
from stages.files import artifacts
from stages.files.reading import STDIO
from stages.parameters import parameter

EXAMPLES = (
    "laat blend-weights run/model.st clip:ViT-B-32/openai --weight 0.7",
    "laat blend-weights run/model.st clip:ViT-B-32/openai --weight 0,0.25,0.5,0.75,1 -o blend.st",
    "laat eval blend-*.st --data photos   # clean and robust accuracy over the weight",
)


def parse_weights(text: str) -> tuple[float, ...]:
    """'0.7' or '0,0.5,1' -> numbers in [0, 1], each once. Raises UsageError."""
    fix = "write numbers between 0 and 1, as in 0.7 or 0,0.5,1"
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--weight '{text}' is not a number, or several with commas between them", fix) from None
    for weight in found:
        if not 0 <= weight <= 1:
            raise UsageError(f"--weight {weight:g} is not between 0 and 1", fix)
    if len({f"{weight:g}" for weight in found}) < len(found):
        raise UsageError(f"--weight '{text}' has a weight twice", "give each once")
    return found


def blend_weights(
    console: Console,
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="A checkpoint, such as a robust one.", show_default=False)],
    other: Annotated[
        str, typer.Argument(help="Another one, or the tower it was trained from: clip:NAME/TAG.", show_default=False)
    ],
    weight: str | None = parameter(
        None, "Share of MODEL, between 0 and 1. Of several, such as 0,0.5,1, each gives a checkpoint."
    ),
    anchors_of: str | None = parameter(
        None,
        "Whose anchors and temperature to keep: first or second.",
        unset="must be the same",
        choices=("first", "second"),
    ),
    output: Path = parameter(
        Path("blended.st"),
        f"{options.OUTPUT_FILE} With several weights, each is added to the name.",
        short=("-o",),
        panel=options.OUTPUT,
    ),
) -> None:
    """Interpolate between the weights of two models: w * MODEL + (1 - w) * OTHER.

    A robust model and the one that it was fine-tuned from have the same
    architecture, and what lies between them trades robust for clean accuracy.
    The result is a checkpoint without a calibration.
    """
    if weight is None:
        raise UsageError("--weight is missing", "add --weight 0.7, or --weight 0,0.25,0.5,0.75,1 for several")
    weights = parse_weights(weight)
    paths = _paths(output, weights)
    console.stdout_taken = str(output) == STDIO
    options.check_places(context, [("--output", path) for path in paths], [("MODEL", model), ("OTHER", other)])
    first = artifacts.read(model, "model")
    from stages.models.blend import Blend

    second = other if other.startswith("clip:") else artifacts.read(Path(other), "model")
    blend = Blend(first, second, anchors_of)
    written = [artifacts.write(blend.at(one), path) for one, path in zip(weights, paths, strict=True)]
    shown = [
        {"output": str(path), "weight": one, "sha256": artifact.sha256}
        for one, path, artifact in zip(weights, paths, written, strict=True)
    ]
    console.result({"outputs": shown, "notes": blend.notes})
    console.table(
        [Column("checkpoint"), Column(f"weight of {model}", True), Column(f"weight of {other}", True)],
        [[str(path), f"{one:g}", f"{1 - one:g}"] for one, path in zip(weights, paths, strict=True)],
    )
    for note in blend.notes:
        console.warn(note)


def _paths(output: Path, weights: tuple[float, ...]) -> list[Path]:
    """A path each; several have the weight in their names."""
    if len(weights) == 1:
        return [output]
    if str(output) == STDIO:
        raise UsageError(f"standard output takes one checkpoint, not {len(weights)}", "name a file with -o")
    return [output.with_name(f"{output.stem}-{weight:g}{output.suffix}") for weight in weights]
