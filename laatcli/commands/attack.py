"""`laat attack`: a checkpoint and images in, adversarial.st out."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from laatcli import options
from laatcli.console import Column, Console
from laatcli.inputs import load_classifier, load_group_images
from stages.attacks.png_folder import check_png_folder, folder_names, write_png_folder
from stages.attacks.spec import ENSEMBLE, FORMS, AttackPlan, AttackSpec, parse_attack
from stages.conditions import ModelUnderAttack
from stages.data.request import ImageRequest
from stages.errors import UsageError
from stages.exchange.model_request import ModelRequest
from stages.files import artifacts
from stages.files.reading import STDIO
from stages.parameters import parameter
from stages.text import counted
from stages.threat import ThreatModel

if TYPE_CHECKING:
    from stages.attacks.adversarial import AdversarialSet
    from stages.evaluation.attack_stage import Attacked

EXAMPLES = (
    "laat attack run/model.st --data photos --classes-from seen --attack margin-pgd-20 --eps 4/255 -o adversarial.st",
    "laat attack run/model.st --data photos --norm l2 --eps 0.5 --attack pgd-20x5 --png images",
)

_SHOWN = {"clean": "clean", "robust": "robust, exact", "robust_8bit": "robust, after rounding to 8 bits"}


def attack(
    console: Console,
    context: typer.Context,
    model: options.Model,
    model_request: ModelRequest,
    request: ImageRequest,
    threat: ThreatModel,
    under: ModelUnderAttack,
    computing: options.Computing,
    classes_from: str | None = parameter(
        None, f"{options.CLASSES_FROM}.", unset=options.CLASSES_UNSET, panel=options.CLASSES, places=options.GROUPS
    ),
    attack: str = parameter("pgd-20", f"{FORMS}, {', '.join(ENSEMBLE)}.", panel=options.ATTACKS),
    full: bool = parameter(
        False,
        "Attack every image with every step, also those that are misclassified (for transfer attacks).",
        panel=options.ATTACKS,
    ),
    quantize: bool = parameter(
        False, "Round the images to 8 bits within the threat model, and classify them again.", panel=options.OUTPUT
    ),
    png: Path | None = parameter(
        None,
        "Also write each image as an 8-bit PNG in this folder, CLASS/ROW.png, ROW as in the data, rounded as with --quantize.",
        panel=options.OUTPUT,
    ),
    force: bool = parameter(
        False,
        "Attack again, and replace the output and the folder of --png, even if they are from another attack.",
        panel=options.OUTPUT,
    ),
    output: Path = parameter(Path("adversarial.st"), options.OUTPUT_FILE, short=("-o",), panel=options.OUTPUT),
) -> None:
    """Attack images and save them, with labels, predictions and the threat model."""
    console.stdout_taken = str(output) == STDIO
    spec = parse_attack(attack)
    spec.check_fits(threat)
    sources: list[options.Place] = [("MODEL", model), ("--data", request.data), *model_request.files]
    sources.append(("--classes-from", classes_from))
    options.check_places(context, [("--output", output)], sources)
    _check_png(output, png, sources, force=force)
    opened = load_classifier(console, model, model_request)
    from stages.models.wrapped import check_grid, resize_inside

    classifier, lineage = resize_inside(opened.classifier, under.resize_inside), opened.lineage
    (choice,), images = load_group_images(console, [classifier], [classes_from or model_request.group], request)
    check_grid({"": classifier}, images.size)
    names = choice.classes
    spec.check_fits(threat, len(names))
    if png is not None:
        folder_names(names)
    from stages.devices import resolve_device
    from stages.evaluation.attack_stage import attack_group, attack_identity, earlier_attack
    from stages.models.embedding import place

    place(classifier, resolve_device(computing.device))
    group = classifier.over(names), choice.name, images.restricted_to(names, names_from="the checkpoint")
    plan = AttackPlan(spec, threat, seed=computing.seed, batch_size=computing.batch_size, early_stop=not full, eot=under.eot)
    identity = attack_identity(*group, plan, save_rounded=quantize, inputs=lineage)
    done = None if force else earlier_attack(output, identity)
    there = done is not None and png is None  # pictures are made from a new attack
    if done is None or not there:
        with console.progress("attack") as bar:
            done = attack_group(
                *group,
                plan,
                round_images=png is not None,
                save_rounded=quantize,
                inputs=lineage,
                identity=identity,
                progress=bar.update,
            )
        done = replace(done, sha256=artifacts.write(done.saved.to_artifact(), output).sha256)
    if png is not None and done.levels is not None:
        rows = None if done.saved.source_rows is None else done.saved.source_rows.index
        write_png_folder(png, done.levels.numpy(), done.saved.labels.numpy(), names, force=force, rows=rows)
    _show(console, done, spec, output, png, there=there)
    if there:
        console.line(f"{output} is up to date: same model, images and parameters (--force attacks again)")


def _show(console: Console, done: Attacked, spec: AttackSpec, output: Path, png: Path | None, *, there: bool) -> None:
    saved = done.saved
    console.result(
        {
            "output": str(output),
            "up_to_date": there,
            "pictures": None if png is None else str(png),
            "sha256": done.sha256,
            "group": saved.group,
            "images": len(saved.images),
            "ways": len(saved.classes),
            "attack": spec.to_record(),
            "threat": {**saved.threat.to_record(), **(saved.conditions.to_record() if saved.conditions else {})},
            "largest_perturbation": done.largest,
            **{name: asdict(value) for name, value in done.figures.items()},
        }
    )
    where = f"{len(saved.images):,} images of {counted(len(saved.classes), f'{saved.group} class', f'{saved.group} classes')}"
    console.line(f"{output}: {where} under {spec.name}, {_threat_of(saved)}")
    if png is not None:
        console.line(f"{png}: the images as 8-bit PNG, DIR/CLASS/ROW.png")
    console.table(
        [Column("accuracy %"), Column("value", True), Column("95 % (Wilson over images)", True)],
        [
            [_SHOWN[name], f"{100 * value.accuracy:.1f}", f"{100 * value.low:.1f} – {100 * value.high:.1f}"]
            for name, value in done.figures.items()
        ],
    )


def _threat_of(saved: AdversarialSet) -> str:
    """As in tables: 'Linf 8/255 at 32x32'."""
    from stages.files.artifact_params import Threat

    found = saved.conditions.to_record() if saved.conditions else {}
    return str(Threat.model_validate({**saved.threat.to_record(), **found}))


def _check_png(output: Path, png: Path | None, sources: list[options.Place], *, force: bool) -> None:
    if png is not None:
        check_png_folder(png, force=force or output.is_file())  # of the same attack, or it is refused for that
        for name, path in sources:
            if path is not None and os.path.exists(path) and Path(os.path.realpath(path)).is_relative_to(png.resolve()):
                raise UsageError(f"--png would replace '{path}', which {name} reads", "choose another path for it")
        if png.resolve() in output.resolve().parents:
            raise UsageError(f"'{output}' is in the folder of --png", "choose another path with -o or --png")
