"""The installed `laat` in a subprocess, as a user starts it, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

BIN = Path(sys.executable).parent
LAAT = BIN / "laat"
# what a command may say on standard error before its error line
NOTES = re.compile(
    r"settings from |"
    r"reading |read |images are |loading |one split only: |warning: |accuracies are |tau |the best epoch |anchors |"
    r"descriptions: |epochs are scored |epoch +\d+ "
)
OUTPUTS = ("anchors.st", "expanded.st", "run/model.st", "run/last.st", "adversarial.st", "report.json", "report.rows.parquet")


class Done(NamedTuple):
    code: int
    stdout: str
    stderr: str


def environment(home: Path, **more: str) -> dict[str, str]:
    """No network, an empty hub cache, one thread, and `laat` on the path."""
    return {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "LANG": "C.UTF-8",
        "COLUMNS": "120",
        **more,
    }


def run(*args: object, cwd: Path, input: bytes | None = None, **env: str) -> Done:
    """Run `laat ARGS…` in `cwd`."""
    return _run([str(LAAT), *map(str, args)], cwd, input, env)


def run_on_full_disk(*args: object, cwd: Path, room: int) -> Done:
    """Run `laat ARGS…` where no file can grow past `room` bytes: a write fails half-way, as on a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    return _run([str(LAAT), *map(str, args)], cwd, None, {"PYTHONDONTWRITEBYTECODE": "1"}, limit)


def shell(line: str, cwd: Path, **env: str) -> Done:
    """Run a line of shell in `cwd`."""
    return _run(["sh", "-c", line], cwd, None, env)


def _run(
    command: Sequence[str], cwd: Path, input: bytes | None, env: dict[str, str], first: Callable[[], None] | None = None
) -> Done:
    with elsewhere(cwd) as home:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment(home, **env),
            input=input if input is not None else b"",
            capture_output=True,
            timeout=300,
            check=False,
            preexec_fn=first,
        )
    return Done(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


@contextmanager
def elsewhere(cwd: Path) -> Iterator[Path]:
    """A home folder beside `cwd`, so that what libraries keep there is not mistaken for what laat wrote."""
    home = cwd.parent / f"{cwd.name}-home"
    home.mkdir(exist_ok=True)
    yield home


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` with its bytes, hidden and half-written ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def place_results(folder: Path) -> None:
    """Put something that must not be lost where each command writes by default."""
    for name in OUTPUTS:
        path = folder / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(f"the only copy of {name}".encode())


def check_refusal(done: Done, code: int, *says: str) -> None:
    """One error line and nothing else but notes; every word of `says` is in it."""
    lines = done.stderr.splitlines()
    assert "Traceback" not in done.stderr, done.stderr
    assert lines, done
    *notes, error = lines
    if error.startswith("{"):  # with --json
        record = json.loads(error)
        assert record["code"] == code
        error = f"error: {record['what']}. {record['fix'][:1].upper()}{record['fix'][1:]}"
    assert error.startswith("error: "), done.stderr
    assert all(NOTES.match(note) for note in notes), done.stderr
    assert done.code == code, done
    assert not done.stdout, done.stdout
    for text in says:
        assert text in error, f"{text!r} is not in {error!r}"


def refused(folder: Path, *args: object, code: int, says: Sequence[str], input: bytes | None = None, **env: str) -> None:
    """Run a command that must be refused, with results of earlier runs lying there: nothing may be changed, added or lost."""
    place_results(folder)
    before = tree(folder)
    check_refusal(run(*args, cwd=folder, input=input, **env), code, *says)
    assert tree(folder) == before


@contextmanager
def starting(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A function that starts `laat` in a folder and does not wait for it; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*args: object) -> subprocess.Popen[str]:
        with elsewhere(folder) as home:
            process = subprocess.Popen(
                [str(LAAT), *map(str, args)],
                cwd=folder,
                env=environment(home),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        started.append(process)
        return process

    try:
        yield begin
    finally:
        for process in started:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()
