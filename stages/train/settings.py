"""The settings of one training run, checked before anything is loaded. Needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from stages.attacks.named import AttackSpec
from stages.attacks.threat import ThreatModel, format_eps
from stages.errors import UsageError, nearest, require_above_zero, require_at_least
from stages.train.schedules import SCHEDULES

OBJECTIVES = ("laat", "at", "clean")


@dataclass(frozen=True)
class TrainSettings:
    """Everything that shapes a run; the defaults are the published ones (Li et al., CVPR 2024, Sec. 4.1) at the smaller width.

    Attributes:
        objective: 'laat' (A-CE on x_adv + smoothing), 'at' (A-CE on x_adv) or 'clean' (A-CE on x, no attack).
        backbone: conv4-WIDTH, resnet12 or timm:NAME.
        epochs, batch_size: images are visited `epochs` times, `batch_size` at a time.
        lr, momentum, weight_decay: of SGD.
        schedule: 'step' (x 0.1 from 60 % of the epochs on), 'cosine' or 'one-cycle'.
        eps: L-inf radius of the inner attack, pixel units.
        steps, step_size: of the inner attack; step size in pixel units, None is eps / 4.
        tau: temperature of A-CE, logits = cosine / tau.
        smoothing: weight beta of the smoothing loss, used by 'laat'.
        augment: random crop, flip and rotation.
        seed: weights, order, augmentation, random starts and the held-out part follow from it.

    Raises UsageError for a value that makes no sense, naming the option.
    """

    objective: str = "laat"
    backbone: str = "conv4-64"
    epochs: int = 100
    batch_size: int = 128
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "step"
    eps: Fraction = Fraction(8, 255)
    steps: int = 7
    step_size: Fraction | None = None
    tau: float = 1.0
    smoothing: float = 1.0
    augment: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("--objective", self.objective, OBJECTIVES),
            ("--schedule", self.schedule, SCHEDULES),
        ):
            if value not in known:
                raise UsageError(f"unknown {name} '{value}'", f"nearest: {nearest(value, known)}")
        for option, least in (
            ("epochs", 1),
            ("batch_size", 2),
            ("steps", 1),
            ("seed", 0),
            ("momentum", 0),
            ("weight_decay", 0),
        ):
            require_at_least(f"--{option.replace('_', '-')}", getattr(self, option), least)
        require_above_zero("--lr", self.lr)
        require_above_zero("--tau", self.tau)
        require_at_least("--smoothing", self.smoothing, 0)
        ThreatModel(self.eps)  # raises for an eps outside [0, 1]
        if self.step_size is not None:
            require_above_zero("--step-size", float(self.step_size))
        if self.objective != "clean" and self.eps == 0:
            raise UsageError("--eps is 0, so there is no attack to train against", "use --objective clean, or --eps 8/255")

    @property
    def threat(self) -> ThreatModel:
        """The threat model of the inner attack."""
        return ThreatModel(self.eps)

    @property
    def step(self) -> Fraction:
        """The step size in pixel units."""
        return self.eps / 4 if self.step_size is None else self.step_size

    def selection_attack(self) -> AttackSpec:
        """The attack that scores epochs: the inner attack's own steps, on the cross-entropy."""
        return AttackSpec(f"pgd-{self.steps}", "ce", self.steps, self.step / self.eps, random_start=True)

    def to_record(self) -> dict[str, Any]:
        """JSON-able form, eps and step size as fractions."""
        return {**asdict(self), "eps": format_eps(self.eps), "step_size": format_eps(self.step)}
