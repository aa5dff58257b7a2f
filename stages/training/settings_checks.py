"""Which settings of a training run go together. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stages.errors import UsageError
from stages.training.inner_attack import PGD
from stages.training.objectives import OBJECTIVES, Objective

if TYPE_CHECKING:
    from stages.training.settings import TrainSettings

OF_ADAMW = ("adam_beta1", "adam_beta2", "adam_eps")


def check_optimizer(settings: TrainSettings, defaults: Mapping[str, Any]) -> None:
    """Raise UsageError for a setting of the other optimizer, and for AdamW at SGD's learning rate.

    `defaults` are those of the settings, by name.
    """
    unused, other = (OF_ADAMW, "adamw") if settings.optimizer == "sgd" else (("momentum",), "sgd")
    for name in unused:
        if getattr(settings, name) != defaults[name]:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{option} has no meaning with --optimizer {settings.optimizer}", f"leave it out, or use --optimizer {other}"
            )
    if settings.optimizer == "adamw" and settings.lr == defaults["lr"]:
        raise UsageError(
            f"--lr {settings.lr:g}, the default for SGD, is far too high for AdamW",
            "give another, for example --lr 1e-3 for random weights, or --lr 1e-5 for a CLIP tower",
        )


def check_weights(kind: type[Objective], settings: TrainSettings) -> None:
    """Raise UsageError for a tau, beta, alpha, or kind or precision of the inner attack that is set, and that the objective
    `kind` does not use.

    Objectives of your own may use tau and beta, and alpha where they have a default.
    """
    name = next((name for name, one in OBJECTIVES.items() if one is kind), None)
    of_attack = {
        "--attack-precision": settings.attack_precision not in ("auto", settings.precision),
        f"--inner {settings.inner}": settings.inner != PGD,
    }
    for option in (option for option, given in of_attack.items() if given and not kind.attacks):
        what = f"{option} has no meaning with --objective {name or settings.objective}, which has no attack"
        raise UsageError(what, "leave it out")
    unused = {
        "tau": [] if name is None or kind.anchored else [one for one, other in OBJECTIVES.items() if other.anchored],
        "beta": [] if name is None or kind.default_beta else [one for one, other in OBJECTIVES.items() if other.default_beta],
        "alpha": [one for one, other in OBJECTIVES.items() if other.alpha is not None] if kind.alpha is None else [],
    }
    for setting, others in unused.items():
        if others and getattr(settings, setting) is not None:
            what = f"--{setting} has no meaning with --objective {name or settings.objective}"
            raise UsageError(what, f"leave it out; these use it: {', '.join(others)}")
