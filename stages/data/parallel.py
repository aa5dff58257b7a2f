"""Reading and decoding many images in threads, in their order."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from stages.data.encoded import Encoded, fingerprint

CHUNK = 64  # images per task of the thread pool, and fewer where they are large
CHUNK_BYTES = 4 * 2**20

T = TypeVar("T")


def in_parallel(encoded: Iterable[Encoded], work: Callable[[Encoded], T]) -> Iterator[tuple[Encoded, T]]:
    """Each image with the result of `work`, in the given order; read only as far ahead as the threads need.

    Threads help: reading, hashing and decoding release the interpreter's lock.
    """
    threads = max(1, min(16, os.cpu_count() or 1))
    chunks = _chunks(encoded)
    waiting: deque[tuple[list[Encoded], Future[list[T]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
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


def content_digest(encoded: Iterable[Encoded]) -> str | None:
    """SHA-256 (hex) over the content of images, whatever files they are in; None when a file cannot be read."""
    digest = hashlib.sha256()
    try:
        for _, found in in_parallel(encoded, lambda image: fingerprint(image.read())):
            digest.update(found)
    except OSError:  # decoding them will say which file it is
        return None
    return digest.hexdigest()


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
