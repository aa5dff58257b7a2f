"""What a user should know of a run before it starts."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.descriptions import SOURCE as DESCRIPTIONS
from stages.clip_weights import FILE_TAG
from stages.data.episode_shape import PROTONET
from stages.devices import bf16_units
from stages.files.training_params import is_anchored
from stages.models.backbones import initial_weights
from stages.models.checkpoint import trained_classes_of
from stages.models.clip_tower import PREFIX, recorded_tower, tower_width
from stages.text import counted, listed
from stages.training.settings import TrainSettings
from stages.training.task import Task

_CLASSES_SHOWN = 5
_LONG_RUN = 250_000  # images times attack steps: some minutes of conv4-64 on a core


def notes_of(task: Task) -> Iterator[str]:
    """The reference; the attack that scores the epochs, where the inner one cannot; the temperature, or how to evaluate a model
    without anchors; what the labels are used for, where the loss does not depend on them."""
    kind, tau = task.kind, task.settings.temperature
    scale = task.anchors.origin.get("logit_scale")
    own = kind.default_tau is None and scale is not None and tau == 1 / scale
    if task.named is not None:
        yield f"reference: {task.named.name}"
    if task.scored_apart:
        steps, scoring = counted(task.settings.steps, "step"), task.settings.selection_attack().name
        yield f"epochs are scored under {scoring}: a model can look robust to the {steps} of its inner attack alone"
    if not kind.anchored:
        head = task.settings.episode_head if kind.episodic else PROTONET
        said = f"{task.settings.objective} trains no projection to the anchors: the model is for few-shot heads"
        yield f"{said} (`laat eval --protocol episodes --shots 1,5 --head {head}`)"
        return
    yield f"tau {tau:.6g}" + (f", for the text tower's logit scale of {scale:.6g}" if own else "")
    if not kind.labelled:
        yield f"{task.settings.objective} trains without labels; they select the best epoch and fit the calibration"


def precision_note(asked: TrainSettings, settings: TrainSettings, images: int, device: str) -> str:
    """A note on a CPU where the inner attack is in bfloat16: because it has units for that and nobody chose a precision, or
    although it has none; '' otherwise, and of a short run.

    Args:
        asked: the settings as given.
        settings: as resolved, see `TrainSettings.with_precision`.
        images: that are attacked in the whole run, each epoch counted.
        device: of the run.
    """
    if device != "cpu" or not settings.half_attack or images * settings.steps < _LONG_RUN:
        return ""
    if not (units := bf16_units(device)):
        given = {"--precision": asked.precision, "--attack-precision": asked.attack_precision}
        chosen = " ".join(f"{option} float32" for option, value in given.items() if value == "bf16")
        slow = "bf16 is several times slower than float32 on CPUs without them"
        return f"no bfloat16 units were found in this CPU, and {slow}: use {chosen}"
    if (asked.precision, asked.attack_precision) == ("auto", "auto"):
        faster = f"which is faster on this CPU ({units})"
        return f"the inner attack is in bfloat16, {faster}; --attack-precision float32 turns it off"
    return ""


def micro_batches(settings: TrainSettings, model: nn.Module) -> str:
    """A note on batch norm, where `model` has it and batches are split; '' otherwise."""
    if settings.accumulate == 1 or not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return ""
    what = f"--accumulate {settings.accumulate} does not give the same result as --accumulate 1"
    return f"batch norm uses the statistics of each micro-batch: {what}"


def warnings_of(task: Task) -> Iterator[str]:
    """What probably is a mistake."""
    kind, settings = task.kind, task.settings
    if kind.reference and task.reference is None and task.model is None and (untrained := _untrained(task)):
        yield f"{settings.objective} keeps what its reference knows, and that has {untrained}"
    seen = {task.anchors.classes[at] for at in task.anchors.groups.seen}
    for what, artifact in task.earlier.items():
        if unseen := sorted(trained_classes_of(artifact) - seen):
            yield f"{what} was trained on classes that are not seen ones here: {listed(unseen, _CLASSES_SHOWN)}"
    if kind.default_tau is None:
        yield from _of_tuning(settings.objective, settings.backbone, task.anchors)


def _untrained(task: Task) -> str:
    """What of the initial weights is random, and what to give instead; '' for none of them."""
    backbone, init, width = task.settings.backbone, task.init, task.anchors.vectors.shape[1]
    if init is None and initial_weights(backbone) == "random weights":
        return "random weights: give --reference or --init"
    if init is not None and init.params["architecture"]["width"] == width:
        known = is_anchored(init.params["training"])
    else:  # a new projection: the identity for a tower of the anchors' width
        known = backbone.startswith(PREFIX) and tower_width(backbone) == width
    if known:
        return ""
    return "a random projection to the anchors: give --reference, or an --init that was trained against anchors of their width"


def _of_tuning(objective: str, backbone: str, anchors: AnchorSet) -> Iterator[str]:
    """For objectives that tune a CLIP model with its own text anchors."""
    if anchors.expansion is not None:
        yield f"{objective} is published with raw anchors, and these are {anchors.label}: give those that `laat anchors` wrote"
    if backbone.startswith(PREFIX) and anchors.origin.get("source") in ("text", DESCRIPTIONS):
        tag = str(anchors.origin.get("pretrained", "")).removeprefix(FILE_TAG)
        text = "/".join(filter(None, (str(anchors.origin.get("model", "")), tag)))
        image = recorded_tower(backbone).removeprefix(PREFIX)
        if text != image:
            yield f"the anchors are of {text} and the image tower of {image}: their embeddings may not be aligned"
