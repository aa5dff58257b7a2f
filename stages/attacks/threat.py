"""The threat model as one value: what an attacker may do to an image. Importing this file does not import torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from stages.errors import ComputeError, InputError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

NORMS = ("Linf",)
# float32 rounding of x + eps near 1 is 6e-8; a result further out than this is a fault, not rounding
TOLERANCE = 1e-6
# at most two exponent digits: `1e999999999` would otherwise be computed exactly, digit by digit
_ADVICE = "write it as a fraction of 255, for example 8/255"
_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,2})?|\.[0-9]{1,20}([eE][+-]?[0-9]{1,2})?")


def parse_eps(text: str) -> Fraction:
    """The radius of the L-inf ball as people write it ('8/255', '0.03', '0'), exact, in [0, 1] of pixel space.

    Raises UsageError for anything else: not a number, negative, a zero denominator, and a number over 1, naming the
    fraction of 255 that was probably meant.
    """
    parts = text.strip().split("/")
    numbers = [part.strip() for part in parts]
    if len(numbers) > 2 or not all(_NUMBER.fullmatch(number) for number in numbers):
        raise UsageError(f"eps '{text}' is not a number between 0 and 1", _ADVICE)
    top = Fraction(numbers[0])
    bottom = Fraction(numbers[1]) if len(numbers) == 2 else Fraction(1)
    if bottom == 0:
        raise UsageError(f"eps '{text}' divides by zero", _ADVICE)
    eps = top / bottom
    if eps > 1:
        raise UsageError(f"eps '{text}' is over 1, and pixels go from 0 to 1", _probably_meant(numbers[0], top))
    return eps


def _probably_meant(number: str, value: Fraction) -> str:
    if value <= 255:
        return f"did you mean {number}/255?"
    return _ADVICE


def format_eps(eps: Fraction) -> str:
    """The canonical text of `eps`: over 255 where exact ('8/255', '51/255'), else the reduced fraction; zero is '0'."""
    levels = eps * 255
    if eps == 0:
        return "0"
    return f"{levels.numerator}/255" if levels.denominator == 1 else f"{eps.numerator}/{eps.denominator}"


@dataclass(frozen=True)
class ThreatModel:
    """All images within `eps` of the clean one in the given norm, and inside the pixel range.

    Attributes:
        norm: 'Linf', the only one so far.
        eps: radius in pixel units ([0, 1] scale), exact.
        clip: lowest and highest pixel value.

    Raises UsageError for an unknown norm or an eps outside [0, 1].
    """

    eps: Fraction
    norm: str = "Linf"
    clip: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise UsageError(f"unknown norm '{self.norm}'", f"known norms: {', '.join(NORMS)}")
        if not 0 <= self.eps <= 1:
            raise UsageError(f"eps {self.eps} is outside [0, 1]", _ADVICE)

    @property
    def radius(self) -> float:
        """`eps` as a float."""
        return float(self.eps)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The allowed image nearest to each of `x_adv`, for clean images `x` in [0, 1], both (N, 3, H, W)."""
        low, high = self.clip
        return x_adv.clamp(x - self.radius, x + self.radius).clamp_(low, high)

    def random_start(self, x: Tensor, noise: Tensor) -> Tensor:
        """An allowed image at `noise`, uniform on [0, 1) and shaped as `x`: uniform in the ball, then clipped."""
        return self.project(x + (2 * noise - 1) * self.radius, x)

    def step(self, x_adv: Tensor, grad: Tensor, step_size: float) -> Tensor:
        """The steepest ascent step of length `step_size` (pixel units) in this norm; not projected yet."""
        return x_adv + step_size * grad.sign()

    def bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The lowest and highest allowed value of every pixel round `x` (N, 3, H, W)."""
        low, high = self.clip
        return (x - self.radius).clamp_(low, high), (x + self.radius).clamp_(low, high)

    def climb(self, x_adv: Tensor, grad: Tensor, step_size: float, bounds: tuple[Tensor, Tensor]) -> Tensor:
        """`step` and `project` in three passes over memory, with the `bounds` that are looked up once."""
        return x_adv.add(grad.sign(), alpha=step_size).clamp_(*bounds)

    def check(self, x_adv: Tensor, x: Tensor) -> None:
        """Raise ComputeError unless every image of `x_adv` is finite, in the pixel range and in the ball round `x`.

        The ball has a tolerance of 1e-6 for float32 rounding; the pixel range has none.
        """
        if not bool(x_adv.isfinite().all()):
            raise ComputeError("an adversarial image has a pixel that is not finite", "check the model's gradients")
        low, high = self.clip
        if bool((x_adv < low).any()) or bool((x_adv > high).any()):
            raise ComputeError(f"an adversarial image leaves the pixel range [{low:g}, {high:g}]", "check the attack")
        far = float((x_adv - x).abs().max()) if x.numel() else 0.0
        if far > self.radius + TOLERANCE:
            raise ComputeError(
                f"an adversarial image is {far:.6g} from its clean image, outside eps {format_eps(self.eps)}",
                "the images are not those that were attacked, or the attack is at fault",
            )

    def to_record(self) -> dict[str, Any]:
        """The threat model as a JSON-able record."""
        return {"clip": list(self.clip), "eps": format_eps(self.eps), "norm": self.norm}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ThreatModel:
        """The inverse of `to_record`. Raises InputError when the record is not one."""
        try:
            low, high = (float(value) for value in record["clip"])
            return cls(parse_eps(record["eps"]), record["norm"], (low, high))
        except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
            fix = "make the file again with the command that wrote it"
            raise InputError(f"damaged threat model record: {error}", fix) from None
