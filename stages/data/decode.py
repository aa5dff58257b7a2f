"""Decoding images: any mode that Pillow reads to 8-bit RGB, upright, all of one size, in parallel."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from stages.data.encoded import Encoded, fingerprint
from stages.data.parallel import in_parallel
from stages.errors import InputError

if TYPE_CHECKING:
    import hashlib

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
ORIENTATION = 0x0112  # EXIF tag

T = TypeVar("T")


class UnreadableImageError(Exception):
    """The bytes cannot be decoded as an image; the message says why."""


class Decoded(NamedTuple):
    """Pixels, uint8 (N, 3, H, W), and the positions of these images among the given ones, int64 (N,)."""

    pixels: np.ndarray
    kept: np.ndarray


def decode_images(encoded: Iterable[Encoded], count: int, *, source: str, resize: int | None = None, **options: Any) -> Decoded:
    """Decode `count` images in parallel into one array; arguments and errors are those of `decode_each`."""
    pixels = np.empty((0, 3, resize or 1, resize or 1), dtype=np.uint8)
    kept: list[int] = []
    for at, image in decode_each(encoded, np.asarray, source=source, resize=resize, **options):
        if not kept:
            pixels = _room_for(count, image.shape, source)
        pixels[len(kept)] = image.transpose(2, 0, 1)
        kept.append(at)
    return Decoded(pixels if len(kept) == count else pixels[: len(kept)].copy(), np.array(kept, dtype=np.int64))


def decode_each(
    encoded: Iterable[Encoded],
    then: Callable[[np.ndarray], T],
    *,
    source: str,
    resize: int | None = None,
    skip_corrupt: bool = False,
    size: tuple[int, int] | None = None,
    parallel: bool = True,
    content: hashlib._Hash | None = None,
) -> Iterator[tuple[int, T]]:
    """Decode images one by one, in their order.

    Args:
        encoded: the images; read only as far ahead as the threads need.
        then: called with the pixels of each image, uint8 (H, W, 3), in the thread that decoded it.
        source: name of the data, for messages.
        resize: bring the shorter side to this many pixels (bicubic, antialiased) and crop the centre square; None: no resizing.
        skip_corrupt: leave out images that cannot be decoded.
        size: height and width that all images must have; None takes those of the first.
        parallel: decode in several threads.
        content: is updated with the content of every image, as in `stages.data.parallel.content_digest`.

    Yields the position of each image among `encoded`, and the result of `then`.

    Raises InputError on a corrupt image (unless skipped), on images of different sizes, and on files that cannot be opened.
    """
    first = "the first"

    def work(image: Encoded) -> tuple[bytes, tuple[tuple[int, ...], T] | UnreadableImageError]:
        try:
            raw = image.read()
        except OSError as error:
            raise InputError(f"image {image.where} cannot be opened ({error.strerror})", "check the file") from None
        mark = b"" if content is None else fingerprint(raw)
        try:
            pixels = _decode(raw, resize)
        except UnreadableImageError as error:
            return mark, error
        return mark, (pixels.shape, then(pixels))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about odd metadata and large images; failures raise
        _formats()  # Pillow imports its readers; not in several threads at once
        results = in_parallel(encoded, work) if parallel else ((image, work(image)) for image in encoded)
        for at, (image, (mark, found)) in enumerate(results):
            if content is not None:
                content.update(mark)
            if isinstance(found, UnreadableImageError):
                if skip_corrupt:
                    continue
                raise InputError(
                    f"image {image.where} of the data '{source}' cannot be decoded ({found})",
                    "repair or remove it, or leave such images out with --skip-corrupt",
                )
            (height, width, _), result = found
            if size is None:
                size, first = (height, width), image.where
            if (height, width) != size:
                raise InputError(
                    f"the data '{source}' has images of different sizes: {first} is {size[1]}x{size[0]}, "
                    f"{image.where} is {width}x{height}",
                    f"bring them to one size, for example with --resize {min(size)}",
                )
            yield at, result


def to_rgb(image: Image) -> Image:
    """Any Pillow image as upright 8-bit RGB: EXIF orientation applied, 16-bit scaled, palette and alpha dropped."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    image.load()
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise UnreadableImageError("its pixels are floating point")
    if image.mode.startswith("I"):  # convert('RGB') would cut 16-bit values off at 255
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImageError("its pixels have more than 16 bits")
        return Pillow.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def resized(image: Image, side: int) -> Image:
    """The shorter side to `side` pixels (bicubic, antialiased), then the centre `side` x `side` crop."""
    from PIL import Image as Pillow

    width, height = image.size
    short = min(width, height)
    if short != side:
        width, height = max(side, width * side // short), max(side, height * side // short)
        image = image.resize((width, height), Pillow.Resampling.BICUBIC)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return image if (width, height) == (side, side) else image.crop((left, top, left + side, top + side))


def _decode(raw: bytes | np.ndarray, resize: int | None) -> np.ndarray:
    """Pixels uint8 (H, W, 3). Raises UnreadableImageError."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    if isinstance(raw, np.ndarray):
        return raw if resize is None else np.asarray(resized(Pillow.fromarray(raw), resize))
    if not raw:
        raise UnreadableImageError("it is empty")
    try:
        with Pillow.open(io.BytesIO(raw), formats=_formats()) as image:
            rgb = to_rgb(image)
            return np.asarray(rgb if resize is None else resized(rgb, resize))
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        raise UnreadableImageError("it is not an image") from None
    except Exception as error:  # Pillow's readers raise nearly anything on broken files
        raise UnreadableImageError(str(error).rstrip(".") or type(error).__name__) from error


@cache
def _formats() -> list[str]:
    from PIL import Image as Pillow

    Pillow.init()
    return [name for name in FORMATS if name in Pillow.OPEN]


def _room_for(count: int, shape: tuple[int, ...], source: str) -> np.ndarray:
    height, width, channels = shape
    try:
        return np.empty((count, channels, height, width), dtype=np.uint8)
    except MemoryError:
        size = count * channels * height * width / 2**30
        raise InputError(
            f"{count} images of {width}x{height} px of the data '{source}' need {size:.0f} GiB of memory",
            "choose fewer classes or a smaller --resize",
        ) from None
