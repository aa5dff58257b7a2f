"""The settings of one training run, checked before anything is loaded. Needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from stages.attacks.spec import AttackSpec
from stages.errors import UsageError, nearest, require_above_zero, require_at_least
from stages.threat import ThreatModel, format_eps
from stages.train.objectives import check_objective_name, find_objective
from stages.train.schedules import SCHEDULES

PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class TrainSettings:
    """Everything that shapes a run; the defaults are the published ones (Li et al., CVPR 2024, Sec. 4.1) at the smaller width.

    Attributes:
        objective: one of `stages.train.objectives.OBJECTIVES`, or package.module:Class.
        backbone: conv4-WIDTH, resnet12, timm:NAME or clip:NAME[/TAG].
        epochs, batch_size: images are visited `epochs` times, `batch_size` at a time (over all processes).
        accumulate: the batch goes through the model in this many pieces, to need less memory.
        lr, momentum, weight_decay: of SGD.
        schedule: 'step' (x 0.1 from 60 % of the epochs on), 'cosine' or 'one-cycle'.
        warm_up: epochs (may be a fraction) over which the rate climbs to the schedule's.
        clip_norm: the gradient's L2 norm is cut to this; None leaves it.
        eps: L-inf radius of the inner attack, pixel units.
        steps, step_size: of the inner attack; step size in pixel units, None is eps / 4.
        tau: temperature of A-CE, logits = cosine / tau.
        beta: weight of the second term of 'laat' (smoothing) and 'trades' (KL); None is 1 and 6.
        awp: gamma of adversarial weight perturbation, relative to each weight's norm; 0 is off.
        ema: decay of the averaged weights that are then scored and saved; 0 is off.
        drop_block: rate of DropBlock in resnet12; 0 is off.
        augment: whether images are augmented at all.
        crop_padding, rotation, jitter: of the augmentation: pixels, degrees, and the strength of the colour jitter.
        precision: 'float32', or 'bf16' for matrix products in bfloat16 (weights, losses and decisions stay float32).
        seed: weights, order, augmentation, random starts and the held-out part follow from it.

    Raises UsageError for a value that makes no sense, naming the option.
    """

    objective: str = "laat"
    backbone: str = "conv4-64"
    epochs: int = 100
    batch_size: int = 128
    accumulate: int = 1
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "step"
    warm_up: float = 0.0
    clip_norm: float | None = None
    eps: Fraction = Fraction(8, 255)
    steps: int = 7
    step_size: Fraction | None = None
    tau: float = 1.0
    beta: float | None = None
    awp: float = 0.0
    ema: float = 0.0
    drop_block: float = 0.0
    augment: bool = True
    crop_padding: int = 4
    rotation: float = 15.0
    jitter: float = 0.0
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_numbers()
        ThreatModel(self.eps)  # raises for an eps outside [0, 1]
        if self.objective != "clean" and self.eps == 0:
            raise UsageError("--eps is 0, so there is no attack to train against", "use --objective clean, or --eps 8/255")
        if self.accumulate > self.batch_size:
            raise UsageError(
                f"--accumulate {self.accumulate} cuts a batch of {self.batch_size} into empty pieces",
                f"give at most --accumulate {self.batch_size}",
            )

    def _check_choices(self) -> None:
        check_objective_name(self.objective)
        for name, value, known in (
            ("--schedule", self.schedule, SCHEDULES),
            ("--precision", self.precision, PRECISIONS),
        ):
            if value not in known:
                raise UsageError(f"unknown {name} '{value}'", f"nearest: {nearest(value, known)}")

    def _check_numbers(self) -> None:
        least = {"epochs": 1, "batch_size": 2, "accumulate": 1, "steps": 1, "crop_padding": 0, "rotation": 0}
        zero = ("seed", "momentum", "weight_decay", "warm_up", "awp", "ema", "drop_block", "jitter")
        for option, bound in {**least, **dict.fromkeys(zero, 0)}.items():
            require_at_least(_flag(option), getattr(self, option), bound)
        for option in ("lr", "tau", "clip_norm", "step_size"):
            value = getattr(self, option)
            if value is not None:
                require_above_zero(_flag(option), float(value))
        if self.beta is not None:
            require_at_least("--beta", self.beta, 0)
        for option in ("ema", "drop_block"):
            if getattr(self, option) >= 1:
                raise UsageError(f"{_flag(option)} {getattr(self, option):g} is not below 1", "give a number in [0, 1)")

    @property
    def threat(self) -> ThreatModel:
        """The threat model of the inner attack."""
        return ThreatModel(self.eps)

    @property
    def step(self) -> Fraction:
        """The step size in pixel units."""
        return self.eps / 4 if self.step_size is None else self.step_size

    @property
    def second_weight(self) -> float:
        """The weight of the objective's second term: `beta`, or its default for the objective."""
        return find_objective(self.objective).default_beta if self.beta is None else self.beta

    def selection_attack(self) -> AttackSpec:
        """The attack that scores epochs: the inner attack's own steps, on the cross-entropy."""
        return AttackSpec(f"pgd-{self.steps}", "ce", self.steps, self.step / self.eps, random_start=True)

    def to_record(self) -> dict[str, Any]:
        """JSON-able form, eps and step size as fractions."""
        return {**asdict(self), "eps": format_eps(self.eps), "step_size": format_eps(self.step)}


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
