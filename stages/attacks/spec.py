"""What an attack is, as a value. Importing this file does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from stages.errors import UsageError
from stages.threat import ThreatModel

DLR_WAYS = 4
# a gradient of the input, in forward passes
GRADIENT = 3


@dataclass(frozen=True)
class AttackSpec:
    """One projected-gradient attack.

    Attributes:
        name: canonical name, as in reports.
        loss: what is ascended: 'ce', 'margin', 'cw' or 'dlr' (see stages.attacks.losses).
        steps: gradient steps, at least 1.
        step: step size as a part of eps.
        random_start: start uniformly in the ball (else at the clean image).
        restarts: how often the attack is run, with a new random start, on what is still classified correctly; at least 1.
    """

    name: str
    loss: str
    steps: int
    step: Fraction
    random_start: bool
    restarts: int = 1

    def step_size(self, threat: ThreatModel) -> float:
        """The step size in pixel units."""
        return float(self.step * threat.eps)

    def stream(self, restart: int) -> str:
        """The purpose of the random starts' stream. 'pgd-20x5' begins as 'pgd-20' does, and goes on as 'pgd-20x9'."""
        base = f"attack/{self.name.removesuffix(f'x{self.restarts}')}"
        return f"{base}/restart {restart}" if restart else base

    def check_fits(self, threat: ThreatModel | None = None, ways: int | None = None) -> None:
        """Raise UsageError where the attack is not made for this norm or number of candidates, each if it is known."""
        if threat is not None and threat.norm != "Linf" and self.loss == "cw":
            raise UsageError(f"{self.name} is an L-inf attack, not one in {threat.norm}", "use margin-pgd-N, the same loss")
        if ways is not None and self.loss == "dlr":
            require_ways(self.name, ways)

    def passes(self, ways: int) -> int:
        """About how many forward passes a sample costs that is never misclassified, among `ways` candidates. For the ETA."""
        return GRADIENT * self.steps * self.restarts

    def to_record(self) -> dict[str, Any]:
        """The attack as a JSON-able record; `step` is in units of eps."""
        return {
            "loss": self.loss,
            "name": self.name,
            "random_start": self.random_start,
            "restarts": self.restarts,
            "step": f"{self.step} eps",
            "steps": self.steps,
        }


def require_ways(name: str, ways: int) -> None:
    """Raise UsageError unless there are enough candidates, at least 4, for the DLR loss of the attack `name`."""
    if ways < DLR_WAYS:
        raise UsageError(
            f"{name} needs at least {DLR_WAYS} candidate classes, and there are {ways}",
            "use the margin instead, for example margin-pgd-20",
        )
