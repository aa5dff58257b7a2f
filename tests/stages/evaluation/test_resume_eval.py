"""`laat eval` killed at any moment, under several processes, and on ten times the episodes, through the installed command."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.laatcli.conftest import class_folders, run_pipeline
from tests.laatcli.shell import LAAT, elsewhere, environment, run, starting
from tests.laatcli.test_torchrun import ended, torchrun

KILLS = int(os.environ.get("LAAT_SOAK_KILLS", "3"))
EVAL: tuple[object, ...] = ("eval", "run/model.st", "--data", "photos", "--device", "cpu", "--batch-size", 32, "--no-checks")
EPISODES: tuple[object, ...] = ("--protocol", "episodes", "--ways", 2, "--queries", 3, "--eps", "2/255")
FILES = ("report.json", "report.rows.parquet", "report.episodes.parquet")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and the photos that it is evaluated on."""
    folder = tmp_path_factory.mktemp("evaluation") / "whole"
    class_folders(folder / "photos/train", 8)
    class_folders(folder / "photos/test", 6, first=8)
    run_pipeline(folder, folder / "photos")
    return folder


@pytest.fixture
def here(source: Path, tmp_path: Path) -> Path:
    """A folder of its own with the same."""
    folder = tmp_path / "here"
    (folder / "run").mkdir(parents=True)
    shutil.copy(source / "run/model.st", folder / "run")
    shutil.copytree(source / "photos", folder / "photos")
    return folder


def read(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def start(here: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `laat eval` and does not wait for it."""
    with starting(here) as begin:
        yield begin


def test_killed_at_any_moment_it_ends_with_the_same_bytes(
    source: Path, here: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    line = (*EVAL, *EPISODES, "--episodes", 100 + 40 * KILLS, "--attack", "pgd-40", "--attack", "margin-pgd-80")
    whole = run(*line, "--force", cwd=source)
    assert whole.code == 0, whole.stderr
    parts = here / ".report.json.parts"
    draw = random.Random(0)
    counts = []
    for turn in range(KILLS):
        before = len(list(parts.glob("*.part")))
        process = start(*line)
        if turn % 4 == 3:  # while it starts
            time.sleep(draw.uniform(0, 2))
        else:
            deadline = time.monotonic() + 60
            while len(list(parts.glob("*.part"))) <= before and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.5))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it ended before it was killed: give it more to do"
        counts.append(len(list(parts.glob("*.part"))))
    assert counts == sorted(counts)
    assert counts[-1] > counts[0] > 0
    done = run(*line, cwd=here)
    assert done.code == 0, done.stderr
    assert read(here) == read(source)
    assert "chunks of an interrupted evaluation were reused" in done.stderr
    assert not parts.exists()


def test_interrupted_it_says_how_to_go_on(here: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    line = (*EVAL, *EPISODES, "--episodes", 300, "--attack", "pgd-200")
    process = start(*line)
    parts = here / ".report.json.parts"
    deadline = time.monotonic() + 60
    while not parts.exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, predicted = process.communicate(timeout=60)
    assert process.returncode == 130, predicted
    assert predicted.splitlines()[-2:] == ["stopped: run the same command again to resume", "error: interrupted"]


@pytest.mark.parametrize("protocol", ["episodes", "gzsl"])
def test_any_number_of_processes_writes_the_same_bytes(protocol: str, source: Path, here: Path) -> None:
    how = (*EPISODES, "--episodes", 40, "--shots", 1) if protocol == "episodes" else ("--protocol", protocol, "--eps", "1/255")
    line = (*EVAL, *how, "--attack", "pgd-10", "--attack", "margin-pgd-5", "--batch-size", 8)
    alone = run(*line, "--force", cwd=source)
    assert alone.code == 0, alone.stderr
    done = ended(torchrun(2, "laatcli", *line, cwd=here))
    assert done.code == 0, done.stderr
    names = FILES if protocol == "episodes" else FILES[:2]
    for name in names:
        assert (here / name).read_bytes() == (source / name).read_bytes(), name
    assert done.stdout == alone.stdout
    assert {path.name for path in here.iterdir()} == {"run", "photos", *names}


MEASURED = """
import resource, sys
from laatcli.app import main
sys.argv = ["laat", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_processes_that_evaluate_otherwise_are_refused(here: Path) -> None:
    """Each reads the laat.toml of its own folder, as on machines of a cluster."""
    other = here.parent / "other"
    shutil.copytree(here, other)
    (other / "laat.toml").write_text('[eval]\neps = "9/255"\n')
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank, folder in enumerate((here, other)):
        with elsewhere(folder) as home:
            own = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "localhost",
                "MASTER_PORT": port,
            }
            command = [str(LAAT), *map(str, (*EVAL, "--attack", "fgsm"))]
            processes.append(
                subprocess.Popen(
                    command, cwd=folder, env=environment(home, **own), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            )
    predicted = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [3, 3], predicted
    assert (
        sum("do not have the same evaluation: options, images or checkpoints: rank 1 differs" in err for _, err in predicted)
        == 1
    )
    assert not (here / "report.json").exists()


def test_memory_does_not_grow_with_the_episodes(here: Path) -> None:
    def peak(episodes: int) -> int:
        line = (*EVAL, *EPISODES, "--shots", 1, "--episodes", episodes, "--attack", "fgsm", "--attack", "pgd-1", "--force")
        with elsewhere(here) as home:
            done = subprocess.run(
                [sys.executable, "-c", MEASURED, *map(str, line)],
                cwd=here,
                env=environment(home),
                capture_output=True,
                text=True,
                timeout=300,
                check=True,
            )
        return int(done.stderr.splitlines()[-1])

    assert peak(5000) < 1.1 * peak(500)
