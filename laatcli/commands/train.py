"""`laat train`: anchors and images in, a run folder out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from laatcli import options
from laatcli.console import Console
from laatcli.dry_run import DryRun, show_resolved
from laatcli.inputs import ImageRequest
from laatcli.options import parse_duration
from laatcli.recipes import Recipe
from laatcli.training import Shown, show
from stages import artifacts
from stages.anchors.anchor_set import KIND, AnchorSet
from stages.anchors.bundled import bundled_classes
from stages.classes import fold
from stages.devices import check_device_name
from stages.errors import InputError, UsageError
from stages.launch import read_launch
from stages.threat import format_eps, parse_eps
from stages.train.settings import TrainSettings
from stages.train.trackers import check_tracker

EXAMPLES = (
    "laat train --data photos --epochs 20",
    "laat train --anchors anchors.st --data shapes --objective at --steps 3 --out run-at",
)
DEFAULT_ANCHORS = ("expanded.st", "anchors.st")
DATA, MODEL, METHOD, DESCENT, RUN = "Data", "Model", "Objective and inner attack", "Descent", "How it runs"
RESUME = ("auto", "never")


def train(
    console: Console,
    context: typer.Context,
    recipe: Recipe = None,
    anchors: Annotated[
        Path | None, typer.Option(help="Anchors to train against. \\[default: expanded.st, else anchors.st]")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for model.st (best epoch), last.st and metrics.jsonl.")] = Path("run"),
    data: options.Data = None,
    split: options.Split = None,
    resize: options.Resize = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    skip_corrupt: options.SkipCorrupt = False,
    augment: Annotated[
        bool, typer.Option("--augment/--no-augment", help="Random crop, flip, rotation, jitter.", rich_help_panel=DATA)
    ] = True,
    crop_padding: Annotated[int, typer.Option(help="Zeros on each side before the random crop.", rich_help_panel=DATA)] = 4,
    rotation: Annotated[float, typer.Option(help="Largest random rotation, degrees.", rich_help_panel=DATA)] = 15.0,
    jitter: Annotated[
        float, typer.Option(help="Strength of brightness, contrast and saturation jitter.", rich_help_panel=DATA)
    ] = 0.0,
    backbone: Annotated[
        str, typer.Option(help="conv4-WIDTH, resnet12, timm:NAME or clip:NAME\\[/TAG].", rich_help_panel=MODEL)
    ] = "conv4-64",
    init: Annotated[Path | None, typer.Option(help="Start from this checkpoint's weights.", rich_help_panel=MODEL)] = None,
    drop_block: Annotated[float, typer.Option(help="Rate of DropBlock in resnet12.", rich_help_panel=MODEL)] = 0.0,
    objective: Annotated[
        str,
        typer.Option(
            help="laat (A-CE on attacked images + smoothing), at (A-CE alone), trades, clean (no attack); or only the "
            "distance to the image's own anchor: cos, acos, l2.",
            rich_help_panel=METHOD,
        ),
    ] = "laat",
    tau: Annotated[float, typer.Option(help="Temperature: logits are cosine / tau.", rich_help_panel=METHOD)] = 1.0,
    beta: Annotated[
        float | None,
        typer.Option(help="Weight of smoothing (laat, default 1) or KL (trades, default 6).", rich_help_panel=METHOD),
    ] = None,
    eps: Annotated[str, typer.Option(help="L-inf radius of the inner attack, as 8/255.", rich_help_panel=METHOD)] = "8/255",
    steps: Annotated[int, typer.Option(help="Steps of the inner attack (PGD).", rich_help_panel=METHOD)] = 7,
    step_size: Annotated[
        str | None,
        typer.Option(help="Step size of the inner attack, as 2/255. \\[default: eps/4]", rich_help_panel=METHOD),
    ] = None,
    awp: Annotated[
        float, typer.Option(help="Gamma of adversarial weight perturbation, as 0.005. 0 is off.", rich_help_panel=METHOD)
    ] = 0.0,
    epochs: Annotated[int, typer.Option(help="Times that every image is visited.", rich_help_panel=DESCENT)] = 100,
    batch_size: Annotated[int, typer.Option(help="Images a step, over all processes.", rich_help_panel=DESCENT)] = 128,
    accumulate: Annotated[
        int,
        typer.Option(
            help="Pieces a batch goes through the model in: the same step in less memory and, with batch norm, more time.",
            rich_help_panel=DESCENT,
        ),
    ] = 1,
    lr: Annotated[float, typer.Option(help="Highest learning rate of SGD.", rich_help_panel=DESCENT)] = 0.05,
    schedule: Annotated[
        str, typer.Option(help="step (x 0.1 from 60 % of the epochs on), cosine or one-cycle.", rich_help_panel=DESCENT)
    ] = "step",
    warm_up: Annotated[float, typer.Option(help="Epochs over which the rate climbs to it.", rich_help_panel=DESCENT)] = 0.0,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of SGD.", rich_help_panel=DESCENT)] = 5e-4,
    momentum: Annotated[float, typer.Option(help="Momentum of SGD.", rich_help_panel=DESCENT)] = 0.9,
    clip_norm: Annotated[float | None, typer.Option(help="Cut the gradient's norm to this.", rich_help_panel=DESCENT)] = None,
    ema: Annotated[
        float, typer.Option(help="Decay of averaged weights, which are then scored and saved.", rich_help_panel=DESCENT)
    ] = 0.0,
    seed: options.Seed = 0,
    precision: Annotated[
        str, typer.Option(help="float32, bf16, or auto: bf16 on GPUs that have it.", rich_help_panel=RUN)
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=RUN)] = "auto",
    cache: options.Cache = "auto",
    resume: Annotated[
        str, typer.Option(help="auto: go on from the folder's last state, if any. never.", rich_help_panel=RUN)
    ] = "never",
    save_every: Annotated[str, typer.Option(help="Time between saved states: 60s, 5m, 1h.", rich_help_panel=RUN)] = "60s",
    log: Annotated[str | None, typer.Option(help="Also log to tensorboard or wandb.", rich_help_panel=RUN)] = None,
    force: options.Force = False,
    dry_run: DryRun = False,
) -> None:
    """Train an image model adversarially against fixed anchors."""
    launch = read_launch()
    check_device_name(device)
    settings = TrainSettings(
        objective=objective,
        backbone=backbone,
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        schedule=schedule,
        warm_up=warm_up,
        clip_norm=clip_norm,
        eps=parse_eps(eps),
        steps=steps,
        step_size=parse_eps(step_size) if step_size is not None else None,
        tau=tau,
        beta=beta,
        awp=awp,
        ema=ema,
        drop_block=drop_block,
        augment=augment,
        crop_padding=crop_padding,
        rotation=rotation,
        jitter=jitter,
        precision="float32" if precision == "auto" else precision,
        seed=seed,
    )
    seconds = parse_duration(save_every)
    if resume not in RESUME:
        raise UsageError(f"unknown --resume '{resume}'", f"choose one of {', '.join(RESUME)}")
    check_tracker(log)
    if dry_run:
        show_resolved(console, context, {"beta": settings.second_weight, "step_size": format_eps(settings.step)})
        return
    artifacts.check_writable(out / "model.st")
    path, artifact, anchor_set = _anchors(anchors)
    start = None if init is None else artifacts.read(init, "model")
    from stages.devices import has_bf16, resolve_device
    from stages.models.backbones import check_backbone_name, required_image_size
    from stages.train.run import RunOptions, train_run
    from stages.world import join_world

    check_backbone_name(backbone)
    chosen = resolve_device(device, launch)
    if precision == "auto" and has_bf16(chosen):
        settings = replace(settings, precision="bf16")
    side = required_image_size(backbone) if resize is None else resize
    inputs = {"anchors": artifact.lineage()} | ({} if start is None else {"init": start.lineage()})
    with join_world(chosen, launch) as world:
        request = ImageRequest(data, split, side, image_column, label_column, skip_corrupt)
        wanted = anchor_set.names("seen") + anchor_set.names("val")
        images, kept = request.open(
            console, side="train", classes=wanted, bundled=_of_bundled_classes(anchor_set), cache=cache, device=chosen
        )
        console.note(f"{len(images):,} images of {len(images.classes)} classes, anchors {path}, {backbone} on {chosen}")
        console.note("accuracies are clean / robust")
        with console.progress("train") as bar:
            shown = Shown(bar)
            run = RunOptions(
                device=chosen,
                world=world,
                cache=kept,
                resume=resume == "auto",
                force=force,
                save_every=seconds,
                log=log,
                on_step=shown.step,
                on_epoch=shown.epoch,
            )
            try:
                result = train_run(anchor_set, images, settings, out, inputs=inputs, init=start, resize=side, options=run)
            except KeyboardInterrupt:
                console.note(f"stopped: {out}/state.st holds where it stood; go on with --resume auto")
                raise
    if result is None:
        console.result({"output": str(out), "up_to_date": True})
        console.line(f"{out} is up to date: the same anchors, images and settings (--force trains again)")
    else:
        show(console, result)


def _anchors(given: Path | None) -> tuple[Path, artifacts.Artifact, AnchorSet]:
    path = given or next((Path(name) for name in DEFAULT_ANCHORS if Path(name).is_file()), None)
    if path is None:
        raise InputError(
            "no anchors: neither expanded.st nor anchors.st is here",
            "make them with `laat anchors --classes FILE` and `laat expand anchors.st`, or name a file with --anchors",
        )
    artifact = artifacts.read(path, KIND)
    return path, artifact, AnchorSet.from_artifact(artifact, f"'{path}'")


def _of_bundled_classes(anchors: AnchorSet) -> bool:
    """Whether the anchors' classes are classes of the bundled images."""
    shapes, _ = bundled_classes("shapes")
    return {fold(name) for name in anchors.classes} <= {fold(name) for name in shapes}
