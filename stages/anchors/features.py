"""Read text features: .npy without pickle, or a tensor of a safetensors file."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from tokenize import TokenError

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from stages.artifacts import read_file
from stages.errors import InputError, UsageError, nearest


def read_features(spec: str) -> tuple[np.ndarray, str, str]:
    """Read a (C, D) feature matrix.

    Args:
        spec: `FILE.npy`, `FILE.safetensors`, or `FILE:TENSOR` for a safetensors file with several tensors.

    Returns:
        the matrix as float64, the tensor's name ('' for .npy), the SHA-256 of the file.

    Raises InputError if it is unreadable, not (C, D) or not numbers; UsageError for several tensors without a name.
    """
    path, tensor = _split_spec(spec)
    data = read_file(path)
    if data[:6] == b"\x93NUMPY":
        values, tensor = _from_npy(data, path), ""
    else:
        values, tensor = _from_safetensors(data, path, tensor)
    if values.ndim != 2 or values.dtype.kind not in "fiu" or 0 in values.shape:
        raise InputError(
            f"the features in '{path}' have shape {values.shape} and type {values.dtype}, expected numbers (C, D)",
            "export one row per class",
        )
    return values.astype(np.float64), tensor, hashlib.sha256(data).hexdigest()


def _split_spec(spec: str) -> tuple[Path, str]:
    if Path(spec).exists() or ":" not in spec:
        return Path(spec), ""
    path, _, tensor = spec.rpartition(":")
    return Path(path), tensor


def _from_npy(data: bytes, path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    except (ValueError, EOFError, MemoryError, SyntaxError, TokenError) as error:  # the last two for a damaged header
        raise InputError(f"'{path}' is not a plain .npy array: {error}", "save it with numpy.save from a float array") from None


def _from_safetensors(data: bytes, path: Path, tensor: str) -> tuple[np.ndarray, str]:
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"'{path}' is neither a .npy nor a safetensors file: {error}", "give features in one of these two formats"
        ) from None
    if tensor:
        if tensor not in tensors:
            raise InputError(f"'{path}' has no tensor '{tensor}'", f"it has: {nearest(tensor, tensors, 8)}")
        return tensors[tensor], tensor
    if len(tensors) != 1:
        raise UsageError(
            f"'{path}' has {len(tensors)} tensors", f"name one as --features {path}:NAME; it has: {nearest('', tensors, 8)}"
        )
    return next((value, name) for name, value in tensors.items())
