"""`laat train`: anchors and images in, a run folder out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laatcli import options
from laatcli.console import Column, Console, ProgressLine
from laatcli.dry_run import DryRun, show_resolved
from laatcli.inputs import ImageRequest
from laatcli.recipes import Recipe
from stages import artifacts
from stages.anchors.anchor_set import KIND, AnchorSet
from stages.anchors.bundled import bundled_classes
from stages.attacks.threat import format_eps, parse_eps
from stages.classes import fold
from stages.devices import check_device_name
from stages.errors import InputError, UsageError
from stages.train.settings import TrainSettings

if TYPE_CHECKING:
    from stages.train.loop import Progress
    from stages.train.run import EpochReport, RunResult

EXAMPLES = (
    "laat train --data photos --epochs 20",
    "laat train --anchors anchors.st --data shapes --objective at --steps 3 --out run-at",
)
DEFAULT_ANCHORS = ("expanded.st", "anchors.st")


def train(
    console: Console,
    context: typer.Context,
    recipe: Recipe = None,
    anchors: Annotated[
        Path | None, typer.Option(help="Anchors to train against. \\[default: expanded.st, else anchors.st]")
    ] = None,
    data: options.Data = None,
    split: options.Split = None,
    objective: Annotated[
        str, typer.Option(help="laat (A-CE on attacked images + smoothing), at (A-CE alone) or clean (no attack).")
    ] = "laat",
    backbone: Annotated[str, typer.Option(help="conv4-64, conv4-512, resnet12 or timm:NAME.")] = "conv4-64",
    epochs: Annotated[int, typer.Option(help="Times that every image is visited.")] = 100,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 128,
    lr: Annotated[float, typer.Option(help="Highest learning rate of SGD.")] = 0.05,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of SGD.")] = 5e-4,
    momentum: Annotated[float, typer.Option(help="Momentum of SGD.")] = 0.9,
    schedule: Annotated[str, typer.Option(help="step (x 0.1 from 60 % of the epochs on), cosine or one-cycle.")] = "step",
    eps: options.Eps = "8/255",
    steps: Annotated[int, typer.Option(help="Steps of the inner attack (PGD).")] = 7,
    step_size: Annotated[str | None, typer.Option(help="Step size of the inner attack, as 2/255. \\[default: eps/4]")] = None,
    tau: Annotated[float, typer.Option(help="Temperature: logits are cosine / tau.")] = 1.0,
    beta: Annotated[
        float | None, typer.Option(help="Weight of the second loss. \\[default: 1 for laat, 6 for trades]")
    ] = None,
    augment: Annotated[bool, typer.Option("--augment/--no-augment", help="Random crop, flip and rotation.")] = True,
    resize: options.Resize = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    skip_corrupt: options.SkipCorrupt = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    out: Annotated[Path, typer.Option(help="Folder for model.st (best epoch), last.st and metrics.jsonl.")] = Path("run"),
    force: options.Force = False,
    dry_run: DryRun = False,
) -> None:
    """Train an image model adversarially against fixed anchors."""
    settings = TrainSettings(
        objective=objective,
        backbone=backbone,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        schedule=schedule,
        eps=parse_eps(eps),
        steps=steps,
        step_size=parse_eps(step_size) if step_size is not None else None,
        tau=tau,
        beta=beta,
        augment=augment,
        seed=seed,
    )
    if dry_run:
        show_resolved(console, context, {"beta": settings.second_weight, "step_size": format_eps(settings.step)})
        return
    check_device_name(device)
    artifacts.check_writable(out / "model.st")
    path, artifact, anchor_set = _anchors(anchors)
    from stages.devices import resolve_device
    from stages.models.backbones import check_backbone_name
    from stages.train.run import finished_run, train_run

    check_backbone_name(backbone)
    chosen = resolve_device(device)
    request = ImageRequest(data, split, resize, image_column, label_column, skip_corrupt)
    wanted = anchor_set.names("seen") + anchor_set.names("val")
    images = request.load(console, side="train", classes=wanted, bundled=_of_bundled_classes(anchor_set))
    if (out / "model.st").exists() and not force:
        if finished_run(out, artifact.sha256, images, settings):
            console.result({"output": str(out), "up_to_date": True})
            console.line(f"{out} is up to date: the same anchors, images and settings (--force trains again)")
            return
        raise UsageError(f"'{out}' holds a run already", "choose another folder with --out, or replace it with --force")
    console.note(f"{len(images):,} images of {len(images.classes)} classes, anchors {path}, {backbone} on {chosen}")
    console.note("accuracies are clean / robust")
    with console.progress("train") as bar:
        shown = _Shown(bar)
        try:
            result = train_run(
                anchor_set,
                images,
                settings,
                out,
                inputs={"anchors": artifact.lineage()},
                device=chosen,
                resize=resize,
                on_step=shown.step,
                on_epoch=shown.epoch,
            )
        except KeyboardInterrupt:
            kept = (
                f"{out}/last.st holds epoch {shown.finished}" if shown.finished else "no epoch was finished, nothing is saved"
            )
            console.note(f"stopped: {kept}")
            raise
    _show(console, result)


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


class _Shown:
    """Turns what the run reports into the progress line and one line an epoch."""

    def __init__(self, bar: ProgressLine) -> None:
        self._bar = bar
        self.finished = 0

    def step(self, at: Progress) -> None:
        figures = at.figures
        note = (
            f"{at.images_per_second:.0f} img/s loss {figures.loss:.3f} "
            f"clean {_share(figures.clean_accuracy)} robust {_share(figures.robust_accuracy)}"
        )
        self._bar.update(at.step, at.steps, note, f"epoch {at.epoch}/{at.epochs}")

    def epoch(self, report: EpochReport) -> None:
        self.finished = report.epoch
        figures, score = report.figures, report.score
        self._bar.line(
            f"epoch {report.epoch:>3}  loss {figures.loss:.3f}"
            f"  training {_share(figures.clean_accuracy)} / {_share(figures.robust_accuracy)}"
            f"  selection {_share(score.clean)} / {_share(score.robust)}{'  best' if report.best else ''}"
        )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def _show(console: Console, result: RunResult) -> None:
    last = result.reports[-1]
    console.result(
        {
            "output": str(result.folder),
            "model": str(result.folder / "model.st"),
            "sha256": result.sha256,
            "epochs": last.epoch,
            "best_epoch": result.best_epoch,
            "selection_clean": result.score.clean,
            "selection_robust": result.score.robust,
            "loss": last.figures.loss,
        }
    )
    console.table(
        [
            Column("checkpoint"),
            Column("epoch", True),
            Column("selection clean %", True),
            Column("selection robust %", True),
        ],
        [
            [
                str(result.folder / "model.st"),
                str(result.best_epoch),
                _share(result.score.clean),
                _share(result.score.robust),
            ],
            [str(result.folder / "last.st"), str(last.epoch), _share(last.score.clean), _share(last.score.robust)],
        ],
    )
