"""Decoding many images, all of one size, in parallel."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

import numpy as np

from stages.data.decoding.encoded import UNREADABLE, Encoded, fingerprint
from stages.data.decoding.levels import UnreadableImageError
from stages.data.decoding.parallel import in_parallel
from stages.data.decoding.rgb import Picture, decode, formats
from stages.data.request import DecodeOptions
from stages.errors import InputError

if TYPE_CHECKING:
    import hashlib

T = TypeVar("T")


class Decoded(NamedTuple):
    """Images in one array.

    Attributes:
        pixels: uint8 (N, 3, H, W).
        kept: int64 (N,), the positions of these images among the given ones.
        undeclared, resized: bool (N,), see `stages.data.decoding.rgb.Picture`.
    """

    pixels: np.ndarray
    kept: np.ndarray
    undeclared: np.ndarray
    resized: np.ndarray


def decode_images(encoded: Iterable[Encoded], count: int, *, source: str, options: DecodeOptions, **others: Any) -> Decoded:
    """Decode `count` images in parallel into one array; arguments and errors are those of `decode_each`."""
    side = options.resize or 1
    pixels = np.empty((0, 3, side, side), dtype=np.uint8)
    kept: list[int] = []
    undeclared: list[bool] = []
    changed: list[bool] = []
    for at, image in decode_each(encoded, lambda image: image, source=source, options=options, **others):
        if not kept:
            pixels = _room_for(count, image.pixels.shape, source)
        pixels[len(kept)] = image.pixels.transpose(2, 0, 1)
        kept.append(at)
        undeclared.append(image.undeclared)
        changed.append(image.resized)
    return Decoded(
        pixels if len(kept) == count else pixels[: len(kept)].copy(),
        np.array(kept, dtype=np.int64),
        np.array(undeclared, dtype=bool),
        np.array(changed, dtype=bool),
    )


class _Result(NamedTuple, Generic[T]):
    """What a thread made of one image: its fingerprint, height and width, and the result of `then`; or why there is none."""

    mark: bytes
    size: tuple[int, int] = (0, 0)
    value: T | None = None
    error: UnreadableImageError | None = None

    @property
    def weight(self) -> int:
        """Bytes of its pixels; 0 where they are not known."""
        return 3 * self.size[0] * self.size[1]


def decode_each(
    encoded: Iterable[Encoded],
    then: Callable[[Picture], T],
    *,
    source: str,
    options: DecodeOptions,
    skip_corrupt: bool = False,
    size: tuple[int, int] | None = None,
    parallel: bool = True,
    content: hashlib._Hash | None = None,
) -> Iterator[tuple[int, T]]:
    """Decode images one by one, in their order.

    Args:
        encoded: the images; read only as far ahead as the threads need.
        then: called with each decoded image, in the thread that decoded it.
        source: name of the data, for messages.
        options: how to decode.
        skip_corrupt: leave out images that cannot be opened or decoded.
        size: height and width that all images must have; None takes those of the first.
        parallel: decode in several threads.
        content: is updated with the content of every image, as in `stages.data.decoding.parallel.content_digest`.

    Yields the position of each image among `encoded`, and the result of `then`.

    Raises InputError on an image that is corrupt or cannot be opened (unless skipped), and on images of different sizes.
    """
    first, large = "the first", Lock()

    def work(image: Encoded) -> _Result[T]:
        mark = UNREADABLE
        try:
            raw = _read(image)
            mark = b"" if content is None else fingerprint(raw)
            decoded = decode(raw, options, large)
            decoded = decoded._replace(undeclared=decoded.undeclared or image.undeclared)
        except UnreadableImageError as error:
            return _Result(mark, error=error)
        found = decoded.pixels.shape[0], decoded.pixels.shape[1]
        return _Result(mark, found, then(decoded) if size in (None, found) else None)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about odd metadata and large images; failures raise
        formats()  # Pillow imports its readers; not in several threads at once
        results = (
            in_parallel(encoded, work, lambda result: result.weight) if parallel else ((one, work(one)) for one in encoded)
        )
        for at, (image, result) in enumerate(results):
            if content is not None:
                content.update(result.mark)
            if result.error is not None:
                if skip_corrupt:
                    continue
                raise InputError(
                    f"image {image.where} of the data '{source}' cannot be {result.error.step} ({result.error})",
                    f"{result.error.hint}, or leave such images out with --skip-corrupt",
                )
            if size is None:
                size, first = result.size, image.where
            if result.size != size:
                (height, width), (other_height, other_width) = size, result.size
                raise InputError(
                    f"the data '{source}' has images of different sizes: {first} is {width}x{height}, "
                    f"{image.where} is {other_width}x{other_height}",
                    f"bring them to one size, for example with --resize {min(size)}",
                )
            yield at, cast("T", result.value)


def decode_readable(
    encoded: Iterable[Encoded], options: DecodeOptions
) -> Iterator[tuple[Encoded, Picture | UnreadableImageError]]:
    """Decode images in parallel, in their order; one that cannot be read comes with the reason, and the rest goes on.

    Args:
        encoded: the images; read only as far ahead as the threads need.
        options: how to decode.
    """
    large = Lock()

    def work(image: Encoded) -> Picture | UnreadableImageError:
        try:
            return decode(_read(image), options, large)
        except UnreadableImageError as error:
            return error.with_traceback(None)

    formats()  # Pillow imports its readers; not in several threads at once
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from in_parallel(encoded, work, lambda found: found.pixels.nbytes if isinstance(found, Picture) else 0)


def _read(image: Encoded) -> bytes | np.ndarray:
    try:
        return image.read()
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error), "check the file", "opened") from None


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
