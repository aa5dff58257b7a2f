"""Time two programs in turns, and print and write the figures."""

from __future__ import annotations

import csv
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stages import __version__

HEADER = ["what", "ours ms", "plain ms", "plain/ours", "lowest", "highest", "target", "met"]


@dataclass(frozen=True)
class Pair:
    """Seconds of each repeat of both programs, taken in turns.

    Attributes:
        name: what was timed.
        ours, reference: one value per repeat.
        target: the ratio to reach, or None.
    """

    name: str
    ours: list[float]
    reference: list[float]
    target: float | None = None

    @property
    def ratios(self) -> list[float]:
        """Plain over ours of each repeat, ascending."""
        return sorted(r / o for o, r in zip(self.ours, self.reference, strict=True))

    @property
    def ratio(self) -> float:
        """The median of `ratios`."""
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool:
        """Whether the median ratio reaches the target."""
        return self.target is None or self.ratio >= self.target

    def row(self) -> list[str]:
        """Cells in the order of `HEADER`."""
        ours, reference = (1000 * statistics.median(times) for times in (self.ours, self.reference))
        verdict = ["", ""] if self.target is None else [f"{self.target:g}", "yes" if self.met else "NO"]
        ends = [f"{self.ratio:.2f}", f"{self.ratios[0]:.2f}", f"{self.ratios[-1]:.2f}"]
        return [self.name, f"{ours:.4g}", f"{reference:.4g}", *ends, *verdict]


def alternate(
    name: str, ours: Callable[[], float], reference: Callable[[], float], repeats: int, target: float | None = None
) -> Pair:
    """Run both in turns, after one warm-up turn each; both return the seconds that they took.

    Taking turns keeps the ratio fair when the speed of the machine changes.
    """
    ours(), reference()
    times = [(ours(), reference()) for _ in range(repeats)]
    return Pair(name, [one for one, _ in times], [other for _, other in times], target)


def timed(run: Callable[[], object]) -> float:
    """The seconds that `run` takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def show(rows: Sequence[Sequence[str]]) -> None:
    """Print the rows as a table: first column left-aligned, the others right-aligned."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(size) for cell, size in zip(others, widths[1:], strict=True))]
        print("  ".join(cells).rstrip(), flush=True)


def environment(device: str) -> dict[str, str]:
    """The conditions of a measurement: device, versions, threads and current load."""
    cuda = device.startswith("cuda")
    named = torch.cuda.get_device_name(device) if cuda else f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}"
    return {
        "device": named,
        "laat": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "load": f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def write_csv(file: Path, rows: Sequence[Sequence[str]], belongs_to: dict[str, str]) -> None:
    """Write the table with the conditions repeated in every row, so that files of several machines can be joined."""
    header, *body = rows
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow([*header, *belongs_to])
        writer.writerows([*row, *belongs_to.values()] for row in body)
