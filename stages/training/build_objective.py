"""The objective of a run."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from stages.training.objectives import Objective, find_objective
from stages.training.settings import TrainSettings

if TYPE_CHECKING:
    from torch import Tensor


def build_objective(settings: TrainSettings, anchors: Tensor, given: Objective | type[Objective] | None = None) -> Objective:
    """The objective over `anchors` (C, D) that the settings name, or the `given` one: a class, or an objective, which is copied
    with other anchors."""
    if isinstance(given, Objective):
        made = copy(given)
        made.anchors = anchors
        return made
    kind = find_kind(settings, given)
    made = kind(anchors, settings.temperature, kind.default_beta if settings.beta is None else settings.beta)
    if settings.alpha is not None:
        made.alpha = settings.alpha
    return made


def find_kind(settings: TrainSettings, given: Objective | type[Objective] | None = None) -> type[Objective]:
    """The class of the objective that the settings name, or of the `given` one."""
    if given is None:
        return find_objective(settings.objective)
    return given if isinstance(given, type) else type(given)
