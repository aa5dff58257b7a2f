"""How a model normalizes the pixels it is trained on: by the mean and standard deviation of each channel."""

from __future__ import annotations

from dataclasses import dataclass

from stages.data.image_set import LabelledImages

# A channel is multiplied by 1 / std: by 3 to 5 for photographs, by 51 at most with this floor. What varies less than 5 of 255
# levels is mostly rounding and noise; one other pixel in 20 images of one colour would be multiplied by 32,600.
FLOOR = 5 / 255
_CHANNELS = ("red", "green", "blue")


@dataclass(frozen=True)
class Normalization:
    """Pixels in [0, 1] become (pixel - mean) / std.

    Attributes:
        mean, std: of each channel.
        notes: which channels hardly vary, so that their standard deviation was replaced.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    notes: tuple[str, ...] = ()


def normalization_of(images: LabelledImages) -> Normalization:
    """Mean and standard deviation of images, the latter at least `FLOOR`. Raises InputError on an empty set."""
    mean, std = images.mean_std()
    notes = []
    for name, found, (low, high) in zip(_CHANNELS, std, images.channel_ranges(), strict=True):
        if found < FLOOR:
            how = f"is {low} of 255 everywhere" if low == high else f"hardly varies (from {low} to {high} of 255)"
            notes.append(f"the {name} channel of the training images {how}; its standard deviation is taken to be 5 levels")
    return Normalization(mean, tuple(max(found, FLOOR) for found in std), tuple(notes))
