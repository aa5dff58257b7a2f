"""Augmentation image by image in numpy, the obvious way, to compare the batched one with."""

from __future__ import annotations

import math

import numpy as np

from stages.data.batches.augment import AugmentParameters
from stages.data.batches.colour import BRIGHTNESS, CONTRAST


def moved_by_hand(image: np.ndarray, padding: int, one: AugmentParameters) -> np.ndarray:
    """Pad, crop, mirror and turn one image (3, H, W) pixel by pixel, with the sine and cosine of plane geometry."""
    _, height, width = image.shape
    top, left = int(one.top), int(one.left)
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    cropped = padded[:, top : top + height, left : left + width]
    mirrored = cropped[:, :, ::-1] if bool(one.flip) else cropped
    turned = np.zeros_like(mirrored)
    radians = math.radians(float(one.degrees))
    for row in range(height):
        for column in range(width):
            down, right = row - (height - 1) / 2, column - (width - 1) / 2
            from_row = math.sin(radians) * right + math.cos(radians) * down + (height - 1) / 2
            from_column = math.cos(radians) * right - math.sin(radians) * down + (width - 1) / 2
            y, x = math.floor(from_row + 0.5), math.floor(from_column + 0.5)
            if 0 <= y < height and 0 <= x < width:
                turned[:, row, column] = mirrored[:, y, x]
    return turned


def coloured_by_hand(image: np.ndarray, factors: list[float], order: list[int]) -> np.ndarray:
    """Brightness, contrast and saturation of one uint8 image (3, H, W) in the given order, rounded down each time."""
    for which in order:
        red, green, blue = image.astype(np.float32)
        grey = np.trunc(np.float32(0.2989) * red + np.float32(0.587) * green + np.float32(0.114) * blue)
        other = np.zeros_like(grey) if which == BRIGHTNESS else np.full_like(grey, grey.mean()) if which == CONTRAST else grey
        blend = np.float32(factors[which]) * image.astype(np.float32) + np.float32(1 - factors[which]) * other
        image = np.clip(blend, 0, 255).astype(np.uint8)
    return image


def augmented_by_hand(image: np.ndarray, padding: int, one: AugmentParameters) -> np.ndarray:
    """All that `one` says, for one uint8 image (3, H, W) -> uint8 (3, H, W)."""
    moved = moved_by_hand(image, padding, one)
    if one.colours is None:
        return moved
    return coloured_by_hand(moved, one.colours.factors[0].tolist(), one.colours.order[0].tolist())
