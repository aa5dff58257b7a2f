"""Training objectives: what the inner attack maximizes and what the outer step minimizes. One loop runs them all.

A new objective is a subclass of `Objective` and a line in `OBJECTIVES`. Importing this package does not import torch, so that
`--help` and a wrong name are answered at once.
"""

from __future__ import annotations

from inspect import isabstract
from typing import TYPE_CHECKING, Any

from stages.errors import UsageError, nearest
from stages.imports import import_by_path, is_import_path
from stages.training.objectives.anchored import Adversarial, Clean, Laat, Trades, smoothing_loss
from stages.training.objectives.attention import TgaZsr
from stages.training.objectives.distances import AngularDistance, CosineDistance, Distance, EuclideanDistance
from stages.training.objectives.few_shot import AdversarialQuerying, LinearClassifier
from stages.training.objectives.objective import Objective, Outcome, a_ce, anchor_logits, divergence
from stages.training.objectives.tuning import Agft, Fare, PmgAft, Tecoa

if TYPE_CHECKING:
    from stages.training.embed import Embed

__all__ = [
    "OBJECTIVES",
    "Adversarial",
    "AdversarialQuerying",
    "Agft",
    "AngularDistance",
    "Clean",
    "CosineDistance",
    "Distance",
    "Embed",
    "EuclideanDistance",
    "Fare",
    "Laat",
    "LinearClassifier",
    "Objective",
    "Outcome",
    "PmgAft",
    "Tecoa",
    "TgaZsr",
    "Trades",
    "a_ce",
    "anchor_logits",
    "check_objective_name",
    "divergence",
    "find_objective",
    "smoothing_loss",
]

OBJECTIVES: dict[str, type[Objective]] = {
    "laat": Laat,
    "at": Adversarial,
    "trades": Trades,
    "clean": Clean,
    "cos": CosineDistance,
    "acos": AngularDistance,
    "l2": EuclideanDistance,
    "tecoa": Tecoa,
    "fare": Fare,
    "pmg-aft": PmgAft,
    "agft": Agft,
    "tga-zsr": TgaZsr,
    "aq": AdversarialQuerying,
    "at-linear": LinearClassifier,
}


def check_objective_name(name: str) -> None:
    """Raise UsageError unless `name` is one of `OBJECTIVES` or an import path; nothing is imported."""
    if name not in OBJECTIVES and not is_import_path(name):
        raise UsageError(f"unknown --objective '{name}'", f"nearest: {nearest(name, OBJECTIVES)}; or package.module:Class")


def find_objective(name: str) -> type[Objective]:
    """The objective called `name`, one of `OBJECTIVES` or the import path of your own, `package.module:Class`.

    Raises UsageError for an unknown name or a class that is no objective, MissingError for a module that cannot be imported.
    """
    check_objective_name(name)
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    found = import_by_path(name, "--objective")
    if not (isinstance(found, type) and issubclass(found, Objective)) or isabstract(found):
        fix = "name a class that derives from stages.training.objectives.Objective and has a method `outer`"
        raise UsageError(f"--objective {name} is not an objective", fix)
    return found


def __getattr__(name: str) -> Any:
    if name != "Embed":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from stages.training.embed import Embed  # which imports torch

    return Embed
