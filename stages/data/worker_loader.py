"""Worker processes that read and decode images ahead of the training loop."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from stages.data.loader import ImageLoader
from stages.data.streaming_set import StreamingImageSet
from stages.data.subset import Subset
from stages.devices import send
from stages.errors import ComputeError, LaatError

MOST_WORKERS = 8
AHEAD = 2  # parts that each worker prepares ahead
_POLL_SECONDS = 1.0
_FAREWELL_SECONDS = 1.0
_STOPPING = (signal.SIGINT, signal.SIGTERM)


def worker_count(device: str, processes: int = 1) -> int:
    """How many workers read for one training process: the cores it can have, at most 8; a quarter of them where it computes on
    cores too.

    Args:
        device: torch device.
        processes: how many on this machine train.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = cores // processes
    return max(1, min(MOST_WORKERS, share // 4 if device == "cpu" else share))


class WorkerLoader(ImageLoader):
    """Images are read and decoded by worker processes, in the order of the parts.

    The workers start with the first batch and stay for the next call. They ignore Ctrl-C and SIGTERM, which reach a whole
    process group; they end when the loader is closed or the process that started them is gone.
    """

    def __init__(self, images: StreamingImageSet, device: str, *, workers: int) -> None:
        self._images, self._device, self._workers = images, device, workers
        self._positions = images.positions()
        self._labels = images.labels.to(device)
        self._parts = _Parts()
        self._loader: Any = None
        self._lifeline: Connection | None = None
        self._at_exit = partial(_close, weakref.ref(self))

    def batches(self, parts: Sequence[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """As `ImageLoader.batches`."""
        self._parts.positions = [self._positions[part.numpy()] for part in parts]
        read = self._start()
        for part in parts:
            pixels = self._next(read)
            yield send(torch.from_numpy(pixels), self._device), self._labels[send(part, self._device)]

    def close(self) -> None:
        """End the workers."""
        loader, lifeline = self._loader, self._lifeline
        self._loader = self._lifeline = None
        atexit.unregister(self._at_exit)
        if lifeline is not None:
            lifeline.close()
        # Not left to the garbage collector: from a cycle, such as an error's traceback makes, the loader's queues go before it
        # can tell the workers.
        started = getattr(loader, "_iterator", None)
        if started is not None:
            started._shutdown_workers()

    def _start(self) -> Iterator[np.ndarray | LaatError]:
        # The loader warns of threads where it forks, and of more workers than cores.
        with _signals_wait(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self._loader is None:
                forks = sys.platform == "linux"
                theirs, self._lifeline = Pipe(duplex=False)
                atexit.register(self._at_exit)  # else the end of the process would wait for the workers for ever
                self._loader = DataLoader(
                    _Worker(self._images.subset, self._images.size),
                    batch_sampler=self._parts,
                    num_workers=self._workers,
                    collate_fn=_as_it_is,
                    worker_init_fn=partial(_begin, theirs, self._lifeline if forks else None),
                    prefetch_factor=AHEAD,
                    persistent_workers=True,
                    generator=torch.Generator(),  # else every start would draw from the global stream
                    # Where it can be: nothing is imported again, and what the parent has read is shared. Workers use neither
                    # torch nor its threads, which do not survive a fork.
                    multiprocessing_context="fork" if forks else None,
                )
            return iter(self._loader)

    def _next(self, read: Iterator[np.ndarray | LaatError]) -> np.ndarray:
        try:
            found = next(read)
        except RuntimeError as error:  # how the loader says that a worker is gone
            self.close()
            raise ComputeError(
                f"a process that reads the images of '{self._images.subset.source.name}' has died",
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

    def __init__(self, images: Subset, size: tuple[int, int]) -> None:
        self._images, self._size = images, size

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, positions: np.ndarray) -> np.ndarray | LaatError:
        pixels = np.empty((len(positions), 3, *self._size), dtype=np.uint8)
        try:
            for at, image in self._images.decode_each(positions, np.asarray, size=self._size, parallel=False):
                pixels[at] = image.transpose(2, 0, 1)
        except LaatError as error:
            return error
        return pixels


def _close(loader: weakref.ref[WorkerLoader]) -> None:
    left = loader()
    if left is not None:
        left.close()


def _as_it_is(found: Any) -> Any:
    return found


def _begin(lifeline: Connection, inherited: Connection | None, _: int) -> None:
    """Called first thing in a worker.

    Args:
        lifeline: ends when the loader is closed or its process is gone.
        inherited: the loader's end of it, of which a fork has a copy.
    """
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    if inherited is not None:
        inherited.close()
    gc.freeze()  # looked through for garbage, what is shared with the parent would be copied
    threading.Thread(target=_end_with, args=(lifeline, os.getppid()), daemon=True).start()


def _end_with(lifeline: Connection, parent: int) -> None:
    """End this process when it is not needed any more, even while it waits for somebody to take its images."""
    while not lifeline.poll(_POLL_SECONDS) and os.getppid() == parent:
        pass
    time.sleep(_FAREWELL_SECONDS)  # it may be told to end in good order
    os._exit(0)


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
