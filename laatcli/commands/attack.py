"""`laat attack`: a checkpoint and images in, adversarial.st out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laatcli import options
from laatcli.console import Column, Console
from laatcli.inputs import ImageRequest, load_checkpoint, load_group_images
from stages import artifacts
from stages.attacks.named import parse_attack
from stages.attacks.threat import ThreatModel, format_eps, parse_eps
from stages.devices import check_device_name
from stages.errors import require_at_least

EXAMPLES = (
    "laat attack run/model.st --data shapes",
    "laat attack run/model.st --data photos --classes-from seen --attack margin-pgd-20 --eps 4/255 -o adversarial.st",
)


def attack(
    console: Console,
    model: options.ModelFile,
    data: options.Data = None,
    split: options.Split = None,
    classes_from: options.ClassesFrom = None,
    anchors: options.OtherAnchors = None,
    attack: Annotated[str, typer.Option(help="fgsm, pgd-N, margin-pgd-N or cw-linf.")] = "pgd-20",
    eps: options.Eps = "8/255",
    full: Annotated[
        bool, typer.Option("--full", help="Attack every image with every step, misclassified or not (for transfer).")
    ] = False,
    resize: options.Resize = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    skip_corrupt: options.SkipCorrupt = False,
    batch_size: options.BatchSize = 256,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write; - is standard output.")] = Path(
        "adversarial.st"
    ),
) -> None:
    """Attack images and save them exactly, with labels, predictions and the threat model."""
    console.stdout_taken = str(output) == artifacts.STDIO
    spec, threat = parse_attack(attack), ThreatModel(parse_eps(eps))
    require_at_least("--batch-size", batch_size, 1)
    check_device_name(device)
    artifacts.check_writable(output)
    checkpoint, lineage = load_checkpoint(model, anchors)
    request = ImageRequest(data, split, resize, image_column, label_column, skip_corrupt)
    (choice,), images = load_group_images(console, [checkpoint], [classes_from], request)
    import torch

    from stages.attacks.adversarial import AdversarialSet
    from stages.attacks.run import attack_images
    from stages.devices import resolve_device
    from stages.evaluate.results import estimate

    chosen = resolve_device(device)
    names = choice.names(checkpoint.anchors)
    images = images.restricted_to(names, names_from="the checkpoint")
    with console.progress(spec.name) as bar:
        x_adv, clean, attacked = attack_images(
            checkpoint.model.placed(chosen),
            torch.from_numpy(checkpoint.anchors.vectors[list(choice.indices)]),
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
    made = AdversarialSet(
        x_adv,
        images.images,
        images.labels,
        clean,
        attacked,
        tuple(names),
        choice.name,
        threat,
        {**spec.to_record(), "seed": seed, "every_step": full},
        {**images.provenance.to_record(), "sha256": images.sha256()},
        lineage,
    )
    written = artifacts.write(made.to_artifact(), output)
    right = (clean == images.labels).numpy()
    figures = {"clean": estimate(right), "robust": estimate(right & (attacked == images.labels).numpy())}
    largest = float((x_adv - images.images / 255).abs().max())
    console.result(
        {
            "output": str(output),
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
    console.line(f"{output}: {where} under {spec.name}, {threat.norm} {format_eps(threat.eps)}")
    console.table(
        [Column("accuracy %"), Column("value", True), Column("95 % (Wilson over images)", True)],
        [
            [name, f"{100 * value.accuracy:.1f}", f"{100 * value.low:.1f} – {100 * value.high:.1f}"]
            for name, value in figures.items()
        ],
    )
