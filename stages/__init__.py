"""Language-driven anchors for zero-shot adversarial robustness (Li et al., CVPR 2024), as a library.

    import stages as laat

    clf = laat.load("run/model.st").over("novel")
    adv = laat.attack(clf, x, y, "pgd-20", eps="8/255")
    report = laat.evaluate(clf, dataset, suite="quick")
    run = laat.train(my_module, "expanded.st", my_dataset, laat.TrainSettings(epochs=10), out="run")

Importing this loads no torch: each name is imported when it is first used. Nothing in here prints or exits the process; every
problem is a `stages.errors.LaatError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stages.version import __version__ as __version__

if TYPE_CHECKING:
    from stages.anchors.anchor_set import AnchorSet
    from stages.api import attack, evaluate, load, train
    from stages.exchange.export import export
    from stages.exchange.import_checkpoint import import_checkpoint
    from stages.exchange.publish import push
    from stages.exchange.pull import pull
    from stages.models.classifier import Classifier
    from stages.prediction.predict import predict
    from stages.threat import ThreatModel
    from stages.training.objectives import Objective, Outcome
    from stages.training.settings import TrainSettings

__all__ = [
    "AnchorSet",
    "Classifier",
    "Objective",
    "Outcome",
    "ThreatModel",
    "TrainSettings",
    "attack",
    "evaluate",
    "export",
    "import_checkpoint",
    "load",
    "predict",
    "pull",
    "push",
    "train",
]

_HOMES = {
    "AnchorSet": "stages.anchors.anchor_set",
    "Classifier": "stages.models.classifier",
    "Objective": "stages.training.objectives",
    "Outcome": "stages.training.objectives",
    "ThreatModel": "stages.threat",
    "TrainSettings": "stages.training.settings",
    "export": "stages.exchange.export",
    "import_checkpoint": "stages.exchange.import_checkpoint",
    "predict": "stages.prediction.predict",
    "pull": "stages.exchange.pull",
    "push": "stages.exchange.publish",
    **dict.fromkeys(("attack", "evaluate", "load", "train"), "stages.api"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stages' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
