"""Torch devices and memory."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages.errors import MissingError, UsageError
from stages.launch import Launch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# the last is all that oneDNN says when an allocation fails
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|bad_alloc|cannot allocate|could not create a (primitive|memory)",
    re.IGNORECASE,
)
_CPU_INFO = Path("/proc/cpuinfo")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def check_device_name(name: str) -> None:
    """Raise UsageError unless `name` is auto, cpu, cuda, cuda:N or mps. Needs no torch."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise UsageError(f"unknown device '{name}'", "choose auto, cpu, cuda, cuda:N or mps")


def resolve_device(name: str, launch: Launch | None = None) -> str:
    """The torch device for `name`; 'auto' prefers cuda, then mps, then cpu.

    With several processes, each gets the CUDA device of its LOCAL_RANK, and mps is not used.

    Raises UsageError for an unknown name, or one that several processes cannot share; MissingError if it is not available.
    """
    check_device_name(name)
    together = launch is not None and launch.size > 1
    if together and (name == "mps" or ":" in name):
        raise UsageError(f"--device {name} cannot be shared by several processes", "use --device auto, cuda or cpu")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if count else "mps" if mps and not together else "cpu"
    if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= count:
        raise MissingError(
            f"device '{name}' is not available: torch sees {count} CUDA devices", "use --device auto or --device cpu"
        )
    if name == "mps" and not mps:
        raise MissingError("device 'mps' is not available", "use --device auto or --device cpu")
    if name == "cuda" and launch is not None and together:
        if launch.local_rank >= count:
            raise MissingError(
                f"LOCAL_RANK is {launch.local_rank} and torch sees {count} CUDA devices on this machine",
                f"start one process per device (torchrun --nproc-per-node {count}), or use --device cpu",
            )
        return f"cuda:{launch.local_rank}"
    return name


def send(tensor: Tensor, device: str) -> Tensor:
    """Copy a CPU tensor to `device` asynchronously."""
    if device.startswith("cuda"):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def has_bf16(device: str) -> bool:
    """Whether bfloat16 is fast on `device`: CUDA with compute capability 8.0 or higher."""
    if not device.startswith("cuda"):
        return False
    import torch

    return torch.cuda.get_device_capability(device) >= (8, 0)


def bf16_units(device: str) -> str:
    """What a CPU calculates with in bfloat16, 'amx_bf16' or 'avx512_bf16'; '' for one without, and for other devices.

    Asks PyTorch, and the Linux kernel where PyTorch is too old to say.
    """
    if device != "cpu":
        return ""
    import torch

    names = ("amx_bf16", "avx512_bf16")
    if hasattr(torch.cpu, "get_capabilities"):
        known = torch.cpu.get_capabilities()
        return next((name for name in names if known.get(name)), "")
    try:
        flags = set(_CPU_INFO.read_text(encoding="utf-8").partition("\nflags")[2].partition("\n")[0].split())
    except OSError:
        return ""
    return next((name for name in names if name in flags), "")


def widest_float(device: str) -> torch.dtype:
    """float64, or float32 on Apple GPUs, which do not support float64."""
    import torch

    return torch.float32 if device.startswith("mps") else torch.float64


def keep_freed_memory(device: str) -> None:
    """On Linux CPUs, keep the memory of freed tensors in the process; elsewhere do nothing.

    glibc returns large blocks to the system at once, and each new tensor then costs a page fault for every 4 KB: a quarter of
    a conv4-64 training step (tests/benchmarks/LOG.md).
    """
    if device != "cpu" or sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def release_freed_memory(device: str) -> None:
    """Return the memory of freed tensors to the system."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
    elif sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, of Python or torch, is that memory ran out."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error))))
