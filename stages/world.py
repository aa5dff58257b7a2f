"""The processes that do one command together: who takes which part of the work, and sums over all of them."""

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

# waits: for the others to start and to read their data, and for them within a step
START_SECONDS = 1800.0
STEP_SECONDS = 25.0
_POLL_SECONDS = 0.05
_FAREWELL_SECONDS = 1.0  # the store may go with rank 0: time for the others to read why


@dataclass(frozen=True)
class World:
    """This process among those that work together.

    What waits for other processes raises ComputeError when one of them has died, or does not come in time.

    Attributes:
        rank: of this process, from 0; rank 0 writes.
        size: how many there are.
        group: the process group in which steps are synchronised, on the training device; None when alone.
    """

    rank: int = 0
    size: int = 1
    group: Any = None
    _host: Any = field(default=None, repr=False)  # as `group`, for tensors on the CPU
    _patient: Any = field(default=None, repr=False)  # as `_host`, with a wait of START_SECONDS

    @property
    def leader(self) -> bool:
        """Whether this is the one process that writes and shows."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of a global batch of `count` images; parts differ by at most one image, and may be empty."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor, in place, by its sum over the processes: the same bits in each of them.

        The tensors are on the training device; those of one dtype travel as one message.
        """
        if self.group is None:
            return
        import torch

        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            same = [tensor.detach() for tensor in tensors if tensor.dtype == dtype]
            message = torch.cat([tensor.reshape(-1) for tensor in same])
            with _answering():
                torch.distributed.all_reduce(message, group=self.group)
            for tensor, part in zip(same, message.split([tensor.numel() for tensor in same]), strict=True):
                tensor.copy_(part.view(tensor.shape))

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Whether each flag is True in any process. The training device is not waited for."""
        if self._host is None:
            return flags
        import torch

        raised = torch.tensor([int(flag) for flag in flags])
        with _answering():
            torch.distributed.all_reduce(raised, group=self._host)
        return tuple(count > 0 for count in raised.tolist())

    def barrier(self) -> None:
        """Wait, long if need be, until every process is here: after what one of them does alone, or at a pace of its own."""
        if self._patient is None:
            return
        import torch

        with _answering():
            torch.distributed.all_reduce(torch.zeros(1), group=self._patient)

    def _part(self) -> None:
        """Let go of the groups, whose threads end with them: one that outlives the interpreter aborts the process."""
        for name in ("group", "_host", "_patient"):
            object.__setattr__(self, name, None)

    def agree(self, digest: str, what: str) -> None:
        """Compare `digest` over the processes; waits as `barrier` does.

        Raises InputError in every process when one has another `what`, for example 'settings'.
        """
        if self._patient is None:
            return
        import torch

        own = torch.frombuffer(bytearray(hashlib.sha256(digest.encode()).digest()), dtype=torch.uint8)
        found = [torch.empty_like(own) for _ in range(self.size)]
        with _answering():
            torch.distributed.all_gather(found, own, group=self._patient)
        others = [str(rank) for rank, its in enumerate(found) if not torch.equal(its, found[0])]
        if others:
            raise InputError(
                f"the processes do not have the same {what}: rank {', '.join(others)} differs from rank 0",
                "start all of them with the same command line, and with the same files on every machine",
            )


@contextmanager
def _unheard() -> Iterator[None]:
    """Within: what libraries print on standard output is lost. The gloo of torch 2.9 says there whom it is connected to."""
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
    """Meet the other processes of the launch, and part from them at the end or at an error.

    Alone, nothing of torch.distributed is touched. Otherwise steps are synchronised by NCCL on CUDA and by gloo on the CPU.
    An error that several processes raise alike is marked `repeated` in all but one of them.

    Args:
        device: of this process, from `resolve_device`.
        launch: from `read_launch`.
        start_seconds: how long to wait for the others to start, to read their data, and for what one of them does alone.
        step_seconds: how long to wait for them within a step.

    Raises:
        UsageError: processes that were started with different WORLD_SIZE or the same RANK.
        MissingError: an address that is not known here.
        ComputeError: another process did not start, or stopped answering.
    """
    if launch.size == 1:
        yield World()
        return
    import torch
    from torch import distributed

    store, world = _meet(launch, start_seconds), None
    try:
        with _answering():
            step = timedelta(seconds=step_seconds)
            with _unheard():
                distributed.init_process_group(
                    "gloo", store=store, rank=launch.rank, world_size=launch.size, timeout=timedelta(seconds=start_seconds)
                )
                World(launch.rank, launch.size, _patient=distributed.group.WORLD).agree(
                    device.partition(":")[0], "kind of device"
                )
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
            # this process is ending: a launcher that says so must not cut off its message
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        error.repeated = _told_before(error, store)
        raise
    finally:
        with suppress(RuntimeError):  # what fails here has been told already
            if distributed.is_initialized():
                distributed.destroy_process_group()
        if world is not None:
            world._part()


def _meet(launch: Launch, seconds: float) -> Any:
    """A store that all processes of the launch have come to, each once and each expecting the same number."""
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
            is_master=launch.rank == 0 and not _torchrun_keeps_the_store(),
            wait_for_workers=False,
            timeout=timedelta(seconds=seconds),
            multi_tenant=True,
        )
        # a launcher that starts the processes anew after a failure may keep the store
        own = PrefixStore(f"laat/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        _count(own, launch, seconds)
    except RuntimeError as error:
        raise ComputeError(
            f"the {launch.size} processes could not meet at {launch.address}:{launch.port}",
            "check that every machine reaches that address and that the port is free",
        ) from error
    return own


def _torchrun_keeps_the_store() -> bool:
    """Whether the store outlives every process of the run; otherwise it goes with rank 0."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)


def _count(store: Any, launch: Launch, seconds: float) -> None:
    """Wait until all have come."""
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
                time.sleep(_FAREWELL_SECONDS)
            raise UsageError(refusal, "start them with torchrun, the same --nnodes and --nproc-per-node on every machine")
        come = store.add("come", 0)
        if come >= launch.size:
            return
        if time.monotonic() > deadline:
            raise ComputeError(
                f"{come} of {launch.size} processes came within {seconds:.0f} s", "look for the errors of the others"
            )
        time.sleep(_POLL_SECONDS)


class _LostError(ComputeError):
    """Another process died or does not answer."""


def _told_before(error: LaatError, store: Any) -> bool:
    """Whether another process told this error, or, where this one only lost another, any error."""
    if isinstance(error, _LostError) and not _torchrun_keeps_the_store():
        return False
    earlier: list[int] = []

    def ask() -> None:
        with suppress(RuntimeError):
            if isinstance(error, _LostError):
                earlier.append(store.add("told", 1) - 1)
            else:
                store.add("told", 1)
                earlier.append(store.add(f"error/{error}", 1) - 1)

    # the store may be lost as well: without a trace, if its machine is
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_FAREWELL_SECONDS)
    return bool(earlier and earlier[0])


@contextmanager
def _answering() -> Iterator[None]:
    """Within: what fails because another process died or does not answer becomes a ComputeError."""
    from torch import distributed

    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        raise _LostError(
            "another process of the run stopped answering",
            "look for its own error, then start again (train: with --resume auto)",
        ) from error
