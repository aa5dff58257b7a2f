"""A run that is killed, stopped or started twice, through the installed command."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stages.text import counted
from tests.laatcli.shell import refused, run, starting

# `make soak` asks for 100
KILLS = int(os.environ.get("LAAT_SOAK_KILLS", "6"))
LONG = ("--epochs", 16 + 4 * KILLS, "--steps", 1, "--backbone", "conv4-8", "--batch-size", 8, "--awp", 0.005, "--ema", 0.9)
RESUME = ("--resume", "auto", "--save-every", "0s")
FILES = ("model.st", "last.st", "metrics.jsonl")


@pytest.fixture
def here(untrained: Path) -> Path:
    return untrained


@pytest.fixture
def start(here: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `laat train` on the photos and does not wait for it."""
    with starting(here) as begin:
        yield lambda *args: begin("train", "--data", "photos", *args)


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until it happened or the process ended, at most a minute."""
    deadline = time.monotonic() + 60
    while not happened() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def stamp(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def test_killed_at_any_moment_and_resumed_it_ends_with_the_same_bytes(
    here: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    assert run("train", "--data", "photos", *LONG, "--out", "whole", cwd=here).code == 0
    draw = random.Random(0)
    state = here / "run/state.st"
    progress = []
    for turn in range(KILLS):
        before = stamp(state)
        process = start(*LONG, *RESUME)
        if turn % 5 == 4:  # while it starts
            time.sleep(draw.uniform(0, 2))
        else:
            wait_for(lambda before=before: stamp(state) != before, process)  # type: ignore[misc]
            time.sleep(draw.uniform(0, 0.3))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it ended before it was killed: give it more epochs"
        if state.exists():
            # whole at every moment
            shown = run("inspect", "run/state.st", "--json", cwd=here)
            assert shown.code == 0, shown.stderr
            params = json.loads(shown.stdout)["params"]
            progress.append((params["step"], len(params["reports"])))
    assert progress == sorted(progress)
    # four runs of five have saved at least one more step or scored epoch, however slow the machine
    assert len(set(progress)) > KILLS // 2
    done = run("train", "--data", "photos", *LONG, *RESUME, cwd=here)
    assert done.code == 0, done.stderr
    for name in FILES:
        assert (here / "run" / name).read_bytes() == (here / "whole" / name).read_bytes(), name
    left = {path.name for path in (here / "run").iterdir()}
    assert left == set(FILES)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_its_state(
    number: signal.Signals, here: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start(*LONG)
    metrics = here / "run/metrics.jsonl"
    wait_for(metrics.exists, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "error: interrupted"
    assert "continue with --resume auto" in said
    assert (here / "run/state.st").exists()
    done = len(metrics.read_text().splitlines())
    again = run("train", "--data", "photos", *LONG, cwd=here)
    assert again.code == 2
    assert f"has an unfinished run ({counted(done, 'epoch')} done)" in again.stderr
    assert "--resume auto" in again.stderr


def test_changed_parameters_are_refused_by_name(here: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start(*LONG, *RESUME)
    wait_for((here / "run/model.st").exists, process)
    process.kill()
    process.communicate()
    for changed, says in (
        (("--lr", 0.1, "--eps", "4/255"), ("--lr was 0.05 and is 0.1", "--eps was 8/255 and is 4/255")),
        (("--lr", 0.1), (". Resume it with --lr 0.05, choose another folder",)),
        (("--split", "test"), ("the data was ", ". Choose another folder")),
    ):
        refused(here, "train", "--data", "photos", *LONG, *RESUME, *changed, code=2, says=("cannot be resumed", *says))


def test_the_second_of_two_runs_in_one_folder_is_refused(here: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start(*LONG, *RESUME)
    wait_for((here / "run/state.st").exists, process)
    second = run("train", "--data", "photos", *LONG, *RESUME, cwd=here)
    assert (process.poll(), second.code) == (None, 2)
    assert "another run is writing into 'run'" in second.stderr


def test_a_non_finite_loss_names_step_and_term(here: Path) -> None:
    done = run("train", "--data", "photos", *LONG, *RESUME, "--lr", 1e30, "--awp", 0, cwd=here)
    assert done.code == 5, done.stderr
    error = done.stderr.splitlines()[-1]
    assert "non-finite at step" in error
    assert "'A-CE'" in error
    # the last good state stays, and is one that can be read
    shown = run("inspect", "run/state.st", "--json", cwd=here)
    assert shown.code == 0, shown.stderr
