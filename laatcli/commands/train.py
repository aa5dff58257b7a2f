"""`laat train`: anchors and images in, a run folder out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from laatcli.config_file import DryRun, Recipe, of_recipe, show_resolved
from laatcli.console import Console
from laatcli.inputs import open_training_images
from laatcli.options import DEVICES, check_places, parse_duration
from laatcli.training import Shown, show
from stages.anchors.anchor_set import KIND, AnchorSet
from stages.anchors.bundled import bundled_classes
from stages.classes import fold
from stages.data.request import ImageRequest
from stages.devices import check_device_name
from stages.errors import InputError, UsageError
from stages.files import artifacts
from stages.launch import read_launch
from stages.parameters import check, parameter
from stages.threat import format_eps
from stages.training.objectives import OBJECTIVES, Objective, find_objective
from stages.training.settings import HARDWARE, TrainSettings
from stages.training.temperature import with_tau
from stages.training.trackers import check_tracker

EXAMPLES = (
    "laat train --data photos --epochs 20",
    "laat train --anchors anchors.st --data shapes --objective at --steps 3 --out run-at",
)
DEFAULT_ANCHORS = ("expanded.st", "anchors.st")
RUN = "Run"
_WITH_REFERENCE = ", ".join(name for name, one in OBJECTIVES.items() if one.reference)


@dataclass(frozen=True)
class RunChoices:
    """How the run is carried out; nothing here changes its result."""

    device: str = parameter("auto", DEVICES, panel=HARDWARE)
    cache: str = parameter(
        "auto", "Keep images in device memory, in ram, in none (read from disk), or auto: by size.", panel=HARDWARE
    )
    resume: str = parameter(
        "never",
        "auto (continue from the last checkpoint, if there is one) or never.",
        panel=RUN,
        choices=("auto", "never"),
    )
    save_every: float = parameter("60s", "Time between checkpoints: 60s, 5m, 1h.", panel=RUN, parse=parse_duration)
    log: str | None = parameter(None, "Also log to tensorboard or wandb.", panel=RUN)
    force: bool = parameter(
        False, "Overwrite the results in the folder; with --resume auto, only those of another run.", panel=RUN
    )

    def __post_init__(self) -> None:
        check(self)
        check_device_name(self.device)
        check_tracker(self.log)


def train(
    console: Console,
    context: typer.Context,
    request: ImageRequest,
    settings: TrainSettings,
    choices: RunChoices,
    recipe: Recipe = None,
    anchors: Path | None = parameter(None, "Anchors to train against.", unset="expanded.st, else anchors.st"),
    init: Path | None = parameter(None, "Start from the weights of this checkpoint."),
    reference: str | None = parameter(
        None,
        f"Frozen model for {_WITH_REFERENCE}: a checkpoint, or clip:NAME/TAG.",
        unset="the initial weights",
    ),
    name: str | None = parameter(None, "Name of the run in reports and tables.", unset="that of the folder"),
    out: Path = parameter(Path("run"), "Folder for model.st (best epoch), last.st and metrics.jsonl."),
    dry_run: DryRun = False,
) -> None:
    """Train an image model adversarially against fixed anchors."""
    launch = read_launch()
    kind = find_objective(settings.objective)
    if reference is not None and not kind.reference:
        raise UsageError(f"--objective {settings.objective} has no reference", "leave --reference out")
    _refuse_lengths_of_another_attack(context, settings)
    if dry_run:
        show_resolved(console, context, _meant(settings, kind))
        return
    from stages.files.epoch_metrics import BEST, METRICS
    from stages.training.folder import LAST, STATE

    written = [("--out", out / name) for name in (BEST, LAST, METRICS, STATE)]
    check_places(
        context, written, [("--anchors", anchors), ("--init", init), ("--reference", reference), ("--data", request.data)]
    )
    path, artifact, anchor_set = _anchors(anchors)
    settings = with_tau(settings, anchor_set)
    start = None if init is None else artifacts.read(init, "model")
    from stages.devices import resolve_device
    from stages.models.backbones import check_backbone_to_train, initial_weights, required_image_size
    from stages.models.reference import find_reference
    from stages.training.options import RunOptions
    from stages.training.run import train_run
    from stages.world import join_world

    check_backbone_to_train(settings.backbone, tokens=kind.tokens)
    frozen = None if reference is None else find_reference(reference)
    device = resolve_device(choices.device, launch)
    if request.resize is None:
        request = replace(request, resize=required_image_size(settings.backbone))
    inputs = {"anchors": artifact.lineage()} | ({} if start is None else {"init": start.lineage()})
    inputs |= {} if frozen is None else frozen.inputs
    with join_world(device, launch) as world:
        wanted = anchor_set.names("seen") + anchor_set.names("val")
        images, cache = open_training_images(
            console, request, classes=wanted, bundled=_bundled_of(anchor_set), cache=choices.cache, device=device
        )
        weights = initial_weights(settings.backbone) if init is None else f"the weights of {init}"
        console.note(f"anchors {path}, {settings.backbone}{weights and f' with {weights}'} on {device}")
        console.note("accuracies are clean / robust")
        with console.progress("train") as bar:
            shown = Shown(bar)
            run = RunOptions(
                device=device,
                world=world,
                cache=cache,
                resume=choices.resume == "auto",
                force=choices.force,
                save_every=choices.save_every,
                log=choices.log,
                on_step=shown.step,
                on_epoch=shown.epoch,
                on_note=console.note,
                on_warning=console.warn,
            )
            try:
                result = train_run(
                    anchor_set,
                    images,
                    settings,
                    out,
                    inputs=inputs,
                    init=start,
                    resize=request.resize,
                    name=name,
                    reference=frozen,
                    options=run,
                )
            except KeyboardInterrupt:
                console.note(f"stopped: checkpoint saved to {out}/state.st; continue with --resume auto")
                raise
    if result is None:
        console.result({"output": str(out), "up_to_date": True})
        console.line(f"{out} is up to date: same anchors, images and settings (--force trains again)")
    else:
        show(console, result, anchored=kind.anchored)


def _refuse_lengths_of_another_attack(context: typer.Context, settings: TrainSettings) -> None:
    """Raise UsageError for eps or step size of a recipe, where the norm or the inner attack that they are for is replaced."""
    kept = of_recipe(context)
    lengths = [f"--{name.replace('_', '-')}" for name in ("eps", "step_size") if name in kept]
    if lengths and "norm" not in kept and settings.norm != TrainSettings.norm:
        what = f"--norm is {settings.norm}, and the recipe's {' and '.join(lengths)} {'are' if lengths[1:] else 'is'} for "
        raise UsageError(what + TrainSettings.norm, f"add {' and '.join(lengths)} in {settings.norm}")
    if "step_size" in kept and "inner" not in kept and settings.inner != TrainSettings.inner:
        what = f"--inner is {settings.inner}, and the recipe's --step-size is for {TrainSettings.inner}"
        raise UsageError(what, f"add --step-size {format_eps(settings.eps, settings.threat.norm)}, which is eps")


def _meant(settings: TrainSettings, kind: type[Objective]) -> dict[str, Any]:
    """What unset settings mean, as far as that is known without anchors and images."""
    norm = settings.threat.norm
    unset = {"beta": kind.default_beta or None, "tau": kind.default_tau} if settings.anchored else {}
    return {
        **unset,
        **(settings.episode_values if kind.episodic else {}),
        **{name: getattr(settings, name) for name in ("steps", "start_noise")},
        "alpha": kind.alpha,
        "eps": format_eps(settings.eps, norm),
        "step_size": format_eps(settings.step, norm),
    }


def _anchors(given: Path | None) -> tuple[Path, artifacts.Artifact, AnchorSet]:
    path = given or next((Path(name) for name in DEFAULT_ANCHORS if Path(name).is_file()), None)
    if path is None:
        raise InputError(
            "no anchors: neither expanded.st nor anchors.st is in the current folder",
            "make them with `laat anchors --classes FILE` and `laat expand anchors.st`, or name a file with --anchors",
        )
    artifact = artifacts.read(path, KIND)
    return path, artifact, AnchorSet.from_artifact(artifact, f"'{path}'")


def _bundled_of(anchors: AnchorSet) -> str | None:
    """The bundled images, if the anchors' classes are classes of theirs."""
    shapes, _ = bundled_classes("shapes")
    return "shapes" if {fold(name) for name in anchors.classes} <= {fold(name) for name in shapes} else None
