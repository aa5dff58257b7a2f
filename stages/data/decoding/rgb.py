"""One image: whatever Pillow reads to upright 8-bit RGB."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stages.data.decoding.levels import UnreadableImageError, depth_of, to_8_bits
from stages.data.decoding.metadata import turn_of, without_metadata
from stages.data.request import DecodeOptions

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset(
    [
        ".png",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".gif",
        ".bmp",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".jp2",
        ".avif",
        ".heic",
    ]
)
# Only plain image formats: Pillow starts other programs to read PostScript and the like.
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
_JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL ")
LARGE = 16_000_000  # pixels; such images are decoded one at a time
_UNLIMITED = Lock()


class Picture(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: uint8 (H, W, 3).
        undeclared: whether it has more than 8 bits and nothing says which value is white.
        resized: whether it had another size.
    """

    pixels: np.ndarray
    undeclared: bool = False
    resized: bool = False


def decode(raw: bytes | np.ndarray, options: DecodeOptions, large: AbstractContextManager[object]) -> Picture:
    """Decode one image.

    Args:
        raw: the content of an image file, or its pixels uint8 (H, W, 3), which are only resized.
        options: how.
        large: held while a large image is decoded.

    Raises UnreadableImageError.
    """
    from PIL import Image as Pillow

    if isinstance(raw, np.ndarray):
        if options.resize is None:
            return Picture(raw)
        return _picture(Pillow.fromarray(raw), options)
    try:
        return _decoded(raw, options, large)
    except UnreadableImageError:
        bare = without_metadata(raw)
        if bare == raw:
            raise
    return _decoded(bare, options, large)


def _decoded(raw: bytes, options: DecodeOptions, large: AbstractContextManager[object]) -> Picture:
    from PIL import UnidentifiedImageError

    if not raw:
        raise UnreadableImageError("it is empty")
    try:
        with _opened(raw) as image:
            _check_size(image.size, options)
            with large if image.width * image.height > LARGE else nullcontext():
                rgb, undeclared = to_rgb(image, options.white, raw)
                return _picture(rgb, options, undeclared)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        raise _not_recognised(raw) from None
    except Exception as error:  # Pillow's readers raise nearly anything on broken files
        raise UnreadableImageError(str(error).rstrip(".") or type(error).__name__) from error


def _picture(rgb: Image, options: DecodeOptions, undeclared: bool = False) -> Picture:
    found = rgb if options.resize is None else resized(rgb, options.resize)
    return Picture(np.asarray(found), undeclared, found.size != rgb.size)


def _not_recognised(raw: bytes) -> UnreadableImageError:
    """The error for a file that Pillow does not recognise, by how it begins."""
    from PIL import Image as Pillow

    if raw.startswith(b"version https://git-lfs"):
        return UnreadableImageError("it is a Git LFS pointer, not the image itself", "get the images with `git lfs pull`")
    start = raw[:16].ljust(16)
    known = [name for name, (_, accept) in Pillow.OPEN.items() if accept is not None and accept(start) is True]
    readable = next((name for name in known if name in formats()), None)
    heic = raw[4:8] == b"ftyp" and b"hei" in raw[8:64]  # the brands; it may share others with AVIF
    if readable is not None and not heic:
        what = f"it begins as {readable}, but is damaged or of an unsupported kind"
        return UnreadableImageError(what, "repair it or convert it to PNG")
    other = "HEIC" if heic else "JPEG XL" if raw.startswith(_JPEG_XL) else next(iter(known), None)
    if other is not None:
        return UnreadableImageError(f"it is in the unsupported format {other}", "convert it to PNG or JPEG")
    return UnreadableImageError("it is not an image")


def to_rgb(image: Image, white: float | None = None, raw: bytes = b"") -> tuple[Image, bool]:
    """Any Pillow image as upright 8-bit RGB: scaled to 8 bits, EXIF orientation applied, palette and alpha dropped.

    Args:
        image: opened, not loaded.
        white: see `DecodeOptions`.
        raw: the content of its file.

    Returns the image, and whether its range is undeclared, see `Picture`.
    """
    depth = depth_of(image, raw)
    image.load()
    turn = turn_of(image)
    undeclared = False
    if depth is not None:
        image, undeclared = to_8_bits(image, depth, white, raw)
    if turn is not None:
        image = image.transpose(turn)  # type: ignore[arg-type]
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode == "La":  # premultiplied
        image = image.convert("LA")
    return image if image.mode == "RGB" else image.convert("RGB"), undeclared


def resized(image: Image, side: int) -> Image:
    """The shorter side to `side` pixels (bicubic, antialiased), then the centre `side` x `side` crop."""
    from PIL import Image as Pillow

    width, height = image.size
    short = min(width, height)
    if short != side:
        width, height = _scaled_size(image.size, side)
        image = image.resize((width, height), Pillow.Resampling.BICUBIC)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return image if (width, height) == (side, side) else image.crop((left, top, left + side, top + side))


@cache
def formats() -> list[str]:
    """Those of `FORMATS` that this Pillow reads."""
    from PIL import Image as Pillow

    Pillow.init()
    return [name for name in FORMATS if name in Pillow.OPEN]


def _scaled_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    width, height = size
    short = min(width, height)
    return max(side, width * side // short), max(side, height * side // short)


def _check_size(size: tuple[int, int], options: DecodeOptions) -> None:
    """Refuse an image that is too large, before or after resizing."""
    sizes = {"": size}
    if options.resize is not None:
        sizes[", resized"] = _scaled_size(size, options.resize)
    for how, (width, height) in sizes.items():
        if width * height > options.max_pixels:
            raise UnreadableImageError(
                f"it has {width}x{height} pixels{how}, more than --max-pixels {options.max_pixels}",
                f"read it with --max-pixels {width * height} if you trust it",
            )


def _opened(raw: bytes) -> Image:
    """The image in a file, not loaded, whatever its size: `decode` checks it."""
    from PIL import Image as Pillow

    try:
        return Pillow.open(io.BytesIO(raw), formats=formats())
    except Pillow.DecompressionBombError:
        with _UNLIMITED:  # Pillow's limit is a global variable
            limit, Pillow.MAX_IMAGE_PIXELS = Pillow.MAX_IMAGE_PIXELS, None
            try:
                return Pillow.open(io.BytesIO(raw), formats=formats())
            finally:
                Pillow.MAX_IMAGE_PIXELS = limit
