"""Attacks by name. Importing this file does not import torch, so that a wrong name is refused at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from stages.attacks.ensemble import ENSEMBLE, ensemble_attack
from stages.attacks.spec import AttackSpec
from stages.errors import UsageError, nearest
from stages.threat import ThreatModel

KNOWN = ("fgsm", "pgd-20", "cw-linf", "margin-pgd-20", "dlr-pgd-20", "pgd-20x5")
FORMS = "fgsm, pgd-N, margin-pgd-N, dlr-pgd-N, cw-linf (N = number of steps; pgd-NxR = R restarts)"
_PGD = re.compile(r"(?:(margin|dlr)-)?(pgd-[1-9][0-9]{0,4})(?:x([2-9]|[1-9][0-9]{1,3}))?")


def parse_attack(name: str) -> AttackSpec:
    """The attack called `name`, upper or lower case; settings as in Li et al., CVPR 2024, Sec. 4.

    - 'fgsm': one step of eps on the cross-entropy, no random start.
    - 'pgd-N': N steps of eps/4 on the cross-entropy, uniform random start.
    - 'margin-pgd-N': the same on the margin, whose gradient does not fade with the scale of the logits.
    - 'dlr-pgd-N': the same on the difference of logits ratio (Croce & Hein, ICML 2020), for at least 4 candidates.
    - 'pgd-NxR', 'margin-pgd-NxR', 'dlr-pgd-NxR': up to R times, from new random starts, on what is still correct.
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
