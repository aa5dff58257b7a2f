"""Attacks by name. Importing this file does not import torch, so that a wrong name is refused at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from stages.attacks.threat import ThreatModel
from stages.errors import UsageError, nearest

KNOWN = ("fgsm", "pgd-20", "cw-linf", "margin-pgd-20")
_PGD = re.compile(r"(margin-)?pgd-([1-9][0-9]{0,4})")


@dataclass(frozen=True)
class AttackSpec:
    """One projected-gradient attack.

    Attributes:
        name: canonical name, as it stands in results.
        loss: what is ascended: 'ce', 'margin' or 'cw' (see stages.attacks.gradient).
        steps: gradient steps, at least 1.
        step: step size as a part of eps.
        random_start: start uniformly in the ball (else at the clean image).
    """

    name: str
    loss: str
    steps: int
    step: Fraction
    random_start: bool

    def step_size(self, threat: ThreatModel) -> float:
        """The step size in pixel units."""
        return float(self.step * threat.eps)

    def to_record(self) -> dict[str, Any]:
        """The attack as a JSON-able record; `step` is in units of eps."""
        return {
            "loss": self.loss,
            "name": self.name,
            "random_start": self.random_start,
            "step": f"{self.step} eps",
            "steps": self.steps,
        }


def parse_attack(name: str) -> AttackSpec:
    """The attack called `name`, upper or lower case; settings as in Li et al., CVPR 2024, Sec. 4.

    - 'fgsm': one step of eps on the cross-entropy, no random start.
    - 'pgd-N': N steps of eps/4 on the cross-entropy, uniform random start.
    - 'margin-pgd-N': the same on the margin, whose gradient does not fade with the scale of the logits.
    - 'cw-linf': 30 steps on the Carlini-Wagner margin, random start. The published step is 0.8/255 at eps 8/255; here
      it scales with eps: eps/10.

    Raises UsageError with the nearest names for any other.
    """
    folded = name.strip().lower()
    match = _PGD.fullmatch(folded)
    if match:
        return AttackSpec(folded, "margin" if match[1] else "ce", int(match[2]), Fraction(1, 4), random_start=True)
    if folded == "fgsm":
        return AttackSpec(folded, "ce", 1, Fraction(1), random_start=False)
    if folded == "cw-linf":
        return AttackSpec(folded, "cw", 30, Fraction(1, 10), random_start=True)
    raise UsageError(
        f"unknown attack '{name}' (nearest: {nearest(folded, KNOWN)})",
        "known attacks: fgsm, pgd-N, margin-pgd-N, cw-linf (N = number of steps)",
    )


def parse_attacks(names: Sequence[str]) -> tuple[AttackSpec, ...]:
    """The attacks called `names`, in order. Raises UsageError for an unknown name and for one given twice."""
    specs = tuple(parse_attack(name) for name in names)
    for at, spec in enumerate(specs):
        if spec in specs[:at]:
            raise UsageError(f"attack '{spec.name}' is given twice", "name each attack once")
    return specs
