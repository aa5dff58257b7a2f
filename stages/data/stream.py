"""Worker processes that read and decode images ahead of the training loop."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from stages.data.feed import Feed
from stages.data.reader import Reader
from stages.data.streamed import StreamedSet
from stages.devices import send
from stages.errors import ComputeError, LaatError

MOST_WORKERS = 8
AHEAD = 2  # parts that each worker prepares ahead
_ORPHAN_POLL_SECONDS = 0.5


def worker_count(device: str, processes: int = 1) -> int:
    """How many workers feed one training process: the cores it can have, at most 8; a quarter of them where it computes on
    cores too.

    Args:
        device: torch device.
        processes: how many on this machine train.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = cores // processes
    return max(1, min(MOST_WORKERS, share // 4 if device == "cpu" else share))


class StreamFeed(Feed):
    """Images are read and decoded by worker processes, in the order of the parts.

    The workers start with the first part and stay for the next call. They answer to nobody but the feed: they ignore Ctrl-C and
    SIGTERM, which reach a whole process group, and end by themselves when the process that started them is gone.
    """

    def __init__(self, images: StreamedSet, device: str, *, workers: int) -> None:
        self._images, self._device, self._workers = images, device, workers
        self._positions = images.positions()
        self._labels = images.labels.to(device)
        self._parts = _Parts()
        self._loader: Any = None

    def batches(self, parts: Sequence[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """As `Feed.batches`."""
        self._parts.positions = [self._positions[part.numpy()] for part in parts]
        read = self._start()
        for part in parts:
            pixels = self._next(read)
            yield send(torch.from_numpy(pixels), self._device), self._labels[send(part, self._device)]

    def close(self) -> None:
        """End the workers."""
        self._loader = None

    def _start(self) -> Iterator[np.ndarray | LaatError]:
        if self._loader is None:
            self._loader = DataLoader(
                _Worker(self._images.reader, self._images.size),
                batch_sampler=self._parts,
                num_workers=self._workers,
                collate_fn=_as_it_is,
                worker_init_fn=_begin,
                prefetch_factor=AHEAD,
                persistent_workers=True,
                generator=torch.Generator(),  # else every start would draw from the global stream
                # Where it can be: nothing is imported again, and what the parent has read is shared. Workers use neither
                # torch nor its threads, which do not survive a fork.
                multiprocessing_context="fork" if sys.platform == "linux" else None,
            )
        with _signals_wait(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork where there are threads
            return iter(self._loader)

    def _next(self, read: Iterator[np.ndarray | LaatError]) -> np.ndarray:
        try:
            found = next(read)
        except RuntimeError as error:  # how the loader says that a worker is gone
            self.close()
            raise ComputeError(
                f"a process that reads the images of '{self._images.reader.name}' has died",
                "it may have run out of memory: try a smaller --batch-size or --resize",
            ) from error
        if isinstance(found, LaatError):
            self.close()
            raise found
        return found


class _Parts(Sampler[Any]):
    """The parts that are wanted now, as the loader's batches; it asks again whenever it starts over."""

    def __init__(self) -> None:
        self.positions: list[np.ndarray] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.positions)

    def __len__(self) -> int:
        return len(self.positions)


class _Worker(Dataset[Any]):
    """What runs in a worker process.

    Pixels come back as numpy arrays, which travel through a pipe: tensors would need shared memory, of which a container may
    have little. Errors come back as values: raised, they would arrive as text inside another error.
    """

    def __init__(self, reader: Reader, size: tuple[int, int]) -> None:
        self._reader, self._size = reader, size

    def __len__(self) -> int:
        return len(self._reader)

    def __getitems__(self, positions: np.ndarray) -> np.ndarray | LaatError:
        try:
            return self._reader.pixels(positions, self._size)
        except LaatError as error:
            return error


def _as_it_is(found: Any) -> Any:
    return found


def _begin(_: int) -> None:
    """Called first thing in a worker."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    parent = os.getppid()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, even while it waits for somebody to take its images."""
    while os.getppid() == parent:
        time.sleep(_ORPHAN_POLL_SECONDS)
    os._exit(0)


_STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Within: Ctrl-C and SIGTERM wait, so that none finds a new process before that has said how it takes them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
