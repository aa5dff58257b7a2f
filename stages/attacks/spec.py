"""Attacks as values, and by name. Importing this file does not import torch, so that a wrong name is refused at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from stages.errors import UsageError, nearest
from stages.threat import ThreatModel

GRADIENT = 3  # cost of an input gradient, in forward passes
KNOWN = ("fgsm", "pgd-20", "cw-linf", "margin-pgd-20", "dlr-pgd-20", "pgd-20x5")
FORMS = "fgsm, pgd-N, margin-pgd-N, dlr-pgd-N, cw-linf (N = number of steps; pgd-NxR = R restarts)"
ENSEMBLE = ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square")
# AutoAttack, version 'standard' (Croce & Hein, ICML 2020)
STANDARD_STEPS, STANDARD_QUERIES, MOST_TARGETS = 100, 5000, 9
# DLR divides by differences of the three largest logits, targeted DLR of the four largest
CLASSES_FOR_DLR = 4
_PGD = re.compile(r"(?:(margin|dlr)-)?(pgd-[1-9][0-9]{0,4})(?:x([2-9]|[1-9][0-9]{1,3}))?")
_ENSEMBLE = re.compile(rf"({'|'.join(ENSEMBLE)})(?:-([1-9][0-9]{{0,4}}))?")
_LOSSES = {"apgd-ce": "ce", "apgd-dlr": "dlr", "apgd-t": "dlr-targeted", "fab-t": "boundary", "square": "margin"}


@dataclass(frozen=True)
class AttackSpec:
    """One projected-gradient attack.

    Attributes:
        name: canonical name, as in reports.
        loss: what is maximized: 'ce', 'margin', 'cw' or 'dlr' (see stages.attacks.losses).
        steps: gradient steps, at least 1.
        step: step size in units of eps.
        random_start: start uniformly in the ball instead of at the clean image.
        restarts: number of runs, at least 1; each attacks the samples that are still classified correctly.
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
        """Purpose of the random starts. The first run of 'pgd-20x5' is 'pgd-20', its runs are the first five of 'pgd-20x9'."""
        base = f"attack/{self.name.removesuffix(f'x{self.restarts}')}"
        return f"{base}/restart {restart}" if restart else base

    def check_fits(self, threat: ThreatModel | None = None, ways: int | None = None) -> None:
        """Raise UsageError if the attack does not support this norm or number of classes (None: not known yet)."""
        if threat is not None and threat.norm != "Linf" and self.loss == "cw":
            raise UsageError(f"{self.name} is an L-inf attack, not one in {threat.norm}", "use margin-pgd-N, the same loss")
        if ways is not None and self.loss == "dlr":
            check_dlr(self.name, ways)

    def passes(self, ways: int) -> int:
        """Approximate forward passes for a robust sample with `ways` candidate classes. Used for the ETA."""
        return GRADIENT * self.steps * self.restarts

    def to_record(self) -> dict[str, Any]:
        """JSON-able record; `step` is in units of eps."""
        return {
            "loss": self.loss,
            "name": self.name,
            "random_start": self.random_start,
            "restarts": self.restarts,
            "step": f"{self.step} eps",
            "steps": self.steps,
        }


@dataclass(frozen=True)
class EnsembleSpec(AttackSpec):
    """One attack of AutoAttack, run by pyautoattack.

    Attributes:
        kind: which one, of `ENSEMBLE`.
        steps: iterations; queries for Square.
        step: first step of APGD, which adapts it later; 0 for the others.
        loss: 'ce', 'dlr', 'dlr-targeted', 'boundary' (FAB) or 'margin'.
    """

    kind: str = ""

    @property
    def targeted(self) -> bool:
        """Whether it runs once per target class."""
        return self.kind in ("apgd-t", "fab-t")

    def rounds(self, classes: int) -> int:
        """Number of runs with `classes` classes: one per target, min(9, C - 1). Raises UsageError for a single class."""
        if classes < 2:
            raise UsageError(f"the attack {self.name} needs a wrong class to aim at, and there is one class", "add classes")
        return min(MOST_TARGETS, classes - 1) if self.targeted else 1

    def loss_on(self, classes: int) -> str:
        """The loss with `classes` classes: a margin in place of DLR below 4."""
        return self.loss.replace("dlr", "margin") if classes < CLASSES_FOR_DLR else self.loss

    def ran_as(self, classes: int) -> str:
        """One line for reports: the variant that runs with `classes` classes."""
        rounds = self.rounds(classes)
        aims = f", {rounds} target{'s' * (rounds > 1)}" if self.targeted else ""
        swapped = f", margin in place of DLR ({classes} classes)" if self.loss_on(classes) != self.loss else ""
        return f"{self.name}: {self.steps} {'queries' if self.kind == 'square' else 'steps'}{aims}{swapped}"

    def check_fits(self, threat: ThreatModel | None = None, ways: int | None = None) -> None:
        """Raise UsageError for fewer than two classes; all norms are supported."""
        if ways is not None:
            self.rounds(ways)

    def passes(self, ways: int) -> int:
        """See AttackSpec. Square needs no gradient; a step of FAB, with its projections, takes twice as long as one of APGD."""
        a_step = {"square": 1, "fab-t": 2 * GRADIENT}.get(self.kind, GRADIENT)
        return a_step * self.steps * self.rounds(ways)

    def to_record(self) -> dict[str, Any]:
        """JSON-able record, with the version of the library that runs the attack."""
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


