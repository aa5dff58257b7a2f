"""What a file of another program is, and what it does not say about itself. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from stages.errors import UsageError
from stages.parameters import check, parameter

LAAT, TECOA, FARE, OPEN_CLIP = FORMATS = ("laat", "tecoa", "fare", "open_clip")
# mean and std of the training images, of pixels in [0, 1], and their side
NORMALIZATIONS = {
    "cifar-fs": (
        (0.5070751592371323, 0.48654887331495095, 0.4409178433670343),
        (0.2673342858792401, 0.2564384629170883, 0.27615047132568404),
    ),
    "miniimagenet": (
        (120.39586422 / 255, 115.59361427 / 255, 104.54012653 / 255),
        (70.68188272 / 255, 68.27635443 / 255, 72.54505529 / 255),
    ),
}
_SIDES = {"cifar-fs": 32, "miniimagenet": 80}
_MINIIMAGENET_SIDES = (80, 84)
_PUBLISHED = "Published checkpoint"


@dataclass(frozen=True)
class ImportRequest:
    """The layout of a file, and of a checkpoint of the published LAAT program what the file does not record.

    Attributes:
        layout: one of `FORMATS`.
        image_size, normalization: of --as laat; see `resolved`.
        tau: temperature of the logits; None: 1 with --as laat, else the model's own.

    Raises UsageError for a missing layout, and options that mean nothing for it.
    """

    layout: str | None = parameter(
        None,
        "What the file is: laat (published LAAT program), tecoa (has a vision_encoder_state_dict), fare (state dict of "
        "an image tower) or open_clip (state dict or training checkpoint of a whole model).",
        option="as",
        choices=FORMATS,
        panel=_PUBLISHED,
    )
    image_size: int | None = parameter(
        None,
        "With --as laat: side of the training images in px.",
        unset="32, or 80 with --normalization miniimagenet",
        at_least=16,
        below=10_000,
        panel=_PUBLISHED,
    )
    normalization: str | None = parameter(
        None,
        "With --as laat: the data whose published mean and std normalized the pixels.",
        unset="cifar-fs, or miniimagenet for 80 and 84 px",
        choices=tuple(NORMALIZATIONS),
        panel=_PUBLISHED,
    )
    tau: float | None = parameter(
        None,
        "Temperature: logits = cosines / tau.",
        unset="1 with --as laat, else that of the model",
        at_least=1e-6,
        at_most=1e6,
        panel=_PUBLISHED,
    )

    def __post_init__(self) -> None:
        check(self)
        if self.layout is None:
            raise UsageError("the layout of the file is not given", f"say what it is: --as {', '.join(FORMATS)}")
        for option in ("image_size", "normalization"):
            if self.layout != LAAT and getattr(self, option) is not None:
                name = option.replace("_", "-")
                raise UsageError(f"--{name} cannot be combined with --as {self.layout}", "leave it out")

    @property
    def resolved(self) -> tuple[int, str]:
        """Image size and normalization of a checkpoint of the published LAAT program."""
        normalization = self.normalization
        if normalization is None:
            normalization = "miniimagenet" if self.image_size in _MINIIMAGENET_SIDES else "cifar-fs"
        return self.image_size or _SIDES[normalization], normalization
