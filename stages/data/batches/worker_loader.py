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
from torch.utils.data import DataLoader, Dataset

from stages.data.batches.image_loader import ImageLoader
from stages.data.streaming_set import StreamingImageSet
from stages.data.subset import Subset
from stages.devices import send
from stages.errors import ComputeError, LaatError

MAX_WORKERS = 8
PREFETCH = 2  # batches that each worker prepares ahead
_POLL_SECONDS = 1.0
_GRACE_SECONDS = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def worker_count(device: str, processes: int = 1) -> int:
    """The number of workers for one training process: its share of the cores, at most 8; a quarter of it when training on CPU.

    Args:
        device: torch device.
        processes: the number of training processes on this machine.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = cores // processes
    return max(1, min(MAX_WORKERS, share // 4 if device == "cpu" else share))


class WorkerLoader(ImageLoader):
    """Images are read and decoded by worker processes.

    The workers start with the first batch and stay for the next call. They ignore Ctrl-C and SIGTERM, which reach a whole
    process group; they end when the loader is closed or the process that started them is gone.
    """

    def __init__(self, images: StreamingImageSet, device: str, *, workers: int) -> None:
        self._images, self._device, self._workers = images, device, workers
        self._positions = images.positions()
        self._labels = images.labels.to(device)
        self._wanted: list[np.ndarray] = []  # the batches of the current call; the DataLoader iterates over it again each time
        self._loader: Any = None
        self._lifeline: Connection | None = None
        self._at_exit = partial(_close, weakref.ref(self))

    def batches(self, indices: Sequence[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """As `ImageLoader.batches`."""
        self._wanted[:] = [self._positions[batch.numpy()] for batch in indices]
        read = self._start()
        for batch in indices:
            pixels = self._next(read)
            yield send(torch.from_numpy(pixels), self._device), self._labels[send(batch, self._device)]

    def close(self) -> None:
        """End the workers."""
        loader, lifeline = self._loader, self._lifeline
        self._loader = self._lifeline = None
        atexit.unregister(self._at_exit)
        if lifeline is not None:
            lifeline.close()
        # The garbage collector may free the queues of a loader in a reference cycle before its workers are told to stop.
        if getattr(loader, "_iterator", None) is not None:
            loader._iterator._shutdown_workers()

    def _start(self) -> Iterator[np.ndarray | LaatError]:
        with _signals_blocked(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads where it forks, and of more workers than cores
            if self._loader is None:
                forks = sys.platform == "linux"
                theirs, self._lifeline = Pipe(duplex=False)
                atexit.register(self._at_exit)  # otherwise the process would wait for the workers forever
                self._loader = DataLoader(
                    _Worker(self._images.subset, self._images.size),
                    batch_sampler=self._wanted,  # type: ignore[arg-type]  # arrays instead of lists
                    num_workers=self._workers,
                    collate_fn=_identity,
                    worker_init_fn=partial(_start_worker, theirs, self._lifeline if forks else None),
                    prefetch_factor=PREFETCH,
                    persistent_workers=True,
                    generator=torch.Generator(),  # otherwise each start would advance the global generator
                    # A fork imports nothing again and shares what the parent has read. Workers use neither torch nor its
                    # threads, which do not survive a fork.
                    multiprocessing_context="fork" if forks else None,
                )
            return iter(self._loader)

    def _next(self, read: Iterator[np.ndarray | LaatError]) -> np.ndarray:
        try:
            found = next(read)
        except RuntimeError as error:  # the DataLoader's error for a dead worker
            self.close()
            raise ComputeError(
                f"a process that reads the images of '{self._images.provenance.source}' has died",
                "it may have run out of memory: try a smaller --batch-size or --resize",
            ) from error
        if isinstance(found, LaatError):
            self.close()
            raise found
        return found


class _Worker(Dataset[Any]):
    """What a worker process runs.

    Pixels are returned as numpy arrays through a pipe: tensors would need shared memory, of which a container may have little.
    Errors are returned too: raised, they would arrive as text inside another error.
    """

    def __init__(self, images: Subset, size: tuple[int, int]) -> None:
        self._images, self._size = images, size

    def __getitems__(self, positions: np.ndarray) -> np.ndarray | LaatError:
        pixels = np.empty((len(positions), 3, *self._size), dtype=np.uint8)
        try:
            for at, image in self._images.decode_each(positions, lambda image: image.pixels, size=self._size, parallel=False):
                pixels[at] = image.transpose(2, 0, 1)
        except LaatError as error:
            return error
        return pixels


def _identity(found: Any) -> Any:
    return found


def _close(reference: weakref.ref[WorkerLoader]) -> None:
    loader = reference()
    if loader is not None:
        loader.close()


def _start_worker(lifeline: Connection, inherited: Connection | None, _: int) -> None:
    """Initialise a worker.

    Args:
        lifeline: a pipe that ends when the loader is closed or its process is gone.
        inherited: the loader's end of that pipe, of which a fork has a copy.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    if inherited is not None:
        inherited.close()
    gc.freeze()  # garbage collection would copy the memory that is shared with the parent
    threading.Thread(target=_exit_with, args=(lifeline, os.getppid()), daemon=True).start()


def _exit_with(lifeline: Connection, parent: int) -> None:
    """Exit when the loader is gone, even while the main thread waits for its batch to be taken."""
    while not lifeline.poll(_POLL_SECONDS) and os.getppid() == parent:
        pass
    time.sleep(_GRACE_SECONDS)  # for a regular shutdown
    os._exit(0)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM, so that they reach new processes only after these have chosen to ignore them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
