"""Encoded images to pixels: any mode Pillow reads to 8-bit RGB, upright, all of one size, many at a time."""

from __future__ import annotations

import io
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from stages.errors import InputError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset(
    f".{kind}"
    for kind in (
        *("png", "jpg", "jpeg", "jpe", "jfif", "gif", "bmp", "webp"),
        *("tif", "tiff", "ppm", "pgm", "pbm", "jp2", "avif", "heic"),
    )
)
# Only plain picture formats: Pillow's readers of PostScript and the like start other programs.
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
CHUNK = 64  # images a task of the thread pool, and fewer where they are large
CHUNK_BYTES = 4 * 2**20
ORIENTATION = 0x0112  # EXIF tag

T = TypeVar("T")


@dataclass(frozen=True)
class Encoded:
    """One image, not decoded.

    Attributes:
        where: names it in messages.
        content: its bytes, its path, pixels uint8 (H, W, 3) where there is nothing to decode, or None if absent.
    """

    where: str
    content: bytes | Path | np.ndarray | None


class UnreadableImageError(Exception):
    """The bytes are not an image that can be decoded; the message says why."""


@dataclass(frozen=True)
class Decoded:
    """Result of `decode_images`.

    Attributes:
        pixels: uint8 (N, 3, H, W).
        kept: int64 (N,), which of the given images these are.
        skipped: number of images left out as corrupt.
    """

    pixels: np.ndarray
    kept: np.ndarray
    skipped: int


def decode_images(
    encoded: Iterable[Encoded], count: int, *, source: str, resize: int | None = None, skip_corrupt: bool = False
) -> Decoded:
    """Decode `count` images in parallel.

    Args:
        encoded: the images; read only as far ahead as the threads need.
        count: how many there are.
        source: name of the data, for messages.
        resize: bring the shorter side to this many pixels (bicubic, antialiased) and crop the centre square;
            None takes the images as they are.
        skip_corrupt: leave out and count what cannot be decoded.

    Raises InputError on the first corrupt image (unless skipped), on images of different sizes, and on files that
    cannot be opened; UsageError on a resize below 1.
    """
    check_resize(resize)
    pixels: np.ndarray | None = None
    kept: list[int] = []
    first = ""
    for at, (image, result) in enumerate(in_order(encoded, lambda image: attempt(image, resize))):
        if isinstance(result, UnreadableImageError):
            if skip_corrupt:
                continue
            raise corrupt(image.where, source, result)
        if pixels is None:
            pixels, first = _room_for(count, result.shape, source), image.where
        if result.shape != (*pixels.shape[2:], 3):
            raise different_sizes(source, (first, pixels.shape[2:]), (image.where, result.shape))
        pixels[len(kept)] = result.transpose(2, 0, 1)
        kept.append(at)
    if pixels is None:
        pixels = np.empty((0, 3, resize or 1, resize or 1), dtype=np.uint8)
    skipped = count - len(kept)
    return Decoded(pixels[: len(kept)].copy() if skipped else pixels, np.array(kept, dtype=np.int64), skipped)


def check_resize(resize: int | None) -> None:
    """Raise UsageError for a side below 1."""
    if resize is not None and resize < 1:
        raise UsageError(f"--resize {resize} is no image size", "give the side in pixels, for example --resize 32")


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


def _decode(content: bytes | Path | np.ndarray | None, resize: int | None) -> np.ndarray:
    """Pixels uint8 (H, W, 3). Raises UnreadableImageError; OSError with an errno when a file cannot be opened."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    if isinstance(content, np.ndarray):
        return content if resize is None else np.asarray(resized(Pillow.fromarray(content), resize))
    if not content:
        raise UnreadableImageError("it is empty")
    raw = content.read_bytes() if isinstance(content, Path) else content
    try:
        with Pillow.open(io.BytesIO(raw), formats=_formats()) as image:
            rgb = to_rgb(image)
            return np.asarray(rgb if resize is None else resized(rgb, resize))
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        raise UnreadableImageError("it is no image") from None
    except Exception as error:  # Pillow's readers raise nearly anything on broken files
        raise UnreadableImageError(str(error).rstrip(".") or type(error).__name__) from error


@cache
def _formats() -> list[str]:
    from PIL import Image as Pillow

    Pillow.init()
    return [name for name in FORMATS if name in Pillow.OPEN]


def in_order(encoded: Iterable[Encoded], work: Callable[[Encoded], T]) -> Iterator[tuple[Encoded, T]]:
    """Each image with what `work` makes of it, in the given order, many at a time; read only as far ahead as needed.

    `work` runs in threads: decoding lets go of the interpreter's lock.
    """
    _formats()  # Pillow loads its readers; not in several threads at once
    threads = max(1, min(16, os.cpu_count() or 1))
    chunks = _chunks(encoded)
    waiting: deque[tuple[list[Encoded], Future[list[T]]]] = deque()
    with quiet_pillow(), ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                while len(waiting) < 2 * threads and (chunk := next(chunks, None)):
                    waiting.append((chunk, pool.submit(lambda chunk: [work(image) for image in chunk], chunk)))
                if not waiting:
                    return
                chunk, future = waiting.popleft()
                yield from zip(chunk, future.result(), strict=True)
        finally:
            for _, future in waiting:
                future.cancel()


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Within: no warnings. Pillow warns of odd metadata and of large pictures; what fails, raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _chunks(encoded: Iterable[Encoded]) -> Iterator[list[Encoded]]:
    chunk: list[Encoded] = []
    size = 0
    for image in encoded:
        chunk.append(image)
        size += len(image.content) if isinstance(image.content, bytes) else 0
        if len(chunk) == CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def attempt(image: Encoded, resize: int | None) -> np.ndarray | UnreadableImageError:
    """Pixels uint8 (H, W, 3), or why there are none. Raises InputError for a file that cannot be opened."""
    try:
        return _decode(image.content, resize)
    except UnreadableImageError as error:
        return error
    except OSError as error:
        raise InputError(f"image {image.where} cannot be opened ({error.strerror})", "check the file") from None


def corrupt(where: str, source: str, why: UnreadableImageError) -> InputError:
    """The error for an image that cannot be decoded."""
    return InputError(
        f"image {where} of the data '{source}' cannot be decoded ({why})",
        "repair or remove it, or leave such images out with --skip-corrupt",
    )


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


def different_sizes(source: str, *images: tuple[str, tuple[int, ...]]) -> InputError:
    """The error for two images, each given by its name and (height, width, …)."""
    (one, first), (other, second) = images
    return InputError(
        f"the data '{source}' has images of different sizes: {one} is {first[1]}x{first[0]}, "
        f"{other} is {second[1]}x{second[0]}",
        f"bring them to one size, for example with --resize {min(first[:2])}",
    )
