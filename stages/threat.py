"""The threat model: norm, eps and pixel range of a perturbation. Importing this file does not import torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from stages.errors import ComputeError, InputError, UsageError
from stages.parameters import parameter

if TYPE_CHECKING:
    from torch import Tensor

NORMS = ("Linf", "L2")
_NORM_OF = {norm.casefold(): norm for norm in NORMS}
# float32 rounding of x + eps near 1 is 6e-8
TOLERANCE = 1e-6
_ADVICE = {
    "Linf": "write it as a fraction of 255, for example 8/255",
    "L2": "write it as a number or a fraction of 255, for example 0.5 or 128/255",
}
# largest distance of two images with pixels in [0, 1], of at most a million pixels with three channels
_LARGEST = {"Linf": 1, "L2": 1732}
_DEFAULT_EPS = {"Linf": "8/255", "L2": "128/255"}
# at most two exponent digits: `1e999999999` would be computed exactly, digit by digit
_LONG = re.compile(r"[0-9]{21}")
_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,2})?|\.[0-9]{1,20}([eE][+-]?[0-9]{1,2})?")


def _norm_of(text: str) -> str | None:
    return _NORM_OF.get(text.strip().replace("-", "").casefold())


def _as_text(eps: str | float | Fraction) -> str:
    """`eps` as text for `parse_eps`; a float that equals n/255 becomes that fraction."""
    levels = round(float(eps) * 255) if not isinstance(eps, str) and 0 <= eps < 2**31 else 0
    return f"{levels}/255" if isinstance(eps, float) and eps == levels / 255 else str(eps)


def parse_norm(text: str) -> str:
    """'Linf' or 'L2' from text, case-insensitive. Raises UsageError for another norm."""
    norm = _norm_of(text)
    if norm is None:
        raise UsageError(f"unknown norm '{text}'", f"known norms: {', '.join(_NORM_OF)}")
    return norm


def parse_eps(text: str, norm: str = "Linf") -> Fraction:
    """Parse a radius ('8/255', '0.03', '0') exactly, in pixel units ([0, 1] scale).

    Raises UsageError if it is not a number, is negative, divides by zero, or is too large: an L-inf radius is at most 1.
    """
    numbers = [number.strip() for number in text.strip().split("/")]
    advice = _ADVICE[norm]
    if any(_LONG.search(number) for number in numbers):
        raise UsageError(f"eps '{text}' has more than 20 digits in a row", "round it")
    if len(numbers) > 2 or not all(_NUMBER.fullmatch(number) for number in numbers):
        raise UsageError(f"eps '{text}' is not a number {'between 0 and 1' if norm == 'Linf' else 'of at least 0'}", advice)
    top = Fraction(numbers[0])
    bottom = Fraction(numbers[1]) if len(numbers) == 2 else Fraction(1)
    if bottom == 0:
        raise UsageError(f"eps '{text}' divides by zero", advice)
    eps = top / bottom
    if norm == "Linf" and eps > 1:
        fix = f"did you mean {numbers[0]}/255?" if top <= 255 else advice
        raise UsageError(f"eps '{text}' is over 1, and pixels range from 0 to 1", fix)
    if eps > _LARGEST[norm]:
        raise UsageError(f"eps '{text}' is over {_LARGEST[norm]}: no two images are so far apart", advice)
    return eps


def format_eps(eps: Fraction, norm: str = "Linf") -> str:
    """The canonical text of `eps`, the inverse of `parse_eps`.

    L-inf: n/255 if exact ('8/255', '51/255'), else the reduced fraction. L2: a decimal of at most three places if exact
    ('0.5', '3'), else as for L-inf ('128/255').
    """
    levels, thousandths = eps * 255, eps * 1000
    if eps == 0:
        return "0"
    if norm == "L2" and thousandths.denominator == 1:
        return f"{float(eps):.3f}".rstrip("0").rstrip(".")
    return f"{levels.numerator}/255" if levels.denominator == 1 else f"{eps.numerator}/{eps.denominator}"


@dataclass(frozen=True, init=False)
class ThreatModel:
    """The images within `eps` of the clean one in the given norm, and inside the pixel range.

    Args:
        eps: radius in pixel units ([0, 1] scale), at most 1 for 'Linf'; text such as "8/255", or a number. None is 8/255 in
            'Linf' and 128/255 in 'L2'.
        norm: 'Linf' (largest change of a colour value) or 'L2' (Euclidean, over an image), case-insensitive.
        clip: lowest and highest pixel value.

    `ThreatModel("linf", "8/255")`, with the norm first, works too. `eps` is an exact fraction.

    Raises UsageError for an unknown norm, or an eps outside the range of the norm.
    """

    eps: Fraction = parameter(
        None, "Radius in pixel units, for example 8/255.", unset="8/255 in linf, 128/255 in l2", panel="Attacks", parse=str
    )
    norm: str = parameter("linf", "linf (largest change of a colour value) or l2 (Euclidean, over an image).", panel="Attacks")
    clip: tuple[float, float] = (0.0, 1.0)

    def __init__(
        self,
        eps: str | float | Fraction | None = None,
        norm: str | float | Fraction = "Linf",
        clip: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        radius: str | float | Fraction | None = eps
        if isinstance(eps, str) and _norm_of(eps):
            radius, norm = (None if norm == "Linf" else norm), eps
        known = parse_norm(str(norm))
        object.__setattr__(self, "norm", known)
        object.__setattr__(self, "eps", parse_eps(_DEFAULT_EPS[known] if radius is None else _as_text(radius), known))
        object.__setattr__(self, "clip", clip)

    @property
    def radius(self) -> float:
        """`eps` as a float."""
        return float(self.eps)

    def __str__(self) -> str:
        return f"{self.norm} {format_eps(self.eps, self.norm)}"

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Project `x_adv` onto the allowed images, for clean images `x` in [0, 1], both (N, 3, H, W)."""
        low, high = self.clip
        if self.norm == "L2":
            from stages.ball import nearest_inside

            return nearest_inside(x_adv, x, self.radius, low, high)
        return x_adv.clamp(x - self.radius, x + self.radius).clamp_(low, high)

    def random_start(self, x: Tensor, noise: Tensor) -> Tensor:
        """Random images from `noise`, uniform on [0, 1) and shaped like `x`: uniform in the ball, then clipped."""
        if self.norm == "L2":
            from stages.ball import uniform_in_ball

            return self.project(x + uniform_in_ball(noise, self.radius), x)
        return self.project(x + (2 * noise - 1) * self.radius, x)

    def step(self, x_adv: Tensor, grad: Tensor, step_size: float) -> Tensor:
        """The steepest ascent step of length `step_size` (pixel units) in this norm, without projection."""
        if self.norm == "L2":
            from stages.ball import direction

            return x_adv + step_size * direction(grad)
        return x_adv + step_size * grad.sign()

    def bounds(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """The lowest and highest allowed value of every pixel around `x` (N, 3, H, W); None for L2."""
        if self.norm == "L2":
            return None
        low, high = self.clip
        return (x - self.radius).clamp_(low, high), (x + self.radius).clamp_(low, high)

    def climb(
        self,
        x_adv: Tensor,
        grad: Tensor,
        step_size: float,
        x: Tensor,
        bounds: tuple[Tensor, Tensor] | tuple[float, float] | None,
    ) -> Tensor:
        """`step` and `project` in one, fast with the `bounds` of `x`; with other bounds L-inf is clipped to those."""
        if bounds is None:
            return self.project(self.step(x_adv, grad, step_size), x)
        return x_adv.add(grad.sign(), alpha=step_size).clamp_(*bounds)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Distance of each image from its clean one in this norm, (N, 3, H, W) twice -> (N,)."""
        moved = (x_adv - x).flatten(1)
        if self.norm == "L2":
            from stages.ball import lengths

            return lengths(moved)
        return moved.abs().amax(1)

    def tolerance(self, pixels: int) -> float:
        """How far outside the ball an image of `pixels` values can be by float32 rounding."""
        if self.norm == "L2":
            from stages.ball import slack

            return 2 * slack(self.radius, pixels)
        return TOLERANCE

    def check(self, x_adv: Tensor, x: Tensor) -> None:
        """Raise ComputeError unless every image of `x_adv` is finite, in the pixel range and, up to rounding, in the ball."""
        if not bool(x_adv.isfinite().all()):
            raise ComputeError("an adversarial image has a pixel that is not finite", "check the model's gradients")
        low, high = self.clip
        if bool((x_adv < low).any()) or bool((x_adv > high).any()):
            raise ComputeError(f"an adversarial image leaves the pixel range [{low:g}, {high:g}]", "check the attack")
        far = float(self.distance(x_adv, x).max()) if x.numel() else 0.0
        if far > self.radius + self.tolerance(x[0].numel() if len(x) else 0):
            raise ComputeError(
                f"an adversarial image is {far:.6g} from its clean image, outside eps {format_eps(self.eps, self.norm)}",
                "use the images that were attacked, or check the attack",
            )

    def to_record(self) -> dict[str, Any]:
        """JSON-able record."""
        return {"clip": list(self.clip), "eps": format_eps(self.eps, self.norm), "norm": self.norm}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ThreatModel:
        """The inverse of `to_record`. Raises InputError for a damaged record."""
        try:
            low, high = (float(value) for value in record["clip"])
            norm = parse_norm(record["norm"])
            return cls(parse_eps(record["eps"], norm), norm, (low, high))
        except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
            raise InputError(f"damaged threat model record: {error}", "create the file again") from None
