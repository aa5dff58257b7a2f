"""`laat calibrate`: a model and images of validation classes in, a checkpoint with a calibration out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from laatcli import options
from laatcli.console import Console
from laatcli.inputs import bundled_data, load_classifier, open_training_images
from stages.data.request import ImageRequest
from stages.errors import UsageError
from stages.exchange.model_request import ModelRequest
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
    force: bool = parameter(False, "Replace the output, whatever it is.", panel=options.OUTPUT),
) -> None:
    """Fit temperature and bias of a model on validation classes, and write a checkpoint with them.

    The temperature brings confidence close to accuracy; where it does not, that
    of training is kept. The bias is subtracted from the cosines of seen classes
    where they compete with others.

    `laat predict` uses both, and the bias can change its answers. The logits of
    laat.load, exports, attacks and the figures of `laat eval` do not change; eval
    --protocol gzsl also has results at the bias.

    Images are of the training split, without those that were trained on. Do not
    give classes or images that you evaluate on. `laat train` calibrates too.
    """
    console.stdout_taken = str(output) == STDIO
    if "test" in (images.split or ""):
        raise UsageError(
            f"--split {images.split}: test images are for evaluation, and no calibration is fitted on them",
            "leave --split out to use the training split, or give other images with --data",
        )
    sources: list[options.Place] = [("MODEL", model), ("--data", images.data), ("--classes-from", classes_from), *request.files]
    options.check_places(context, [("--output", output)], sources)
    opened = load_classifier(console, model, request)
    from stages.devices import resolve_device
    from stages.exchange.calibrated import calibrated, check_storable, earlier_calibration, validation_choice, write_calibrated
    from stages.models.embedding import place
    from stages.models.image_size import require_size
    from stages.statistics.calibration import calibration_lines, calibration_warning

    classifier = opened.classifier
    check_storable(classifier, opened.name)
    earlier = None if force else earlier_calibration(output, opened.lineage)
    choice = validation_choice(classifier, classes_from or request.group)
    where = resolve_device(device)
    place(classifier, where)
    reading = classifier.origin.reading

    def read(classes: Sequence[str]) -> LabelledImages:
        found, _ = open_training_images(
            console, images.as_in(reading), classes=list(classes), bundled=bundled_data(reading), cache="auto", device="cpu"
        )
        require_size(classifier, found.size, f"the images of '{found.provenance.source}'", "add --resize {}")
        return found

    with console.progress("calibrate") as bar:
        done = calibrated(opened, choice, read, batch_size=batch_size, progress=bar.update)
    written, there = write_calibrated(done.artifact, output, earlier)
    record = {"output": str(output), "sha256": written.sha256, "up_to_date": there}
    console.result({**record, "calibration": done.calibration.to_record()})
    for note in filter(None, (*done.notes, calibration_warning(done.calibration))):
        console.warn(note)
    for line in calibration_lines(done.calibration):
        console.line(line)
    up_to_date = "up to date: same model, images and parameters (--force writes it again)"
    console.line(f"{output} is {up_to_date}" if there else f"{output}: the model with its calibration")
