"""Read text features: .npy without pickle, or a tensor of a safetensors file, of any kind of numbers."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, deserialize

from stages.errors import InputError, UsageError, nearest
from stages.files.reading import read_file
from stages.files.strict_json import parse_json, parse_json_object
from stages.text import counted

# how safetensors calls types -> how numpy and torch do
_OF_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?"} | {
    f"{sign}{8 * size}": f"<{sign.lower()}{size}" for sign in "IU" for size in (1, 2, 4, 8)
}
_OF_TORCH = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}


class Features(NamedTuple):
    """A matrix (C, D), the name of its tensor ('' for .npy), the SHA-256 of the file, and the classes of the rows if it names
    them: in safetensors, 'classes' of the header's metadata, a JSON list."""

    values: np.ndarray
    tensor: str
    sha256: str
    classes: tuple[str, ...] | None


def read_features(spec: str) -> Features:
    """Read a (C, D) feature matrix.

    Args:
        spec: `FILE.npy`, `FILE.safetensors`, or `FILE:TENSOR` for a safetensors file with several tensors.

    Raises InputError if it is unreadable, not (C, D) or not numbers; UsageError for several tensors without a name.
    """
    path, tensor = split_spec(spec)
    data = read_file(path)
    classes = None
    if data[:6] == b"\x93NUMPY":
        values, tensor = _from_npy(data, path), ""
    else:
        values, tensor = _from_safetensors(data, path, tensor)
        classes = _named_classes(data, path)
    if values.ndim != 2 or values.dtype.kind not in "fiu" or 0 in values.shape:
        raise InputError(
            f"the features in '{path}' have shape {values.shape} and type {values.dtype}, expected numbers (C, D)",
            "export one row per class, for example as float32",
        )
    if classes is not None and len(classes) != len(values):
        raise InputError(
            f"the header of '{path}' names {counted(len(classes), 'class', 'classes')} for {counted(len(values), 'row')}",
            "export the features again, with one class for each row",
        )
    return Features(values, tensor, hashlib.sha256(data).hexdigest(), classes)


def split_spec(spec: str) -> tuple[Path, str]:
    """The file that `FILE` or `FILE:TENSOR` names, and the tensor ('' for none)."""
    if Path(spec).exists() or ":" not in spec:
        return Path(spec), ""
    path, _, tensor = spec.rpartition(":")
    return Path(path), tensor


def _from_npy(data: bytes, path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    except Exception as error:  # NumPy raises many types for a damaged header, which is Python's own text of a dict
        raise InputError(f"'{path}' is not a plain .npy array: {error}", "save it with numpy.save from a float array") from None


def _from_safetensors(data: bytes, path: Path, tensor: str) -> tuple[np.ndarray, str]:
    try:
        tensors = dict(deserialize(data))
    except (SafetensorError, ValueError, TypeError) as error:
        raise InputError(
            f"'{path}' is neither a .npy nor a safetensors file: {error}", "give features in one of these two formats"
        ) from None
    if not tensors:
        raise InputError(f"'{path}' has no tensors", "export the features again, one row per class")
    if tensor and tensor not in tensors:
        raise InputError(f"'{path}' has no tensor '{tensor}'", f"it has: {nearest(tensor, tensors, 8)}")
    if not tensor and len(tensors) != 1:
        raise UsageError(
            f"'{path}' has {len(tensors)} tensors", f"name one as --features {path}:NAME; it has: {nearest('', tensors, 8)}"
        )
    name = tensor or next(iter(tensors))
    return _numbers(tensors[name], name, path), name


def _named_classes(data: bytes, path: Path) -> tuple[str, ...] | None:
    """The list of class names in the metadata of a safetensors file that was read already; None if there is none.

    Raises InputError for anything else under that name: rows would be taken in order, although they may be in another one.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    try:
        metadata = parse_json_object(data[8:end]).get("__metadata__") or {}
        found = parse_json(metadata["classes"]) if "classes" in metadata else []
    except ValueError:
        metadata, found = {"classes": ""}, None
    if "classes" not in metadata:
        return None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise InputError(
            f"'classes' in the header of '{path}' is not a JSON list of names",
            "write json.dumps(names) there, a name for each row, or leave it out and give the rows in the order of the names",
        )
    return tuple(found)


def _numbers(found: dict[str, Any], name: str, path: Path) -> np.ndarray:
    """The values of a tensor as it lies in the file. Raises InputError for a type that torch cannot turn into numbers."""
    if found["dtype"] in _OF_NUMPY:
        values = np.frombuffer(found["data"], dtype=_OF_NUMPY[found["dtype"]])
        return values.reshape(found["shape"])
    import torch

    kind = getattr(torch, _OF_TORCH.get(found["dtype"], ""), None)
    if kind is None:
        raise InputError(
            f"the tensor '{name}' in '{path}' has the type {found['dtype']}, expected numbers (C, D)", "save it as float32"
        )
    data = torch.frombuffer(found["data"], dtype=kind) if found["data"] else torch.empty(0, dtype=kind)
    return data.reshape(found["shape"]).to(torch.float32).numpy()
