"""Several processes that run one command: shares of a batch, sums and barriers."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from stages.errors import ComputeError, InputError, LaatError, MissingError, UsageError
from stages.launch import Launch

if TYPE_CHECKING:
    from torch import Tensor

# timeouts: for start and reading data, and within a training step
START_SECONDS = 1800.0
STEP_SECONDS = 25.0
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 1.0  # the store may end with rank 0: time for the others to read the error


@dataclass(frozen=True)
class World:
    """This process and the others of a run.

    Waiting for other processes raises ComputeError if one of them has died or times out.

    Attributes:
        rank: of this process, from 0; rank 0 writes.
        size: number of processes.
        group: the process group of training steps, on the training device; None for a single process.
    """

    rank: int = 0
    size: int = 1
    group: Any = None
    _host: Any = field(default=None, repr=False)  # like `group`, for tensors on the CPU
    _slow: Any = field(default=None, repr=False)  # like `_host`, with a timeout of START_SECONDS

    @property
    def leader(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's share of a global batch of `count` images; shares differ by at most one image, and may be empty."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor in place by its sum over the processes, bit-identical in all of them.

        The tensors are on the training device; those of one dtype are sent as one message.
        """
        if self.group is None:
            return
        import torch

        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            same = [tensor.detach() for tensor in tensors if tensor.dtype == dtype]
            message = torch.cat([tensor.reshape(-1) for tensor in same])
            with _lost_process_errors():
                torch.distributed.all_reduce(message, group=self.group)
            for tensor, total in zip(same, message.split([tensor.numel() for tensor in same]), strict=True):
                tensor.copy_(total.view(tensor.shape))

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Whether each flag is True in any process, without synchronizing the training device."""
        if self._host is None:
            return flags
        import torch

        raised = torch.tensor([int(flag) for flag in flags])
        with _lost_process_errors():
            torch.distributed.all_reduce(raised, group=self._host)
        return tuple(count > 0 for count in raised.tolist())

    def barrier(self) -> None:
        """Wait for all processes, with the long timeout."""
        if self._slow is None:
            return
        import torch

        with _lost_process_errors():
            torch.distributed.all_reduce(torch.zeros(1), group=self._slow)

    def _release(self) -> None:
        """Release the groups and end their threads: a thread that outlives the interpreter aborts the process."""
        for name in ("group", "_host", "_slow"):
            object.__setattr__(self, name, None)

    def agree(self, digest: str, what: str) -> None:
        """Compare `digest` over the processes. Raises InputError in all of them if `what`, such as 'settings', differs."""
        if self._slow is None:
            return
        import torch

        own = torch.frombuffer(bytearray(hashlib.sha256(digest.encode()).digest()), dtype=torch.uint8)
        found = [torch.empty_like(own) for _ in range(self.size)]
        with _lost_process_errors():
            torch.distributed.all_gather(found, own, group=self._slow)
        others = [str(rank) for rank, its in enumerate(found) if not torch.equal(its, found[0])]
        if others:
            raise InputError(
                f"the processes do not have the same {what}: rank {', '.join(others)} differs from rank 0",
                "start all of them with the same command line, and with the same files on every machine",
            )


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Discard standard output: gloo of torch 2.9 prints its connections."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def join_world(
    device: str, launch: Launch, *, start_seconds: float = START_SECONDS, step_seconds: float = STEP_SECONDS
) -> Iterator[World]:
    """Initialize torch.distributed for the processes of the launch, with NCCL on CUDA and gloo on the CPU.

    A single process does not use torch.distributed. An error that several processes raise is marked `repeated` in all but one.

    Args:
        device: of this process, from `resolve_device`.
        launch: from `read_launch`.
        start_seconds: timeout for start, reading data, and work of a single process.
        step_seconds: timeout within a training step.

    Raises:
        UsageError: processes with different WORLD_SIZE or the same RANK.
        MissingError: an unknown address.
        ComputeError: another process did not start, or does not respond.
    """
    if launch.size == 1:
        yield World()
        return
    import torch
    from torch import distributed

    store, world = _rendezvous(launch, start_seconds), None
    try:
        with _lost_process_errors():
            step = timedelta(seconds=step_seconds)
            with _quiet_stdout():
                distributed.init_process_group(
                    "gloo", store=store, rank=launch.rank, world_size=launch.size, timeout=timedelta(seconds=start_seconds)
                )
                World(launch.rank, launch.size, _slow=distributed.group.WORLD).agree(device.partition(":")[0], "kind of device")
                host = distributed.new_group(backend="gloo", timeout=step)
                group = host
                if device.startswith("cuda"):
                    torch.cuda.set_device(device)
                    group = distributed.new_group(backend="nccl", timeout=step)
            world = World(launch.rank, launch.size, group, host, distributed.group.WORLD)
            del group, host
            yield world
            world.barrier()
    except LaatError as error:
        if threading.current_thread() is threading.main_thread():
            # the launcher must not end this process before its error is printed
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        error.repeated = _reported_before(error, store)
        raise
    finally:
        with suppress(RuntimeError):  # the error has been reported already
            if distributed.is_initialized():
                distributed.destroy_process_group()
        if world is not None:
            world._release()


def _rendezvous(launch: Launch, seconds: float) -> Any:
    """Connect to the store and wait for all processes; each rank once, all with the same WORLD_SIZE."""
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    try:
        socket.getaddrinfo(launch.address, launch.port)
    except OSError:
        raise MissingError(
            f"MASTER_ADDR '{launch.address}' is not a known machine", "name the machine that rank 0 runs on"
        ) from None
    try:
        store = TCPStore(
            launch.address,
            launch.port,
            is_master=launch.rank == 0 and not _store_outlives_rank_0(),
            wait_for_workers=False,
            timeout=timedelta(seconds=seconds),
            multi_tenant=True,
        )
        # a launcher that restarts the processes after a failure may keep the store
        own = PrefixStore(f"laat/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        _wait_for_all(own, launch, seconds)
    except RuntimeError as error:
        raise ComputeError(
            f"the {launch.size} processes could not connect at {launch.address}:{launch.port}",
            "check that every machine reaches that address and that the port is free",
        ) from error
    return own


def _store_outlives_rank_0() -> bool:
    """Whether torchrun keeps the store; otherwise it ends with rank 0."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)


