"""Artifacts: typed safetensors files that stages write and read.

A file has named tensors and, in the metadata of its header with the key `laat`, a JSON record: kind, format version, parameters
of the stage, version of laat, the SHA-256 of each input artifact (the lineage), and since format 2 a digest of the whole file.
Files are reproducible byte for byte: no time, host name or path. Importing this needs numpy only.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from stages.artifact_record import FORMAT, METADATA_KEY, NO_DIGEST, read_record, read_stream, with_digest
from stages.errors import InputError, MissingError
from stages.staged import has_bytes, remove_abandoned, stage_bytes, sync_folder
from stages.text import texts_in
from stages.version import __version__

STDIO = "-"
_PIPE_BYTES = 256 * 2**20
_REMAKE = "make it again with the command that wrote it"
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
            raise InputError(f"{self.where} has no tensor '{name}'", _REMAKE)
        value = self.tensors[name]
        fits = len(value.shape) == len(shape) and all(want in (None, got) for want, got in zip(shape, value.shape, strict=True))
        if not fits:
            wanted = tuple("any" if size is None else size for size in shape)
            raise InputError(f"tensor '{name}' in {self.where} has shape {tuple(value.shape)}, expected {wanted}", _REMAKE)
        if value.dtype.kind not in kind:
            words = " or ".join(_KINDS_OF_NUMBERS[letter] for letter in kind)
            raise InputError(f"tensor '{name}' in {self.where} has numbers of type {value.dtype}, expected {words}", _REMAKE)
        return value


def to_bytes(artifact: Artifact) -> bytes:
    """The bytes of the artifact's file, the same on every machine."""
    record = {
        "digest": NO_DIGEST,
        "format": FORMAT,
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
            f"{where} is an artifact of kind {record['kind']}, expected {kind}", f"give a file of kind {kind}; {_MAKERS[kind]}"
        )
    from stages.artifact_params import check_record  # pydantic is slow to import, and `laat --help` imports this module

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
        raise InputError(f"{where} is damaged: {error}", _REMAKE) from None
    for name, value in tensors.items():
        finite = np.isfinite(value) if value.dtype.kind == "f" else np.True_
        if not finite.all():
            at = tuple(int(one) for one in np.argwhere(~finite)[0])
            raise InputError(f"tensor '{name}' in {where} is not finite: it has {value[at]} at {list(at)}", _REMAKE)
    return tensors


_MAKERS = {
    "anchors": "`laat anchors` and `laat expand` write one",
    "model": "`laat train` writes one as run/model.st",
    "adversarial": "`laat attack` writes one",
    "training-state": "`laat train` writes one",
}


def read(path: Path | str, kind: str | None = None) -> Artifact:
    """Read an artifact from a file, or from standard input for `-`. Raises InputError, see `from_bytes`."""
    if str(path) == STDIO:
        return from_bytes(read_stream(sys.stdin.buffer), where="standard input", kind=kind)
    return from_bytes(read_file(path, of_pipe=read_stream), where=f"'{path}'", kind=kind)


def read_pipe(stream: BinaryIO) -> bytes:
    """All bytes of a pipe. Raises InputError when there are more than 256 MiB."""
    return _at_most(stream, _PIPE_BYTES, "the pipe")


def read_file(path: Path | str, *, most: int | None = None, of_pipe: Callable[[BinaryIO], bytes] = read_pipe) -> bytes:
    """The bytes of a file.

    Args:
        path: of it.
        most: bytes that are read; None reads a file of any size.
        of_pipe: reads a pipe, which may have no end.

    Raises InputError with the reason if it cannot be read, is a device, or has more bytes than that.
    """
    try:
        with open(path, "rb") as file:
            kind = os.fstat(file.fileno()).st_mode
            if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):  # /dev/zero has no end
                raise InputError(f"'{path}' is a device, expected a file", "name a file, or a pipe")
            if most is not None:
                return _at_most(file, most, f"'{path}'")
            return file.read() if stat.S_ISREG(kind) else of_pipe(file)
    except FileNotFoundError:
        raise InputError(f"'{path}' does not exist", "check the path, or make the file first") from None
    except IsADirectoryError:
        raise InputError(f"'{path}' is a folder, expected a file", "name the file inside it") from None
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}", "check the path and its permissions") from None


def _at_most(stream: BinaryIO, most: int, where: str) -> bytes:
    data = stream.read(most + 1)
    if len(data) > most:
        raise InputError(f"{where} has more than {most / 2**20:.0f} MiB", "check that this is the file that you mean")
    return data


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
    return replace(artifact, sha256=hashlib.sha256(data).hexdigest(), format=FORMAT)


def write_file(path: Path | str, data: bytes) -> None:
    """Write a file atomically, with permissions of the user's umask; devices and pipes are written directly.

    Raises MissingError (no space, read-only, a folder with that name).
    """
    write_files({Path(path): data})


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write several files like `write_file`, renaming them once all are on the disk.

    A file that has these bytes already is left alone and keeps its time of modification, so that `make` does not remake what
    depends on it.

    Raises MissingError, naming the file that cannot be written.
    """
    staged: list[tuple[BinaryIO, Path, Path]] = []
    place = Path()
    try:
        for place, data in files.items():
            if _is_device(place):
                continue
            if has_bytes(place, data):
                remove_abandoned(place)
            else:
                staged.append((*stage_bytes(place, data), place))
        for place, data in files.items():
            if _is_device(place):
                place.write_bytes(data)
        while staged:
            file, temporary, place = staged[0]
            os.replace(temporary, place)
            sync_folder(place.parent)
            staged.pop(0)
            file.close()
    except OSError as error:
        raise MissingError(
            f"cannot write '{place}': {error.strerror or error}", "free some space or choose another place with -o / --out"
        ) from None
    finally:
        for file, temporary, _ in staged:
            temporary.unlink(missing_ok=True)
            file.close()


def check_writable(path: Path | str) -> None:
    """Raise MissingError if `path` cannot be written, before the work starts."""
    path = Path(path)
    if str(path) == STDIO or (_is_device(path) and os.access(path, os.W_OK)):
        return
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        why = "a folder is in the way" if path.is_dir() else "the folder is not writable"
        raise MissingError(f"cannot write '{path}': {why}", "choose another place with -o / --out")


def _is_device(path: Path) -> bool:
    """Whether `path` is a device or a pipe, such as /dev/null."""
    return path.exists() and not path.is_file() and not path.is_dir()


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
