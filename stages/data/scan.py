"""One pass over images that stay on disk: their size, sums and range of pixel values, digest, and which are corrupt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.data.decoding import cache
from stages.data.decoding.rgb import Picture
from stages.data.image_hashes import image_hash
from stages.data.image_set import digest_start
from stages.data.subset import Subset

if TYPE_CHECKING:
    import hashlib

REPORT_EVERY = 256  # images


@dataclass(frozen=True)
class Scan:
    """The result of a pass over images.

    Attributes:
        size: height and width of all of them.
        kept: int64 (N,), the positions of those that can be decoded.
        sums: int64 (2, N, 3), over each kept image's channels: of the pixel values (0 to 255), and of their squares.
        ranges: uint8 (2, N, 3), the lowest and the highest pixel value of each kept image's channels.
        undeclared, resized: bool (N,), see `stages.data.decoding.rgb.Picture`.
        hashes: int64 (N,), see `image_hashes`.
        sha256: what `ImageSet.sha256` gives for the kept images.
    """

    size: tuple[int, int]
    kept: np.ndarray
    sums: np.ndarray
    ranges: np.ndarray
    undeclared: np.ndarray
    resized: np.ndarray
    hashes: np.ndarray
    sha256: str


def scan_images(
    subset: Subset,
    positions: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    *,
    skip_corrupt: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    content: hashlib._Hash | None = None,
) -> Scan:
    """Decode every image at `positions` once, in parallel, without keeping the pixels.

    Args:
        subset: the images, after `random_access`.
        positions: int64 (N,).
        labels: int64 (N,), the labels of these images.
        classes: the class names that labels are positions in.
        skip_corrupt: leave out images that cannot be opened or decoded.
        on_progress: called every 256 images with the numbers of images done and in all.
        content: is updated with the content of every image, see `stages.data.decoding.decode.decode_each`.

    Raises InputError on an image that is corrupt or cannot be opened (unless skipped), and on images of different sizes.
    """
    digest, size = None, (subset.request.resize or 1, subset.request.resize or 1)
    kept: list[int] = []
    sums = np.empty((2, len(positions), 3), dtype=np.int64)
    ranges = np.empty((2, len(positions), 3), dtype=np.uint8)
    undeclared, resized = np.zeros((2, len(positions)), dtype=bool)
    hashes = np.empty(len(positions), dtype=np.int64)
    for at, found in subset.decode_each(positions, _measured, skip_corrupt=skip_corrupt, content=content):
        if on_progress is not None and at % REPORT_EVERY == 0:
            on_progress(at, len(positions))
        pixels, sums[:, len(kept)], undeclared[len(kept)], resized[len(kept)], hashes[len(kept)] = found
        if digest is None:
            size = pixels.shape[1], pixels.shape[2]
            digest = digest_start(len(positions), size, classes)
        digest.update(pixels.data)
        ranges[:, len(kept)] = pixels.min(axis=(1, 2)), pixels.max(axis=(1, 2))
        kept.append(at)
    if len(kept) < len(positions):  # the digest begins with the number of images, which is known only now
        rest = positions[kept]
        return replace(scan_images(subset, rest, labels[kept], classes, on_progress=on_progress), kept=rest)
    digest = digest or digest_start(0, size, classes)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return Scan(size, positions, sums, ranges, undeclared, resized, hashes, digest.hexdigest())


def cached_scan(name: str | None) -> Scan | None:
    """The scan of an earlier run."""
    found: dict[str, Any] | None = cache.load_tensors(name, {field.name for field in fields(Scan)})
    if found is None:
        return None
    return Scan(**{**found, "size": tuple(found["size"].tolist()), "sha256": found["sha256"].tobytes().hex()})


def cache_scan(name: str | None, found: Scan) -> None:
    """Write a scan to the disk cache, if possible."""
    digest = np.frombuffer(bytes.fromhex(found.sha256), dtype=np.uint8)
    cache.save_tensors(name, {**vars(found), "size": np.array(found.size), "sha256": digest})


def _measured(image: Picture) -> tuple[np.ndarray, np.ndarray, bool, bool, int]:
    """The pixels, uint8 (3, H, W), their sums and those of their squares, int64 (2, 3), the flags of `Picture`, their hash."""
    pixels = np.ascontiguousarray(image.pixels.transpose(2, 0, 1))
    levels = pixels.reshape(3, -1).astype(np.float64)  # exact: the sums are integers far below 2^53
    squares = np.einsum("ci,ci->c", levels, levels)
    sums = np.stack([levels.sum(axis=1), squares]).astype(np.int64)
    return pixels, sums, image.undeclared, image.resized, image_hash(pixels)