@dataclass(frozen=True)
class AttackPlan:
    """An attack and how it is run.

    Attributes:
        spec: the attack.
        threat: the threat model.
        seed: of random starts; the attack's name selects the stream.
        batch_size: samples in one forward pass.
        early_stop: True skips samples that are misclassified when clean, and stops at the first iterate that is misclassified;
            False runs every step on every sample.
        eot: random draws that a randomised model is averaged over, see `stages.models.wrapped.MeanOfDraws`.
    """

    spec: AttackSpec
    threat: ThreatModel
    seed: int
    batch_size: int = 256
    early_stop: bool = True
    eot: int = 1


def parse_attack(name: str) -> AttackSpec:
    """The attack called `name`, case-insensitive; settings as in Li et al., CVPR 2024, Sec. 4.

    - 'fgsm': one step of eps on the cross-entropy, no random start.
    - 'pgd-N': N steps of eps/4 on the cross-entropy, uniform random start.
    - 'margin-pgd-N': the same on the margin, whose gradient does not vanish with the scale of the logits.
    - 'dlr-pgd-N': the same on the difference of logits ratio (Croce & Hein, ICML 2020), for at least 4 classes.
    - 'pgd-NxR', 'margin-pgd-NxR', 'dlr-pgd-NxR': up to R runs with new random starts.
    - 'cw-linf': 30 steps on the Carlini-Wagner margin, random start. The published step is 0.8/255 at eps 8/255; here
      it scales with eps: eps/10. L-inf only.
    - 'apgd-ce', 'apgd-dlr', 'apgd-t', 'fab-t', 'square': those of AutoAttack; 'apgd-ce-50' with 50 steps.

    In L2 a step follows the normalized gradient, and 'fgsm' is the fast gradient method.

    Raises UsageError for an unknown name, with the nearest ones.
    """
    folded = name.strip().lower()
    if match := _PGD.fullmatch(folded):
        steps, restarts = int(match[2].removeprefix("pgd-")), int(match[3] or 1)
        return AttackSpec(folded, match[1] or "ce", steps, Fraction(1, 4), random_start=True, restarts=restarts)
    if folded == "fgsm":
        return AttackSpec(folded, "ce", 1, Fraction(1), random_start=False)
    if folded == "cw-linf":
        return AttackSpec(folded, "cw", 30, Fraction(1, 10), random_start=True)
    if match := _ENSEMBLE.fullmatch(folded):
        kind, usual = match[1], STANDARD_QUERIES if match[1] == "square" else STANDARD_STEPS
        steps = int(match[2] or usual)
        canonical = kind if steps == usual else f"{kind}-{steps}"
        first_step = Fraction(2 if kind.startswith("apgd") else 0)
        return EnsembleSpec(canonical, _LOSSES[kind], steps, first_step, kind != "fab-t", kind=kind)
    raise UsageError(
        f"unknown attack '{name}' (nearest: {nearest(folded, (*KNOWN, *ENSEMBLE))})",
        f"known attacks: {FORMS}; {', '.join(ENSEMBLE)}",
    )


def parse_attacks(names: Sequence[str]) -> tuple[AttackSpec, ...]:
    """The attacks called `names`, in order. Raises UsageError for an unknown or repeated name."""
    specs = tuple(parse_attack(name) for name in names)
    for at, spec in enumerate(specs):
        if spec in specs[:at]:
            raise UsageError(f"attack '{spec.name}' is given twice", "name each attack once")
    return specs


def check_fits(specs: Sequence[AttackSpec], threat: ThreatModel, ways: int | None = None) -> None:
    """Raise UsageError if one of the attacks does not support this norm or number of classes (None: not known yet)."""
    for spec in specs:
        spec.check_fits(threat, ways)


def check_dlr(name: str, ways: int) -> None:
    """Raise UsageError unless there are enough classes, at least 4, for the DLR loss of the attack `name`."""
    if ways < CLASSES_FOR_DLR:
        raise UsageError(
            f"{name} needs at least {CLASSES_FOR_DLR} candidate classes, and there are {ways}",
            "use the margin instead, for example margin-pgd-20",
        )


def library_versions(specs: Sequence[AttackSpec]) -> dict[str, str]:
    """The version of the library that runs AutoAttack's attacks, where there are some."""
    return {"pyautoattack": _library_version()} if any(isinstance(spec, EnsembleSpec) for spec in specs) else {}


def _library_version() -> str:
    try:
        return version("pyautoattack")
    except PackageNotFoundError:
        return "not installed"
