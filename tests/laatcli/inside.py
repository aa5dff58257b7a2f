"""`laat` in this process, on streams of any encoding: quicker than a subprocess."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from laatcli.app import main
from laatcli.console import Console
from tests.laatcli.shell import Done


def inside(cwd: Path, *args: object, encoding: str = "utf-8", width: int = 120) -> Done:
    """Run `laat ARGS…` in `cwd` as the installed command would, on strict streams in an encoding."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setenv("COLUMNS", str(width))
        patch.setattr(sys, "argv", ["laat", *map(str, args)])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setattr(Console, "json_errors", False)
        with pytest.raises(SystemExit) as ended:
            main()
    for stream in (out, err):
        stream.flush()
    texts = [stream.buffer.getvalue().decode(encoding) for stream in (out, err)]  # type: ignore[attr-defined]
    return Done(int(ended.value.code or 0), *texts)


def all_inside(cwd: Path, *lines: tuple[object, ...]) -> None:
    """Run several command lines that must succeed."""
    for line in lines:
        done = inside(cwd, *line)
        assert done.code == 0, done.stderr
