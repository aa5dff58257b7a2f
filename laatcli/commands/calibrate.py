"""`laat calibrate`: a model and images of validation classes in, a checkpoint with a calibration out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from laatcli import options
from laatcli.console import Console
from laatcli.inputs import load_classifier, open_training_images
from stages.data.request import ImageRequest
from stages.exchange.model_request import ModelRequest
from stages.files import artifacts
from stages.files.reading import STDIO
from stages.parameters import parameter, same_parameter

if TYPE_CHECKING:
    from stages.data.image_set import LabelledImages

EXAMPLES = (
    "laat calibrate run/model.st --data photos",
    "laat calibrate clip:ViT-B-32/openai --data photos --classes validation.txt -o clip.st",
)


def calibrate(
    console: Console,
    context: typer.Context,
    model: options.Model,
    request: ModelRequest,
    images: ImageRequest,
    batch_size: int = same_parameter(options.Computing, "batch_size"),
    device: str = same_parameter(options.Computing, "device"),
    classes_from: str | None = parameter(
        None,
        f"{options.CLASSES_FROM}, to fit on.",
        unset="val; for other models all the classes that are given, which you state to be for validation",
        panel=options.CLASSES,
        places=options.GROUPS,
    ),
    output: Path = parameter(Path("calibrated.st"), options.OUTPUT_FILE, short=("-o",), panel=options.OUTPUT),
) -> None:
    """Fit temperature and bias of a model on validation classes, and write a checkpoint with them.

    The temperature brings confidence close to accuracy. The bias is subtracted
    from the cosines of seen classes where they compete with others. Accuracies
    and attacks stay as they are, except those said to be at the bias. Do not
    give classes or images that you evaluate on. `laat train` calibrates too.
    """
    console.stdout_taken = str(output) == STDIO
    sources: list[options.Place] = [("MODEL", model), ("--data", images.data), ("--classes-from", classes_from), *request.files]
    options.check_places(context, [("--output", output)], sources)
    opened = load_classifier(console, model, request)
    from stages.devices import resolve_device
    from stages.exchange.calibrated import calibrated, check_storable, validation_choice
    from stages.models.embedding import place
    from stages.models.image_size import require_size
    from stages.statistics.calibration import calibration_lines

    classifier = opened.classifier
    check_storable(classifier, opened.name)
    choice = validation_choice(classifier, classes_from or request.group)
    where = resolve_device(device)
    place(classifier, where)
    reading = classifier.origin.reading

    def read(classes: Sequence[str]) -> LabelledImages:
        bundled = reading.get("data", {}).get("source") == "shapes"
        found, _ = open_training_images(
            console, images.as_in(reading), classes=list(classes), bundled=bundled, cache="auto", device="cpu"
        )
        require_size(classifier, found.size, f"the images of '{found.provenance.source}'", "add --resize {}")
        return found

    with console.progress("calibrate") as bar:
        done = calibrated(opened, choice, read, batch_size=batch_size, progress=bar.update)
    written = artifacts.write(done.artifact, output)
    console.result({"output": str(output), "sha256": written.sha256, "calibration": done.calibration.to_record()})
    for note in done.notes:
        console.warn(note)
    for line in calibration_lines(done.calibration):
        console.line(line)
    console.line(f"{output}: the model with its calibration")
