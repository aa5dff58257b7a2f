"""The process that opens a pickle of another program: `python -m stages.exchange.pickle_process` (see `foreign_file`).

It reads the file on standard input, keeps tensors, numbers and texts, and writes a safetensors file. Nothing in the file is
executed: torch's unpickler for weights only builds tensors and plain containers. The address space, the processor time and the
size of what is written are limited, so that a hostile file ends this process and nothing else.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors.torch import save_file

# what an honest file may grow to: aliases of one storage are written more than once
_GROWTH, _ALLOWANCE = 4, 64 * 2**20
_MOST_ENTRIES = 100_000
_MEMORY = 2**30
_SECONDS = 120
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_NUMBERS = (*_FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
RESULT, NAMES, COUNTS, LIMITED = "tensors.safetensors", "names", "counts", "limited"
OUT_OF_MEMORY, DAMAGED = "memory", "it is damaged"
# how torch names what a pickle asks for besides tensors
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


class RefusedError(Exception):
    """The file is not read. Its message is for users."""


@dataclass
class _Kept:
    """What is kept of a file: tensors by their keys, one or two, and the number of all other entries by their first key."""

    tensors: dict[tuple[str, ...], torch.Tensor] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def limit(size: int) -> bool:
    """Limit this process to what a file of `size` bytes needs; whether the system can limit its memory."""
    try:
        import resource
    except ImportError:  # Windows
        return False
    most = bound(size)
    seconds = _SECONDS + size // 10**7
    for kind, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_FSIZE, most)):
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (value, value))
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        space = used + _MEMORY + 2 * most
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
    except (OSError, ValueError):  # macOS
        return False
    return True


def bound(size: int) -> int:
    """The most bytes that are read from a file of `size` bytes."""
    return _GROWTH * size + _ALLOWANCE


def convert(file: BinaryIO, size: int, target: Path, *, limited: bool) -> None:
    """Read the pickle `file` of `size` bytes and write its tensors to `target`.

    The metadata of `target` are JSON: "names", the keys of each tensor, whose name is its position; "counts", the number of
    other entries by their first key; "limited".

    Raises RefusedError, MemoryError, and what torch and zipfile raise for a damaged file.
    """
    _check_archive(file, size)
    # NumPy's function that builds a number, in checkpoints with accuracies
    numbers = [(np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with torch.serialization.safe_globals([*numbers, np.dtype, *_dtypes()]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickles of newer protocols
        found = torch.load(file, map_location="cpu", weights_only=True)
    kept = _kept(found)
    total = sum(one.numel() * one.element_size() for one in kept.tensors.values())
    if total > bound(size):
        raise RefusedError(f"it has {size:,} bytes and describes tensors of {total:,} bytes")
    metadata = {NAMES: list(kept.tensors), COUNTS: kept.counts, LIMITED: limited}
    tensors = {str(at): one.contiguous().clone() for at, one in enumerate(kept.tensors.values())}
    save_file(tensors, target, metadata={key: json.dumps(value) for key, value in metadata.items()})


def _dtypes() -> list[type]:
    return [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]


def _check_archive(file: BinaryIO, size: int) -> None:
    """Refuse a zip archive that torch did not write, or that claims more than it has. torch does not compress."""
    if not zipfile.is_zipfile(file):
        file.seek(0)
        return
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    file.seek(0)
    if any(entry.filename.partition("/")[2] == "constants.pkl" for entry in entries):
        raise RefusedError("it is a TorchScript program, which is code and not weights")
    claimed = sum(entry.file_size for entry in entries)
    if claimed > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise RefusedError(f"it is a compressed archive ({claimed:,} bytes in {size:,}), and torch does not compress its files")
    if not any(entry.filename.endswith("data.pkl") for entry in entries):
        raise RefusedError("it is a zip archive without a checkpoint of torch in it")


def _kept(found: Any) -> _Kept:
    kept = _Kept()
    if not isinstance(found, Mapping):
        raise RefusedError(f"it holds a {type(found).__name__}, expected a dictionary with the weights")
    for keys, value in _entries(found):
        if sum(kept.counts.values()) + len(kept.tensors) >= _MOST_ENTRIES:
            raise RefusedError(f"it has more than {_MOST_ENTRIES:,} entries")
        if len(keys) <= 2 and all(isinstance(key, str) for key in keys) and _is_plain(value):
            kept.tensors[keys] = value.detach()
        else:
            kept.counts[str(keys[0])[:200]] += 1
    return kept


def _is_plain(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.layout is torch.strided and value.dtype in _NUMBERS


def _entries(found: Mapping[Any, Any]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every entry that is no container, with its keys. Containers can share parts, so each is entered once."""
    entered: set[int] = set()
    waiting: list[tuple[tuple[Any, ...], Any]] = [((), found)]
    while waiting:
        keys, value = waiting.pop()
        if not isinstance(value, Mapping | list | tuple | set):
            yield keys, value
        elif id(value) not in entered:
            entered.add(id(value))
            pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
            waiting.extend(reversed([((*keys[:2], key), inner) for key, inner in pairs]))


def reason_of(error: Exception) -> str:
    """Why a file is not read, for the parent: 'memory', or a sentence about the file."""
    text = str(error)
    asked = _GLOBAL.search(text)
    if isinstance(error, RefusedError):
        return text
    if isinstance(error, MemoryError) or "allocate memory" in text:
        return OUT_OF_MEMORY
    if asked is not None:
        return f"it asks for {asked[1]}, and only tensors, numbers and texts are read: anything else can run code"
    return f"{DAMAGED}, truncated or no checkpoint of torch ({type(error).__name__})"


def main() -> None:
    """Convert the file on standard input, whose size is the first argument; exit with 1 and the reason, or with 0."""
    size = int(sys.argv[1])
    limited = limit(size)
    try:
        with open(0, "rb", closefd=False) as file:
            convert(file, size, Path(RESULT), limited=limited)
    except Exception as error:  # torch and zipfile raise many types for what is damaged
        sys.exit(reason_of(error))


if __name__ == "__main__":
    main()
