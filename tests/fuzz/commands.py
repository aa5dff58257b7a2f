"""Running commands in this process, quickly, and judging how they end."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from typer.main import get_command

from laatcli.app import app
from laatcli.command import describe

_SECONDS = 20.0
_MEMORY = 6 * 2**30  # of addresses, more than the process has at the start
_COMMAND = get_command(app)
_EXPECTED = {0, 2, 3, 4, 5}


class Ended(NamedTuple):
    """The exit code, what was printed on standard error, and an exception that reached the caller."""

    code: int
    stderr: str
    error: BaseException | None = None


class TooSlowError(BaseException):
    """A command takes too long."""


class _Bytes(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)


def run(*args: object) -> Ended:
    """Run `laat ARGS…` in the current folder."""
    out, err = _Bytes(), _Bytes()
    code, error = 0, None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _limited():
        try:
            code = int(_COMMAND.main([str(one) for one in args], prog_name="laat", standalone_mode=False) or 0)
        except Exception as raised:
            code, what, fix = describe(raised)
            error = raised if code == 1 else None
            print(f"error: {what}. {fix}", file=err)
        except TooSlowError as raised:
            code, error = -1, raised
    return Ended(code, err.buffer.getvalue().decode("utf-8", "replace"), error)


def fault(done: Ended, files: list[str]) -> str:
    """What is wrong with how a command ended that read a hostile one of `files`; '' for nothing."""
    if done.error is not None:
        return f"{type(done.error).__name__}: {done.error}"[:300]
    if done.code not in _EXPECTED:
        return f"exit code {done.code}: {done.stderr[-300:]}"
    if done.code == 0:
        return ""
    errors = [line for line in done.stderr.splitlines() if line.startswith(("error: ", '{"code": '))]
    if len(errors) != 1:
        return f"{len(errors)} error lines: {done.stderr[-300:]}"
    line = errors[0]
    if "the computation failed" in line or "smaller --batch-size" in line:
        return line[:300]
    if any(ord(one) < 32 or 0x7F <= ord(one) < 0xA0 for one in line):
        return f"control characters: {line!r}"[:300]
    if done.code == 3 and files and not any(name in line for name in files):
        return f"names none of {', '.join(files)}: {line}"[:300]
    return ""


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TooSlowError(f"more than {_SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """A context in which allocating far too much fails, instead of filling the machine."""
    if not sys.platform.startswith("linux"):
        yield
        return
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
