"""One generator per purpose, derived from the seed and the purpose's name. No global generator is used, but by randomised
models: theirs are seeded for each draw."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for `purpose` ('weights', 'order', 'attack/pgd-20', …), independent of other purposes."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def torch_generator(seed: int, purpose: str, device: str = "cpu") -> torch.Generator:
    """A torch generator on `device` for `purpose`."""
    import torch

    return torch.Generator(device=device).manual_seed(derive_seed(seed, purpose))


def numpy_generator(seed: int, purpose: str) -> np.random.Generator:
    """A numpy generator for `purpose` (Philox: counter based, the same stream on every machine)."""
    return np.random.Generator(np.random.Philox(derive_seed(seed, purpose)))


@contextmanager
def seeded_globally(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch (CPU and `device`); restore their states afterwards."""
    import torch

    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002  # what models draw from
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)  # noqa: NPY002
