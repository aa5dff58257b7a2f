"""Artifacts: typed safetensors files that stages write and read.

A file has named tensors and, in the metadata of its header with the key `laat`, a JSON record: kind, format version, parameters
of the stage, version of laat, the SHA-256 of each input artifact (the lineage), and since format 2 a digest of the whole file.
Files are reproducible byte for byte: no time, host name or path. Importing this needs neither torch nor pydantic.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from stages.errors import InputError
from stages.files.artifact_record import (
    FORMAT,
    KINDS,
    METADATA_KEY,
    NO_DIGEST,
    REMAKE,
    format_of,
    read_record,
    read_stream,
    with_digest,
)
from stages.files.reading import STDIO, read_file
from stages.files.writing import write_file
from stages.text import texts_in
from stages.version import __version__

_KINDS_OF_NUMBERS = {"f": "floating point", "i": "signed integers", "u": "unsigned integers"}


@dataclass(frozen=True)
class Artifact:
    """One artifact in memory.

    Attributes:
        kind: one of `artifact_record.KINDS`.
        tensors: name -> array, float32 / float64 / int64 / uint8 / bool, C-contiguous.
        params: the parameters of the stage that wrote it; JSON-able.
        inputs: name of each input artifact -> {"sha256": …, "kind": …, "inputs": {…}}, the lineage.
        tool: version of laat that wrote it.
        sha256: of the file; empty until written or read.
        format: of the file. Files of format 1 have no digest: changes to them cannot be detected.
        where: name of the file in errors.
    """

    kind: str
    tensors: dict[str, np.ndarray]
    params: dict[str, Any]
    inputs: dict[str, Any] = field(default_factory=dict)
    tool: str = __version__
    sha256: str = ""
    format: int = FORMAT
    where: str = "the artifact"

    @property
    def verified(self) -> bool:
        """Whether the file had a digest, which was checked when it was read."""
        return self.format > 1

    def lineage(self) -> dict[str, Any]:
        """The record of this artifact as an input of another one."""
        return {"kind": self.kind, "sha256": self.sha256, "inputs": self.inputs}

    def tensor(self, name: str, shape: tuple[int | None, ...], kind: str = "f") -> np.ndarray:
        """The tensor `name`. Raises InputError if it is missing, its shape is not `shape` (None: any size), or its numbers are
        not of `kind`: NumPy's letter, or several."""
        if name not in self.tensors:
            raise InputError(f"{self.where} has no tensor '{name}'", REMAKE)
        value = self.tensors[name]
        fits = len(value.shape) == len(shape) and all(want in (None, got) for want, got in zip(shape, value.shape, strict=True))
        if not fits:
            wanted = tuple("any" if size is None else size for size in shape)
            raise InputError(f"tensor '{name}' in {self.where} has shape {tuple(value.shape)}, expected {wanted}", REMAKE)
        if value.dtype.kind not in kind:
            words = " or ".join(_KINDS_OF_NUMBERS[letter] for letter in kind)
            raise InputError(f"tensor '{name}' in {self.where} has numbers of type {value.dtype}, expected {words}", REMAKE)
        return value


def to_bytes(artifact: Artifact) -> bytes:
    """The bytes of the artifact's file, the same on every machine."""
    record = {
        "digest": NO_DIGEST,
        "format": format_of(artifact.params),
        "inputs": artifact.inputs,
        "kind": artifact.kind,
        "params": artifact.params,
        "tool": artifact.tool,
    }
    text = json.dumps(texts_in(record), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # not ascontiguousarray: it turns a scalar into a vector
    tensors = {name: np.asarray(artifact.tensors[name], order="C") for name in sorted(artifact.tensors)}
    return with_digest(save_tensors(tensors, metadata={METADATA_KEY: text}))


def from_bytes(data: bytes, *, where: str, kind: str | None = None) -> Artifact:
    """Parse an artifact.

    Args:
        data: the file's bytes.
        where: name of the file in errors, for example "'anchors.st'".
        kind: the expected kind; None for any.

    Raises InputError if it is empty, truncated, not safetensors, not an artifact of laat, changed since it was written, of
    another kind or a newer format. Warns with `UnverifiedWarning` about a file without digest.
    """
    record = read_record(data, where)
    if kind is not None and record["kind"] != kind:
        raise InputError(
            f"{where} is an artifact of kind {record['kind']}, expected {kind}", f"give a file of kind {kind}; {KINDS[kind]}"
        )
    from stages.files.artifact_params import check_record  # pydantic is slow to import, and `laat --help` imports this module

    check_record(record, where)
    tensors = _tensors(data, where)
    sha256 = hashlib.sha256(data).hexdigest()
    params, inputs, tool = record["params"], record["inputs"], record["tool"]
    return Artifact(record["kind"], tensors, params, inputs, tool, sha256, format=record["format"], where=where)


def _tensors(data: bytes, where: str) -> dict[str, np.ndarray]:
    """The tensors of a file. Raises InputError for a damaged one, and a number that is not finite."""
    try:
        tensors = dict(load_tensors(data))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where} is damaged: {error}", REMAKE) from None
    for name, value in tensors.items():
        finite = np.isfinite(value) if value.dtype.kind == "f" else np.True_
        if not finite.all():
            at = tuple(int(one) for one in np.argwhere(~finite)[0])
            raise InputError(f"tensor '{name}' in {where} is not finite: it has {value[at]} at {list(at)}", REMAKE)
    return tensors


def read(path: Path | str, kind: str | None = None) -> Artifact:
    """Read an artifact from a file, or from standard input for `-`. Raises InputError, see `from_bytes`."""
    if str(path) == STDIO:
        return from_bytes(read_stream(sys.stdin.buffer), where="standard input", kind=kind)
    return from_bytes(read_file(path, of_pipe=read_stream), where=f"'{path}'", kind=kind)


def write(artifact: Artifact, path: Path | str) -> Artifact:
    """Write an artifact atomically, or to standard output for `-`, and return it with its SHA-256.

    Raises MissingError if the file cannot be written; an existing file is then unchanged.
    """
    data = to_bytes(artifact)
    if str(path) == STDIO:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_file(path, data)
    return replace(artifact, sha256=hashlib.sha256(data).hexdigest(), format=format_of(artifact.params))


def describe(tensors: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Name, dtype, shape, min, mean and max of each tensor, sorted by name."""
    rows = []
    for name in sorted(tensors):
        value = tensors[name]
        row: dict[str, Any] = {"tensor": name, "dtype": str(value.dtype), "shape": list(value.shape)}
        if value.size:
            # of float64: a sum in the type of the tensor can overflow
            row |= {
                "min": float(value.min()),
                "mean": float((value / value.size).sum(dtype=np.float64)),
                "max": float(value.max()),
            }
        rows.append(row)
    return rows
