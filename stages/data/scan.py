"""One pass over images that stay on disk: their size, sums of pixel values, digest, and which of them are corrupt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from stages.data import cache
from stages.data.decode import Encoded, UnreadableImageError, attempt, corrupt, different_sizes, in_order
from stages.data.image_set import digest_start
from stages.data.subset import Subset

REPORT_EVERY = 256  # images


@dataclass(frozen=True)
class Scan:
    """The result of a pass over images.

    Attributes:
        size: height and width of all of them.
        kept: int64 (N,), the positions of those that can be decoded.
        sums: int64 (2, N, 3), over each kept image's channels: of the pixel values (0 to 255), and of their squares.
        sha256: what `ImageSet.sha256` gives for the kept images.
    """

    size: tuple[int, int]
    kept: np.ndarray
    sums: np.ndarray
    sha256: str


def scan_images(
    subset: Subset,
    positions: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    *,
    skip_corrupt: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """Decode every image at `positions` once, in parallel, without keeping the pixels.

    Args:
        subset: the images, after `random_access`.
        positions: int64 (N,).
        labels: int64 (N,), the labels of these images.
        classes: the class names that labels are positions in.
        skip_corrupt: leave out images that cannot be decoded.
        on_progress: called every 256 images with the numbers of images done and in all.

    Raises InputError on a corrupt image (unless skipped), on images of different sizes, on files that cannot be opened.
    """
    digest, name = None, subset.source.name
    resize = subset.request.resize
    size, first = (resize or 1, resize or 1), ""
    kept: list[int] = []
    sums = np.empty((2, len(positions), 3), dtype=np.int64)
    for at, (image, found) in enumerate(in_order(subset.encoded(positions), lambda image: _measured(image, resize))):
        if on_progress is not None and at % REPORT_EVERY == 0:
            on_progress(at, len(positions))
        if isinstance(found, UnreadableImageError):
            if not skip_corrupt:
                raise corrupt(image.where, name, found)
            continue
        pixels, sums[:, len(kept)] = found
        if digest is None:
            size, first = (pixels.shape[1], pixels.shape[2]), image.where
            digest = digest_start(len(positions), size, classes)
        if pixels.shape[1:] != size:
            raise different_sizes(name, (first, size), (image.where, pixels.shape[1:]))
        digest.update(pixels.data)
        kept.append(at)
    if len(kept) < len(positions):  # the digest begins with the number of images, which is known only now
        rest = positions[kept]
        return replace(scan_images(subset, rest, labels[kept], classes, on_progress=on_progress), kept=rest)
    digest = digest or digest_start(0, size, classes)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return Scan(size, positions, sums, digest.hexdigest())


def cached_scan(name: str | None) -> Scan | None:
    """The scan of an earlier run."""
    tensors = cache.fetch_tensors(name)
    if tensors is None or set(tensors) != {"size", "kept", "sums", "sha256"}:
        return None
    height, width = tensors["size"].tolist()
    return Scan((height, width), tensors["kept"], tensors["sums"], tensors["sha256"].tobytes().hex())


def cache_scan(name: str | None, found: Scan) -> None:
    """Write a scan to the disk cache, if possible."""
    digest = np.frombuffer(bytes.fromhex(found.sha256), dtype=np.uint8)
    cache.keep_tensors(name, {"size": np.array(found.size), "kept": found.kept, "sums": found.sums, "sha256": digest})


def _measured(image: Encoded, resize: int | None) -> tuple[np.ndarray, np.ndarray] | UnreadableImageError:
    """The pixels, uint8 (3, H, W), with their sums and those of their squares, int64 (2, 3)."""
    found = attempt(image, resize)
    if isinstance(found, UnreadableImageError):
        return found
    pixels = np.ascontiguousarray(found.transpose(2, 0, 1))
    levels = pixels.reshape(3, -1).astype(np.float64)  # exact: the sums are integers far below 2^53
    squares = np.einsum("ci,ci->c", levels, levels)
    return pixels, np.stack([levels.sum(axis=1), squares]).astype(np.int64)
