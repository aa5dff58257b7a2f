"""What the settings of a training run say of the inner attack, and the attack that scores the epochs. Needs no torch."""

from __future__ import annotations

from fractions import Fraction

from stages.attacks.spec import AttackSpec
from stages.errors import UsageError
from stages.threat import ThreatModel

PGD, N_FGSM = "pgd", "n-fgsm"
# the inner attacks -> their steps, where none are given
STEPS = {PGD: 7, N_FGSM: 1}
START_NOISE = 2.0  # half-width in eps: de Jorge et al., NeurIPS 2022
# with fewer steps a model can look robust to the inner attack alone (Wong et al., ICLR 2020)
_FEWEST_STEPS = 3
_SCORING = AttackSpec("pgd-7", "ce", 7, Fraction(1, 4), random_start=True)


class InnerAttackSettings:
    """The part of `TrainSettings` on the inner attack: projected gradient ascent, or N-FGSM (de Jorge et al., NeurIPS 2022)."""

    norm: str
    eps: Fraction
    inner: str
    start_noise: float | None
    steps: int
    step_size: Fraction | None

    def resolve_inner(self) -> None:
        """Set the steps and the noise that are not given. Raises UsageError for those that the inner attack does not have."""
        if self.steps is None and self.inner in STEPS:  # other names are refused later
            object.__setattr__(self, "steps", STEPS[self.inner])
        if self.inner != N_FGSM:
            if self.start_noise is not None:
                raise UsageError(
                    f"--start-noise has no meaning with --inner {self.inner}, which starts uniformly in the eps ball",
                    f"leave it out, or use --inner {N_FGSM}",
                )
            return
        if self.norm != "linf":
            raise UsageError(f"--inner {N_FGSM} is for linf, and --norm is {self.norm}", f"use --inner {PGD}")
        if self.steps != 1:
            raise UsageError(f"--inner {N_FGSM} takes a single step, and --steps is {self.steps}", "add --steps 1")
        if self.start_noise is None:
            object.__setattr__(self, "start_noise", START_NOISE)

    @property
    def threat(self) -> ThreatModel:
        """The threat model of the inner attack."""
        return ThreatModel(self.eps, self.norm)

    @property
    def step(self) -> Fraction:
        """The step size of the inner attack, in pixel units."""
        if self.step_size is not None:
            return self.step_size
        return self.eps if self.inner == N_FGSM else self.eps / 4

    def selection_attack(self) -> AttackSpec:
        """The attack that scores epochs, on the cross-entropy: the steps of the inner attack, or PGD-7 where those are too few
        to tell whether the model is robust."""
        if self.steps < _FEWEST_STEPS:
            return _SCORING
        return AttackSpec(f"pgd-{self.steps}", "ce", self.steps, self.step / self.eps, random_start=True)
