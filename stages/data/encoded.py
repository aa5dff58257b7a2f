"""Images that are not decoded yet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Encoded:
    """One image, not decoded.

    Attributes:
        where: names it in messages.
        content: its bytes, its path, pixels uint8 (H, W, 3) where there is nothing to decode, or None if absent.
    """

    where: str
    content: bytes | Path | np.ndarray | None

    def read(self) -> bytes | np.ndarray:
        """The bytes or pixels; b'' if absent. Raises OSError when its file cannot be read."""
        if isinstance(self.content, Path):
            return self.content.read_bytes()
        return b"" if self.content is None else self.content


def fingerprint(content: bytes | np.ndarray) -> bytes:
    """SHA-256 of the content of one image, 32 bytes."""
    return hashlib.sha256(content if isinstance(content, bytes) else np.ascontiguousarray(content).data).digest()
