"""The temperature of a run where none is given."""

from __future__ import annotations

from dataclasses import replace

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.parts import provenance
from stages.errors import UsageError
from stages.training.build_objective import find_kind
from stages.training.objectives import Objective
from stages.training.settings import TrainSettings
from stages.training.settings_checks import check_weights


def with_tau(
    settings: TrainSettings, anchors: AnchorSet, objective: Objective | type[Objective] | None = None
) -> TrainSettings:
    """The settings with a temperature: the given one, the objective's default, or for some the text tower's 1 / logit scale;
    without change for a bundled objective that is not anchored.

    Args:
        settings: of the run.
        anchors: of training; those of a text tower record its logit scale.
        objective: instead of that of the settings, see `build_objective`.

    Raises UsageError for anchors without a logit scale where it is needed, and for settings that the objective does not use,
    or has other values of.
    """
    kind = find_kind(settings, objective)
    check_weights(kind, settings)
    if isinstance(objective, Objective):
        _check_same(settings, objective)
    if settings.tau is not None or not (settings.anchored or kind.anchored):
        return settings
    if isinstance(objective, Objective):
        return replace(settings, tau=objective.tau)
    if kind.default_tau is not None:
        return replace(settings, tau=kind.default_tau)
    scale = anchors.origin.get("logit_scale")
    if scale is None:
        raise UsageError(
            f"{settings.objective} uses the logit scale of the text tower, and these anchors have none: {_why(anchors)}",
            "add --tau 0.01, for CLIP's logit scale of 100"
            + ("" if anchors.parts else "; or make the anchors again with `laat anchors`"),
        )
    return replace(settings, tau=1 / scale)


def _check_same(settings: TrainSettings, objective: Objective) -> None:
    for name in ("tau", "beta", "alpha"):
        given, own = getattr(settings, name), getattr(objective, name)
        if given not in (None, own):
            what = f"{name} is {given:g} in the settings, and {own:g} in the objective that is given"
            raise UsageError(what, "leave it out of the settings")


def _why(anchors: AnchorSet) -> str:
    source = anchors.origin.get("source")
    if source == "text":
        return "an earlier version of laat made them"
    if source == "features":
        return "they were imported without --logit-scale"
    return f"they {provenance(anchors.origin)}"
