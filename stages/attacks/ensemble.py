"""The attacks of AutoAttack by name. Importing this file does not import torch, so that a wrong name is refused at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from stages.attacks.spec import GRADIENT, AttackSpec
from stages.errors import UsageError
from stages.threat import ThreatModel

ENSEMBLE = ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square")
# the settings of the version 'standard' (Croce & Hein, ICML 2020)
STANDARD_STEPS, STANDARD_QUERIES, MOST_TARGETS = 100, 5000, 9
# the targeted DLR divides by differences of the four largest logits
CLASSES_FOR_DLR = 4
_LOSSES = {"apgd-ce": "ce", "apgd-dlr": "dlr", "apgd-t": "dlr-targeted", "fab-t": "boundary", "square": "margin"}
_NAME = re.compile(rf"({'|'.join(ENSEMBLE)})(?:-([1-9][0-9]{{0,4}}))?")


@dataclass(frozen=True)
class EnsembleSpec(AttackSpec):
    """One attack of AutoAttack, run by pyautoattack.

    Attributes:
        kind: which one, of `ENSEMBLE`.
        steps: iterations; for Square, queries.
        step: the first step of APGD; the attacks choose their own later ones. 0 where there is none.
        loss: 'ce', 'dlr', 'dlr-targeted', 'boundary' (FAB walks along the decision boundary) or 'margin'.
    """

    kind: str = ""

    @property
    def targeted(self) -> bool:
        """Whether it aims at one wrong class after the other."""
        return self.kind in ("apgd-t", "fab-t")

    def rounds(self, classes: int) -> int:
        """How often it runs against a head of `classes`: once a target, min(9, C - 1). Raises UsageError for one class."""
        if classes < 2:
            raise UsageError(f"the attack {self.name} needs a wrong class to aim at, and there is one class", "add classes")
        return min(MOST_TARGETS, classes - 1) if self.targeted else 1

    def loss_on(self, classes: int) -> str:
        """What is ascended against a head of `classes`: a margin in place of DLR below 4."""
        return self.loss.replace("dlr", "margin") if classes < CLASSES_FOR_DLR else self.loss

    def ran_as(self, classes: int) -> str:
        """One line for the reader: the variant that runs against heads of `classes`."""
        rounds = self.rounds(classes)
        aims = f", {rounds} target{'s' * (rounds > 1)}" if self.targeted else ""
        swapped = f", margin in place of DLR ({classes} classes)" if self.loss_on(classes) != self.loss else ""
        return f"{self.name}: {self.steps} {'queries' if self.kind == 'square' else 'steps'}{aims}{swapped}"

    def check_fits(self, threat: ThreatModel | None = None, ways: int | None = None) -> None:
        """Raise UsageError for fewer than two candidates, if their number is known; the rest is for all norms and numbers."""
        if ways is not None:
            self.rounds(ways)

    def passes(self, ways: int) -> int:
        """See AttackSpec. Square takes no gradient; A step of FAB, with its projections, takes about twice as long as one of
        APGD."""
        a_step = {"square": 1, "fab-t": 2 * GRADIENT}.get(self.kind, GRADIENT)
        return a_step * self.steps * self.rounds(ways)

    def to_record(self) -> dict[str, Any]:
        """The attack as a JSON-able record, with the version of the library that runs it."""
        return {
            "few_classes": f"margin in place of DLR below {CLASSES_FOR_DLR} classes" if "dlr" in self.loss else None,
            "library": f"pyautoattack {_library_version()}",
            "loss": self.loss,
            "name": self.name,
            "random_start": self.random_start,
            "restarts": 1,
            "steps": self.steps,
            "targets": f"min({MOST_TARGETS}, C - 1)" if self.targeted else None,
        }


def ensemble_attack(name: str) -> EnsembleSpec | None:
    """The attack of AutoAttack called `name` in lower case: 'apgd-ce', 'square' …, or with steps, 'apgd-ce-50'. Else None."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    kind, usual = match[1], STANDARD_QUERIES if match[1] == "square" else STANDARD_STEPS
    steps = int(match[2] or usual)
    canonical = kind if steps == usual else f"{kind}-{steps}"
    apgd = kind.startswith("apgd")
    return EnsembleSpec(canonical, _LOSSES[kind], steps, Fraction(2 if apgd else 0), kind != "fab-t", kind=kind)


def _library_version() -> str:
    try:
        return version("pyautoattack")
    except PackageNotFoundError:
        return "not installed"