def _wait_for_all(store: Any, launch: Launch, seconds: float) -> None:
    """Wait until all processes have started."""
    size = int(store.compare_set("size", "", str(launch.size)))
    if size != launch.size:
        found = " and ".join(map(str, sorted((size, launch.size))))
        store.set("refusal", f"the processes were started with mismatching WORLD_SIZE: {found}")
    if store.add(f"rank/{launch.rank}", 1) > 1:
        store.set("refusal", f"two processes were started with RANK {launch.rank}")
    store.add("come", 1)
    deadline = time.monotonic() + seconds
    while True:
        if store.check(["refusal"]):
            refusal = store.get("refusal").decode()
            if launch.rank == 0:
                time.sleep(_GRACE_SECONDS)
            raise UsageError(refusal, "start them with torchrun, the same --nnodes and --nproc-per-node on every machine")
        come = store.add("come", 0)
        if come >= launch.size:
            return
        if time.monotonic() > deadline:
            raise ComputeError(
                f"{come} of {launch.size} processes started within {seconds:.0f} s", "look for the errors of the others"
            )
        time.sleep(_POLL_SECONDS)


class _LostError(ComputeError):
    """Another process died or does not respond."""


def _reported_before(error: LaatError, store: Any) -> bool:
    """Whether another process has reported this error; for a lost process, any error."""
    if isinstance(error, _LostError) and not _store_outlives_rank_0():
        return False
    earlier: list[int] = []

    def ask() -> None:
        with suppress(RuntimeError):
            if isinstance(error, _LostError):
                earlier.append(store.add("reported", 1) - 1)
            else:
                store.add("reported", 1)
                earlier.append(store.add(f"error/{error}", 1) - 1)

    # if the machine of the store is lost, this would hang
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_GRACE_SECONDS)
    return bool(earlier and earlier[0])


@contextmanager
def _lost_process_errors() -> Iterator[None]:
    """Raise ComputeError for failures because another process died or does not respond."""
    from torch import distributed

    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        raise _LostError(
            "another process of the run does not respond",
            "look for its own error, then start again (train: with --resume auto)",
        ) from error
