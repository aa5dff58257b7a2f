"""`laat attack`: a checkpoint and images in, adversarial.st out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from laatcli import options
from laatcli.console import Column, Console
from laatcli.inputs import load_classifier, load_group_images
from stages import artifacts
from stages.attacks.ensemble import ENSEMBLE
from stages.attacks.named import FORMS, parse_attack
from stages.attacks.pictures import check_picture_folder, folder_names, write_pictures
from stages.data.request import ImageRequest
from stages.devices import check_device_name
from stages.errors import UsageError, require_at_least
from stages.threat import ThreatModel

EXAMPLES = (
    "laat attack run/model.st --data photos --classes-from seen --attack margin-pgd-20 --eps 4/255 -o adversarial.st",
    "laat attack run/model.st --data photos --norm l2 --eps 0.5 --attack pgd-20x5 --png pictures",
)

_SHOWN = {"clean": "clean", "robust": "robust, exact", "robust_8bit": "robust, after rounding to 8 bits"}


def attack(
    console: Console,
    model: options.ModelFile,
    request: ImageRequest,
    classes_from: options.ClassesFrom = None,
    anchors: options.OtherAnchors = None,
    attack: Annotated[str, typer.Option(help=f"{FORMS}, {', '.join(ENSEMBLE)}.", rich_help_panel=options.ATTACKS)] = "pgd-20",
    norm: options.Norm = "linf",
    eps: options.Eps = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Attack every image with every step, misclassified or not (for transfer).",
            rich_help_panel=options.ATTACKS,
        ),
    ] = False,
    quantize: Annotated[
        bool,
        typer.Option(
            "--quantize",
            help="Save the images in 8 bits: rounded inside the ball, and judged again.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = False,
    png: Annotated[
        Path | None,
        typer.Option(
            help="Write each image as an 8-bit PNG, DIR/CLASS/NUMBER.png, rounded as by --quantize.",
            metavar="DIR",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace the pictures that lie in the folder of --png.", rich_help_panel=options.OUTPUT),
    ] = False,
    batch_size: options.BatchSize = 256,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where to write; - is standard output.", rich_help_panel=options.OUTPUT)
    ] = Path("adversarial.st"),
) -> None:
    """Attack images and save them exactly, with labels, predictions and the threat model."""
    console.stdout_taken = str(output) == artifacts.STDIO
    spec, threat = parse_attack(attack), ThreatModel(eps, norm)
    spec.check_fits(threat)
    require_at_least("--batch-size", batch_size, 1)
    check_device_name(device)
    options.check_places([("--output", output)], [("MODEL", model), ("--anchors", anchors), ("--classes-from", classes_from)])
    _check_pictures(output, png, force=force)
    classifier, lineage = load_classifier(model, anchors)
    (choice,), images = load_group_images(console, [classifier], [classes_from], request)
    names = choice.classes
    spec.check_fits(threat, len(names))
    if png is not None:
        folder_names(names)
    from stages.devices import resolve_device
    from stages.evaluation.attack_stage import attack_group
    from stages.models.embedding import place

    place(classifier, resolve_device(device))
    with console.progress(spec.name) as bar:
        done = attack_group(
            classifier.over(names),
            choice.name,
            images.restricted_to(names, names_from="the checkpoint"),
            spec,
            threat,
            seed=seed,
            batch_size=batch_size,
            early_stop=not full,
            round_images=png is not None,
            save_rounded=quantize,
            inputs=lineage,
            progress=bar.update,
        )
    written = artifacts.write(done.saved.to_artifact(), output)
    if png is not None and done.levels is not None:
        write_pictures(png, done.levels.numpy(), done.saved.labels.numpy(), names, force=force)
    console.result(
        {
            "output": str(output),
            "pictures": None if png is None else str(png),
            "sha256": written.sha256,
            "group": choice.name,
            "images": len(done.saved.images),
            "ways": len(names),
            "attack": spec.to_record(),
            "threat": threat.to_record(),
            "largest_perturbation": done.largest,
            **{name: asdict(value) for name, value in done.figures.items()},
        }
    )
    where = f"{len(done.saved.images):,} images of {len(names)} {choice.name} classes"
    console.line(f"{output}: {where} under {spec.name}, {threat}")
    if png is not None:
        console.line(f"{png}: the images as 8-bit PNG, DIR/CLASS/NUMBER.png")
    console.table(
        [Column("accuracy %"), Column("value", True), Column("95 % (Wilson over images)", True)],
        [
            [_SHOWN[name], f"{100 * value.accuracy:.1f}", f"{100 * value.low:.1f} – {100 * value.high:.1f}"]
            for name, value in done.figures.items()
        ],
    )


def _check_pictures(output: Path, png: Path | None, *, force: bool) -> None:
    if png is not None:
        check_picture_folder(png, force=force)
        if png.resolve() in output.resolve().parents:
            raise UsageError(f"'{output}' lies in the folder of the pictures", "choose another place with -o or --png")
    elif force:
        raise UsageError("--force is given without --png", "it replaces pictures; leave it out")
