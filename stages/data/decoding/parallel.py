"""Reading and decoding many images in threads, in their order."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from stages.data.decoding.encoded import UNREADABLE, Encoded, fingerprint

CHUNK = 64  # images per task of the thread pool, and fewer where they are large
CHUNK_BYTES = 4 * 2**20
WAITING_BYTES = 256 * 2**20  # of images that are read ahead, encoded and decoded

T = TypeVar("T")


def in_parallel(
    encoded: Iterable[Encoded], work: Callable[[Encoded], T], weigh: Callable[[T], int]
) -> Iterator[tuple[Encoded, T]]:
    """Each image with the result of `work`, in the given order; read only as far ahead as the threads need.

    Threads help: reading, hashing and decoding release the interpreter's lock. Images wait one at a time until one has been
    weighed, and then so many that their bytes stay within bounds.

    Args:
        encoded: the images.
        work: called in several threads.
        weigh: the bytes that a result takes; 0 where it does not show what others will take.
    """
    threads = max(1, min(16, os.cpu_count() or 1))
    images = iter(encoded)
    waiting: deque[tuple[list[Encoded], int, Future[list[T]]]] = deque()
    heaviest, taken = 0, 0
    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                while not waiting or (heaviest and len(waiting) < 2 * threads and taken < WAITING_BYTES):
                    chunk, size = _chunk(images, min(CHUNK, CHUNK_BYTES // heaviest) if heaviest else 1)
                    if not chunk:
                        break
                    size += heaviest * len(chunk)
                    taken += size
                    waiting.append((chunk, size, pool.submit(lambda chunk: [work(image) for image in chunk], chunk)))
                if not waiting:
                    return
                chunk, size, future = waiting.popleft()
                results = future.result()
                taken -= size
                heaviest = max(heaviest, *map(weigh, results))
                yield from zip(chunk, results, strict=True)
        finally:
            for *_, future in waiting:
                future.cancel()


def content_digest(encoded: Iterable[Encoded]) -> str:
    """SHA-256 (hex) over the content of images, whatever files they are in."""
    digest = hashlib.sha256()
    for _, found in in_parallel(encoded, _fingerprint, len):
        digest.update(found)
    return digest.hexdigest()


def _fingerprint(image: Encoded) -> bytes:
    try:
        return fingerprint(image.read())
    except OSError:
        return UNREADABLE


def _chunk(images: Iterator[Encoded], most: int) -> tuple[list[Encoded], int]:
    """The next images, at least one and at most `most`, and the bytes they hold; fewer where these are many."""
    chunk: list[Encoded] = []
    size = 0
    for image in images:
        chunk.append(image)
        size += len(image.content) if isinstance(image.content, bytes) else 0
        if len(chunk) >= most or size >= CHUNK_BYTES:
            break
    return chunk, size
