"""The rate of a device's matrix units: the upper limit for a training step."""

from __future__ import annotations

import statistics
import time

import torch

from tests.benchmarks.reference import wait

_SIDE = {"cpu": 1024, "cuda": 8192}


def matrix_rate(device: str, dtype: torch.dtype, side: int | None = None, repeats: int = 20) -> float:
    """Operations per second of a large square matrix product of random numbers (zeros would run faster).

    Args:
        device: torch device.
        dtype: of both factors and the product. float32 follows PyTorch's setting: no TF32 by default.
        side: of the matrices; None selects one that fills the device.
        repeats: timed products, after three for warm-up; the median is used.
    """
    side = side or _SIDE[device.partition(":")[0]]
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(side, side, generator=generator).to(device, dtype) for _ in range(2))
    out = torch.empty_like(one)
    times = []
    for turn in range(repeats + 3):
        wait(device)
        start = time.perf_counter()
        torch.mm(one, other, out=out)
        wait(device)
        if turn >= 3:
            times.append(time.perf_counter() - start)
    return 2 * side**3 / statistics.median(times)
