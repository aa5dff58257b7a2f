"""Images of more than 8 bits: which value is white, and their values as levels from 0 to 255.

Decided here, in this order: the value that the user gives (--white); the range that the file declares; the whole range of an
unsigned 16-bit image. Nothing else says what is white: the highest value of an image is not it.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.data.decoding.metadata import png_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

DARK = 64  # an image whose highest level is below this fills less than a quarter of the range
_BLOCK = 2**20  # values converted at a time, so that little memory is needed
_MAX_SAMPLE, _MAX_SIGNED_SAMPLE, _BITS, _PHOTOMETRIC = 281, 341, 258, 262  # TIFF tags
_FULL = 65535


class UnreadableImageError(Exception):
    """An image cannot be opened, or its bytes not be decoded (`step`); the message says why, `hint` what to do."""

    def __init__(self, message: str, hint: str = "repair or remove it", step: str = "decoded") -> None:
        super().__init__(message)
        self.hint = hint
        self.step = step


@dataclass(frozen=True)
class Depth:
    """What a file says of its values, for an image of more than 8 bits.

    Attributes:
        white: the value of white; None when nothing says.
        declared: whether the file declares a range of its own, smaller than what its bits can store.
        scale: what Pillow has multiplied the values by.
        inverted: whether 0 is white and the highest value black.
        significant: bits that count, of a PNG file (sBIT); 16 when it does not say.
    """

    white: float | None = _FULL
    declared: bool = False
    scale: float = 1.0
    inverted: bool = False
    significant: int = 16


def depth_of(image: Image, raw: bytes = b"") -> Depth | None:
    """The depth of an image that was opened and not loaded; None for 8 bits and less."""
    coding = _coding(image)
    if image.format == "PPM" and image.mode != "F":  # Pillow scales the values by the maximum that the file declares
        highest = coding[1] if len(coding) > 1 else _FULL if image.mode == "I" else 255
        return Depth(declared=highest < _FULL, scale=_FULL / highest) if highest > 255 else None
    if not (image.mode == "F" or image.mode.startswith("I") or any(";16" in str(part) for part in coding)):
        return None
    stored = _FULL if image.mode not in ("I", "F") else None
    if image.format == "TIFF":
        return _tiff_depth(image.tag_v2, stored)  # type: ignore[attr-defined]
    return Depth(stored, significant=_significant_bits(raw) if image.format == "PNG" else 16)


def to_8_bits(image: Image, depth: Depth, white: float | None, raw: bytes = b"") -> tuple[Image, bool]:
    """A loaded image of more than 8 bits with the levels 0 to 255, and whether its range is undeclared.

    It is undeclared when white is taken to be the highest value that the bits can store, for want of anything better.

    Args:
        image: grey (I, I;16, F), or colours that Pillow has cut to their upper 8 bits.
        depth: what its file says.
        white: the value of white, given by the user; it precedes the file's.
        raw: the file, to read the lower bits of colours.

    Raises UnreadableImageError when nothing says what is white, or values lie outside the range.
    """
    from PIL import Image as Pillow

    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
    elif white is None and not depth.declared and depth.significant == 16:
        return image, True  # at most one level from the exact value
    else:
        found = _sixteen_bits(raw, image.mode)
        if found is None and white is None:
            return image, not depth.declared
        if found is None:
            raise UnreadableImageError("--white cannot be applied to this kind of 16-bit image", "write it with 8 bits")
        values = found
    top = (
        white * depth.scale if white else (2**depth.significant - 1 if _in_low_bits(values, depth.significant) else depth.white)
    )
    if top is None:
        bits = "floating-point" if image.mode == "F" else "32-bit"
        raise UnreadableImageError(
            f"it has {bits} values and does not declare which of them is white", "give it with --white, for example --white 255"
        )
    levels = _scaled(values, top)
    undeclared = white is None and not depth.declared and depth.significant == 16
    return Pillow.fromarray(255 - levels if depth.inverted else levels), undeclared


def range_notes(highest: np.ndarray) -> tuple[str, ...]:
    """The note on images of undeclared range that are dark.

    Args:
        highest: the highest level (0 to 255) of each image of undeclared range.
    """
    dark = highest[highest < DARK]
    if not len(dark):
        return ()
    return (
        f"{len(dark):,} of {len(highest):,} images of 16 bits that declare no range reach only level {dark.max()} of 255, "
        "with 65535 as white: if white is less, give it with --white",
    )


def _coding(image: Image) -> tuple[Any, ...]:
    """How Pillow will unpack the pixels: the raw mode, and for PPM the maximum."""
    tiles = getattr(image, "tile", None) or []
    args = tiles[0][3] if tiles else ()
    return args if isinstance(args, tuple) else (args,)


def _tiff_depth(tags: Any, stored: int | None) -> Depth:
    bits = min(tags.get(_BITS, (16,)))
    full = stored if stored is None else 2**bits - 1
    told = [float(tags[tag][0]) for tag in (_MAX_SIGNED_SAMPLE, _MAX_SAMPLE) if tags.get(tag)]
    # These tags may also be a statistic of the one image; only a value such as 1 or 4095 can be a range.
    ranges = [value for value in told if value > 0 and (value + 1) in (2**bit for bit in range(1, 33)) and value != full]
    return Depth(
        white=ranges[0] if ranges else full,
        declared=bool(ranges) or (full is not None and full < _FULL),
        inverted=tags.get(_PHOTOMETRIC) == 0,  # Pillow inverts only images of 8 bits
    )


def _significant_bits(raw: bytes) -> int:
    """The sBIT of a PNG file, the largest of its channels; 16 without one."""
    for start, end in png_chunks(raw):
        kind, content = raw[start + 4 : start + 8], raw[start + 8 : min(start + 12, end - 4)]
        if kind == b"sBIT" and content and 0 < max(content) < 16:
            return max(content)
        if kind == b"IDAT":
            break
    return 16


def _in_low_bits(values: np.ndarray, significant: int) -> bool:
    """Whether values of fewer than 16 bits are stored as they are, and not scaled to 16 bits as PNG demands.

    True for certain: they fit into the low bits, and are not what scaling gives, by shifting or by multiplying.
    """
    if significant == 16 or values.max(initial=0) >= 2**significant:
        return False
    found = np.zeros(2**significant, dtype=bool)
    for block in _blocks(values):
        found |= np.bincount(block, minlength=2**significant) > 0
    present = np.flatnonzero(found)
    factor = _FULL / (2**significant - 1)
    shifted = present % 2 ** (16 - significant) == 0
    multiplied = np.floor(np.rint(present / factor) * factor + 0.5) == present
    return not (shifted.all() or multiplied.all())


def _sixteen_bits(raw: bytes, mode: str) -> np.ndarray | None:
    """The colours uint16 (H, W, 3) of a file whose lower 8 bits Pillow drops; None where they cannot be had.

    Pillow unpacks the upper byte of each value. Told that the bytes come in the other order, it unpacks the lower one.
    """
    from PIL import Image as Pillow

    halves = []
    for swapped in (False, True):
        with Pillow.open(io.BytesIO(raw)) as image:
            if swapped:
                tiles = image.tile
                image.tile = [tile._replace(args=_swapped(tile.args)) for tile in tiles]
                if image.tile == tiles:
                    return None
            try:
                image.load()
            except (ValueError, OSError):
                return None
            if image.mode not in ("RGB", "RGBA") or image.mode != mode:
                return None
            halves.append(np.asarray(image)[..., :3].astype(np.uint16))
    high, low = halves
    return np.asarray(high << 8 | low)


def _swapped(args: Any) -> Any:
    if isinstance(args, tuple):
        return tuple(_swapped(part) for part in args)
    if not isinstance(args, str):
        return args
    native = ";16L" if sys.byteorder == "little" else ";16B"
    mode = args.replace(";16N", native)
    return mode.replace(";16L", ";16?").replace(";16B", ";16L").replace(";16?", ";16B")


def _scaled(values: np.ndarray, white: float) -> np.ndarray:
    """Levels uint8 of values from 0 to `white`. Raises UnreadableImageError when values are outside."""
    levels = np.empty(values.shape, dtype=np.uint8)
    for block, out in zip(_blocks(values), _blocks(levels), strict=True):
        low, high = block.min(), block.max()
        if not (low >= 0 and high <= white * (1 + 1e-6)):  # also for NaN
            outside = f"{low:g}" if low < 0 else f"{high:g}"
            hint = "write it with values from 0" if low < 0 else "say with --white which value is white"
            raise UnreadableImageError(f"it has the value {outside}, outside 0 to {white:g}", hint)
        out[:] = np.minimum(np.floor(block.astype(np.float64) * (255 / white) + 0.5), 255)
    return levels


def _blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    flat = values.reshape(-1)
    return (flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK))
