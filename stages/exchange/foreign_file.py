"""Files with weights of other programs: safetensors are read here, pickles in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from stages.errors import InputError, MissingError
from stages.exchange.pickle_process import COUNTS, DAMAGED, LIMITED, NAMES, OUT_OF_MEMORY, RESULT
from stages.files.reading import sha256_of_stream
from stages.text import first_line

_CONVERT = "if you trust it, save its weights with safetensors.torch.save_file on another machine, and import that file"
_AGAIN = "check that the download is complete, or take another copy"
# what a file that is no weights begins with
_NO_WEIGHTS = {
    b"<": "a web page (HTML or XML), not weights",
    b"version https://git-lfs": "a pointer of Git LFS, not the weights themselves",
    b"{": "JSON, not weights",
}
_HEAD = 64


@dataclass(frozen=True)
class ForeignFile:
    """The tensors in a file of another program.

    Attributes:
        name: of the file, without its folder.
        sha256: of the file.
        groups: first key -> name -> tensor, on the CPU; those at the top are in the group ''.
        counts: first key -> number of the other entries, which were not read: numbers, texts, states of optimizers.
        limited: whether the memory of the process that read it was limited; None for safetensors.
    """

    name: str
    sha256: str
    groups: Mapping[str, dict[str, Tensor]]
    counts: Mapping[str, int] = field(default_factory=dict)
    limited: bool | None = None


def read_foreign(path: Path, *, seconds: float | None = None) -> ForeignFile:
    """Read a file with weights.

    Safetensors are recognized by their content. Anything else is opened as a checkpoint of torch in a child process, see
    `pickle_process`: only tensors, numbers and texts in plain containers are read.

    Args:
        path: of a file; not a pipe.
        seconds: before the child process is ended; None: two minutes and more for a large file.

    Raises:
        InputError: it cannot be read, is no checkpoint, is damaged, has code, or needs more memory or time than its size
            allows.
        MissingError: no room for temporary files.
    """
    if path.is_dir():
        raise InputError(f"'{path}' is a folder, expected a file", "name the file inside it")
    if not path.is_file():
        raise InputError(f"'{path}' does not exist or is not a file", "check the path; a pipe cannot be imported")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD)
            file.seek(0)
            sha256 = sha256_of_stream(file)
            if _is_safetensors(head, size, path):
                return ForeignFile(path.name, sha256, _groups_of(path))
            file.seek(0)
            tensors, about = _read_pickle(file, size, f"'{path}'", seconds or 120 + size / 1e7)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}", "check the path and its permissions") from None
    groups: dict[str, dict[str, Tensor]] = {}
    for keys, tensor in zip(about[NAMES], tensors, strict=True):
        groups.setdefault(keys[0] if len(keys) > 1 else "", {})[keys[-1]] = tensor
    return ForeignFile(path.name, sha256, groups, about[COUNTS], about[LIMITED])


def _is_safetensors(head: bytes, size: int, path: Path) -> bool:
    """Whether a file that begins with `head` is safetensors. Raises InputError for what cannot be weights."""
    if not size:
        raise InputError(f"'{path}' is empty", _AGAIN)
    # first: the length of the header can begin like one of the texts
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return True
    text = head.lstrip().lower()
    for start, what in _NO_WEIGHTS.items():
        if text.startswith(start):
            raise InputError(f"'{path}' is {what}", "download the file itself; a link to a page about it is not enough")
    if path.suffix == ".safetensors":
        raise InputError(f"'{path}' is not a safetensors file, or is truncated", _AGAIN)
    return False


def _groups_of(path: Path) -> dict[str, dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            return {"": {name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118 (not a dict)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' is damaged: {first_line(error)}", _AGAIN) from None


def _read_pickle(file: Any, size: int, where: str, seconds: float) -> tuple[list[Tensor], dict[str, Any]]:
    """The tensors that the child process finds in `file`, and its metadata."""
    package = Path(__file__).parents[2]
    search = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    try:
        # with the permissions of the user alone
        with tempfile.TemporaryDirectory(prefix="laat-import-", ignore_cleanup_errors=True) as folder:
            done = subprocess.run(  # noqa: S603 (this Python and a module of ours)
                [sys.executable, "-m", "stages.exchange.pickle_process", str(size)],
                cwd=folder,
                env=environment,
                stdin=file,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=seconds,
                check=False,
            )
            if done.returncode:
                raise _failed(done.returncode, done.stderr, where)
            with safe_open(Path(folder, RESULT), "pt") as result:
                about = {key: json.loads(value) for key, value in result.metadata().items()}
                # copied: the file goes away
                return [result.get_tensor(str(at)).clone() for at in range(len(about[NAMES]))], about
    except subprocess.TimeoutExpired:
        what = f"{where} was not read within {seconds:.0f} s, and a checkpoint of its size takes less"
        raise InputError(what, _CONVERT) from None
    except (SafetensorError, OSError) as error:
        what = f"{where} cannot be unpacked: {first_line(error)}"
        raise MissingError(what, "free some space in the temporary folder") from None


def _failed(code: int, stderr: bytes, where: str) -> InputError:
    """The error for a child process that ended with `code`."""
    said = (stderr.decode("utf-8", "replace").strip().splitlines() or [""])[-1][:500]
    if code < 0 or said == OUT_OF_MEMORY:
        why = f"ended the process that read it (signal {-code})" if code < 0 else "needs too much memory for its size"
        return InputError(f"{where} was not read: it {why}", f"it may be damaged or hostile; {_CONVERT}")
    return InputError(f"{where} was not read: {said}", _AGAIN if said.startswith(DAMAGED) else _CONVERT)
