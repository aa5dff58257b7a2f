"""The environment of a launcher of torch.distributed, such as torchrun. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from stages.errors import UsageError


@dataclass(frozen=True)
class Launch:
    """Rank of this process and number of processes.

    Attributes:
        rank: from 0, over all machines.
        size: number of processes.
        local_rank: from 0, on this machine; the index of its CUDA device.
        address, port: of rank 0.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    address: str = ""
    port: int = 0


def read_launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """Read RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; without RANK and WORLD_SIZE there is one process.

    Raises UsageError for a missing or invalid variable.
    """
    if "RANK" not in environment and "WORLD_SIZE" not in environment:
        return Launch()
    rank, size = (_number(environment, name, None) for name in ("RANK", "WORLD_SIZE"))
    if size < 1:
        raise _invalid("WORLD_SIZE is 0", "it is the number of processes")
    if rank >= size:
        raise _invalid(f"RANK is {rank} and WORLD_SIZE {size}", "ranks count from 0 to WORLD_SIZE - 1")
    local_rank = _number(environment, "LOCAL_RANK", 0)
    if size == 1:
        return Launch(local_rank=local_rank)
    address = environment.get("MASTER_ADDR", "")
    if not address:
        raise _invalid(f"WORLD_SIZE is {size} and MASTER_ADDR is missing", "set it to the machine that rank 0 runs on")
    port = _number(environment, "MASTER_PORT", None)
    if not 0 < port < 1 << 16:
        raise _invalid(f"MASTER_PORT is {port}", "it is a port of rank 0's machine, from 1 to 65535")
    return Launch(rank, size, local_rank, address, port)


def _number(environment: Mapping[str, str], name: str, default: int | None) -> int:
    value = environment.get(name)
    if value is None and default is not None:
        return default
    if value is None:
        others = " and ".join(other for other in ("RANK", "WORLD_SIZE") if other in environment)
        raise _invalid(f"{others} in the environment but not {name}", "set it")
    if not (value.isascii() and value.isdigit()):
        raise _invalid(f"{name} is '{value}', expected a number of at least 0", "fix it")
    return int(value)


def _invalid(what: str, fix: str) -> UsageError:
    return UsageError(what, f"{fix}, or start with torchrun, which sets it; unset RANK and WORLD_SIZE to use one process")
