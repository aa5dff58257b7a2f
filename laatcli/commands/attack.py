"""`laat attack`: a checkpoint and images in, adversarial.st out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laatcli import options
from laatcli.console import Column, Console
from laatcli.inputs import load_checkpoint, load_group_images
from stages import artifacts
from stages.attacks.ensemble import ENSEMBLE
from stages.attacks.named import FORMS, parse_attack
from stages.attacks.pictures import check_picture_folder, folder_names, write_pictures
from stages.data.request import ImageRequest
from stages.devices import check_device_name
from stages.errors import UsageError, require_at_least

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
    spec, threat = parse_attack(attack), options.read_threat(norm, eps)
    spec.check_fits(threat)
    require_at_least("--batch-size", batch_size, 1)
    check_device_name(device)
    options.check_places([("--output", output)], [("MODEL", model), ("--anchors", anchors), ("--classes-from", classes_from)])
    _check_pictures(output, png, force=force)
    checkpoint, lineage = load_checkpoint(model, anchors)
    (choice,), images = load_group_images(console, [checkpoint], [classes_from], request)
    names = choice.names(checkpoint.anchors)
    spec.check_fits(threat, len(names))
    if png is not None:
        folder_names(names)
    import torch

    from stages.attacks.adversarial import AdversarialSet
    from stages.attacks.perturb import attack_images
    from stages.attacks.quantize import predict_images
    from stages.attacks.quantize import quantize as quantized
    from stages.devices import resolve_device
    from stages.models.embedding import place
    from stages.statistics.intervals import estimate

    chosen = resolve_device(device)
    place(checkpoint.model, chosen)
    network = checkpoint.model
    heads = torch.from_numpy(checkpoint.anchors.vectors[list(choice.indices)])
    images = images.restricted_to(names, names_from="the checkpoint")
    with console.progress(spec.name) as bar:
        x_adv, clean, attacked = attack_images(
            network,
            heads,
            images.images,
            images.labels,
            spec,
            threat=threat,
            seed=seed,
            batch_size=batch_size,
            device=chosen,
            scale=checkpoint.logit_scale,
            early_stop=not full,
            progress=bar.update,
        )
    right = (clean == images.labels).numpy()
    figures = {"clean": estimate(right), "robust": estimate(right & (attacked == images.labels).numpy())}
    if quantize or png is not None:
        levels = quantized(x_adv, images.images, threat)
        with console.progress("8 bits") as bar:
            judged = predict_images(network, heads, levels, batch_size=batch_size, device=chosen, progress=bar.update)
        figures["robust_8bit"] = estimate(right & (judged == images.labels).numpy())
        if quantize:
            x_adv, attacked = levels.to(torch.float32) / 255, judged
    made = AdversarialSet(
        x_adv,
        images.images,
        images.labels,
        clean,
        attacked,
        tuple(names),
        choice.name,
        threat,
        {**spec.to_record(), "seed": seed, "every_step": full, "quantized": quantize},
        {**images.provenance.to_record(), "sha256": images.sha256()},
        lineage,
    )
    written = artifacts.write(made.to_artifact(), output)
    if png is not None:
        write_pictures(png, levels.numpy(), images.labels.numpy(), names, force=force)
    largest = float(threat.distance(x_adv, images.images / 255).max())
    console.result(
        {
            "output": str(output),
            "pictures": None if png is None else str(png),
            "sha256": written.sha256,
            "group": choice.name,
            "images": len(images),
            "ways": len(names),
            "attack": spec.to_record(),
            "threat": threat.to_record(),
            "largest_perturbation": largest,
            **{name: value.to_record() for name, value in figures.items()},
        }
    )
    where = f"{len(images):,} images of {len(names)} {choice.name} classes"
    console.line(f"{output}: {where} under {spec.name}, {threat}")
    if png is not None:
        console.line(f"{png}: the images as 8-bit PNG, DIR/CLASS/NUMBER.png")
    console.table(
        [Column("accuracy %"), Column("value", True), Column("95 % (Wilson over images)", True)],
        [
            [_SHOWN[name], f"{100 * value.accuracy:.1f}", f"{100 * value.low:.1f} – {100 * value.high:.1f}"]
            for name, value in figures.items()
        ],
    )


def _check_pictures(output: Path, png: Path | None, *, force: bool) -> None:
    if png is not None:
        check_picture_folder(png, force=force)
        if png.resolve() in output.resolve().parents:
            raise UsageError(f"'{output}' lies in the folder of the pictures", "choose another place with -o or --png")
    elif force:
        raise UsageError("--force is given without --png", "it replaces pictures; leave it out")
