"""Free memory, and whether decoded images fit into it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, get_args

from stages.errors import UsageError

CacheKind = Literal["device", "ram", "none"]
# Training images and the whole set exist at the same time for a while: twice the pixels, and some room.
RAM_SHARE = 1 / 3
DEVICE_SHARE = 1 / 2


def check_cache_name(name: str) -> None:
    """Raise UsageError unless `name` is auto, device, ram or none."""
    if name not in ("auto", *get_args(CacheKind)):
        raise UsageError(f"unknown --cache '{name}'", "choose auto, device, ram or none")


def choose_cache(bytes_needed: int, device: str, *, processes: int = 1) -> tuple[CacheKind, str]:
    """Where to keep decoded images, and a sentence that says why.

    Images that need more than a third of the free RAM are streamed from disk. Others are kept on the device if they need at
    most half of its free memory, else in RAM.

    Args:
        bytes_needed: count x height x width x 3.
        device: torch device.
        processes: the number of processes on this machine that keep the images.
    """
    free = available_ram() // processes
    need = f"{size_in_words(bytes_needed)} of pixels"
    if bytes_needed > RAM_SHARE * free:
        return "none", f"images are streamed from disk: {need}, {size_in_words(free)} of memory free"
    on_device = available_on(device)
    if on_device is not None and bytes_needed <= DEVICE_SHARE * on_device:
        return "device", f"images are kept on {device}: {need}, {size_in_words(on_device)} free there"
    return "ram", f"images are kept in memory: {need}, {size_in_words(free)} free"


def processes_here() -> int:
    """The number of processes that a launcher started on this machine, from LOCAL_WORLD_SIZE; 1 without a launcher."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, int(text)) if text.isdecimal() else 1


def size_in_words(count: float) -> str:
    """'154 MB', '12.3 GB'."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB" if count >= 1e6 else "under 1 MB"


def available_on(device: str) -> int | None:
    """Free bytes of a CUDA device; None for devices that share the machine's memory."""
    if not device.startswith("cuda"):
        return None
    import torch

    return int(torch.cuda.mem_get_info(device)[0])


def available_ram(root: Path = Path("/")) -> int:
    """Bytes that this process can still allocate, considering the limits of its control groups (cgroups).

    Args:
        root: the folder with proc and sys.
    """
    free = [_free_on_machine(root)]
    groups = root / "sys/fs/cgroup"
    # 'hierarchy:controllers:path', as '0::/job' (version 2) or '7:memory:/job' (version 1)
    for controllers, group in re.findall(r"^\d+:(.*?):/(.*)$", _text(root / "proc/self/cgroup"), re.MULTILINE):
        if controllers and "memory" not in controllers.split(","):
            continue
        base, names = (groups / "memory", _V1) if controllers else (groups, _V2)
        folder = base / group
        for place in (folder, *folder.parents):
            free += _free_in_group(place, *names)
            if place == base:
                break
    return max(0, min(free))


_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")


def _free_in_group(group: Path, limit: str, usage: str, reclaimable: str) -> list[int]:
    """Free bytes of a control group, counting cached files that can be dropped as free; [] without a limit."""
    maximum, used = _text(group / limit).strip(), _text(group / usage).strip()
    if not (maximum.isdigit() and used.isdigit()):
        return []
    droppable = re.search(rf"^{reclaimable} (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
    return [int(maximum) - int(used) + (int(droppable[1]) if droppable else 0)]


def _free_on_machine(root: Path) -> int:
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", _text(root / "proc/meminfo"), re.MULTILINE)
    if found:
        return int(found[1]) * 1024
    try:  # other systems do not say what is available
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return 4 * 2**30


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
