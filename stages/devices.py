"""Which torch device a stage runs on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stages.errors import MissingError, UsageError

if TYPE_CHECKING:
    from torch import Tensor


def check_device_name(name: str) -> None:
    """Raise UsageError unless `name` is auto, cpu, cuda, cuda:N or mps. Needs no torch."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise UsageError(f"unknown device '{name}'", "choose auto, cpu, cuda, cuda:N or mps")


def resolve_device(name: str) -> str:
    """The torch device for `name`; 'auto' prefers cuda, then mps, then cpu.

    Raises UsageError for an unknown name and MissingError for a device that is not there.
    """
    check_device_name(name)
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return "cuda" if count else "mps" if mps else "cpu"
    if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= count:
        raise MissingError(
            f"device '{name}' is not there: torch sees {count} CUDA devices", "use --device auto or --device cpu"
        )
    if name == "mps" and not mps:
        raise MissingError("device 'mps' is not there", "use --device auto or --device cpu")
    return name


def send(tensor: Tensor, device: str) -> Tensor:
    """A CPU tensor on `device`, without waiting for what the device is doing."""
    if device.startswith("cuda"):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
