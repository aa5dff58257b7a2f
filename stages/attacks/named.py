"""Attacks by name. Importing this file does not import torch, so that a wrong name is refused at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from stages.attacks.threat import ThreatModel
from stages.errors import UsageError, nearest

KNOWN = ("fgsm", "pgd-20", "cw-linf", "margin-pgd-20", "dlr-pgd-20", "pgd-20x5")
FORMS = "fgsm, pgd-N, margin-pgd-N, dlr-pgd-N, cw-linf (N = number of steps; pgd-NxR = R restarts)"
DLR_WAYS = 4
_PGD = re.compile(r"(?:(margin|dlr)-)?(pgd-[1-9][0-9]{0,4})(?:x([2-9]|[1-9][0-9]{1,3}))?")


@dataclass(frozen=True)
class AttackSpec:
    """One projected-gradient attack.

    Attributes:
        name: canonical name, as it stands in results.
        loss: what is ascended: 'ce', 'margin', 'cw' or 'dlr' (see stages.attacks.losses).
        steps: gradient steps, at least 1.
        step: step size as a part of eps.
        random_start: start uniformly in the ball (else at the clean image).
        restarts: how often the attack is run, each time with a random start of its own, on what still stands; at least 1.
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


def parse_attack(name: str) -> AttackSpec:
    """The attack called `name`, upper or lower case; settings as in Li et al., CVPR 2024, Sec. 4.

    - 'fgsm': one step of eps on the cross-entropy, no random start.
    - 'pgd-N': N steps of eps/4 on the cross-entropy, uniform random start.
    - 'margin-pgd-N': the same on the margin, whose gradient does not fade with the scale of the logits.
    - 'dlr-pgd-N': the same on the difference of logits ratio (Croce & Hein, ICML 2020), for at least 4 candidates.
    - 'pgd-NxR', 'margin-pgd-NxR', 'dlr-pgd-NxR': up to R times, from new random starts, on what still stands.
    - 'cw-linf': 30 steps on the Carlini-Wagner margin, random start. The published step is 0.8/255 at eps 8/255; here
      it scales with eps: eps/10. L-inf only.
    - 'apgd-ce', 'apgd-dlr', 'apgd-t', 'fab-t', 'square': those of AutoAttack; 'apgd-ce-50' with 50 steps.

    In L2 a step follows the normalised gradient, and 'fgsm' is the fast gradient method of that norm.

    Raises UsageError with the nearest names for any other.
    """
    folded = name.strip().lower()
    match = _PGD.fullmatch(folded)
    if match:
        steps, restarts = int(match[2].removeprefix("pgd-")), int(match[3] or 1)
        return AttackSpec(folded, match[1] or "ce", steps, Fraction(1, 4), random_start=True, restarts=restarts)
    if folded == "fgsm":
        return AttackSpec(folded, "ce", 1, Fraction(1), random_start=False)
    if folded == "cw-linf":
        return AttackSpec(folded, "cw", 30, Fraction(1, 10), random_start=True)
    from stages.attacks.ensemble import ENSEMBLE, ensemble_attack

    found = ensemble_attack(folded)
    if found is not None:
        return found
    known = (*KNOWN, *ENSEMBLE)
    raise UsageError(
        f"unknown attack '{name}' (nearest: {nearest(folded, known)})", f"known attacks: {FORMS}; {', '.join(ENSEMBLE)}"
    )


def check_fits(specs: Sequence[AttackSpec], threat: ThreatModel, ways: int | None = None) -> None:
    """Raise UsageError where one of the attacks is not made for this norm or number of candidates (None: not known yet)."""
    for spec in specs:
        spec.check_fits(threat, ways)


def parse_attacks(names: Sequence[str]) -> tuple[AttackSpec, ...]:
    """The attacks called `names`, in order. Raises UsageError for an unknown name and for one given twice."""
    specs = tuple(parse_attack(name) for name in names)
    for at, spec in enumerate(specs):
        if spec in specs[:at]:
            raise UsageError(f"attack '{spec.name}' is given twice", "name each attack once")
    return specs
