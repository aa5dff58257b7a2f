"""Processes started as a launcher other than torchrun would; tests/laatcli/test_torchrun.py has the real one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.launch import Launch
from stages.world import World, join_world
from tests.stages.training.together import start, wait_for

LOST = "another process of the run does not respond; look for its own error, then start again (train: with --resume auto)\n"


@given(count=st.integers(0, 1000), size=st.integers(1, 40))
def test_shares_are_even_and_together_the_whole_batch(count: int, size: int) -> None:
    parts = [range(count)[World(rank, size).share(count)] for rank in range(size)]
    assert [row for part in parts for row in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_nothing_is_waited_for() -> None:
    with join_world("cpu", Launch()) as world:
        assert world == World(0, 1)
        assert world.leader
        tensor = torch.ones(3)
        world.sum([tensor])
        assert tensor.tolist() == [1, 1, 1]
        assert world.any(True, False) == (True, False)
        world.barrier()
        world.agree("x", "settings")
    assert not torch.distributed.is_initialized()


def test_several_processes_add_up_and_compare() -> None:
    answers = start("together", 3)
    for rank, answer in enumerate(answers):
        assert (answer.code, answer.stderr) == (0, ""), answer
        said = answer.said
        assert said["single"] == [[pytest.approx(0.3), 3], [3e8, 9]]
        assert said["double"] == [pytest.approx(1, abs=1e-15)]
        assert said["double dtype"] == "torch.float64"
        assert said["channels last"]
        assert said["flags"] == [False, True]
        assert said["part"] == [[0, 3], [3, 6], [6, 10]][rank]
        assert said["refusal"].startswith("the processes do not have the same settings: rank 2 differs from rank 0; start all")
    assert answers[0].said["bits"] == answers[1].said["bits"] == answers[2].said["bits"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at threads in /proc")
def test_no_thread_is_left_of_a_world_that_is_kept() -> None:
    """One that outlives the interpreter aborts the process, sometimes."""
    for answer in start("keep", 2):
        assert (answer.code, answer.stderr) == (0, "")
        within, after = answer.said
        assert within > after == 0


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_is_killed_ends_the_others(victim: int, tmp_path: Path) -> None:
    seconds: list[float] = []

    def kill(processes: Sequence[subprocess.Popen[str]]) -> None:
        wait_for(tmp_path / "started")
        processes[victim].kill()
        begun = time.monotonic()
        processes[1 - victim].wait(30)
        seconds.append(time.monotonic() - begun)

    answers = start("step for ever", 2, started=tmp_path / "started", act=kill)
    assert (answers[1 - victim].code, answers[1 - victim].stderr) == (5, LOST)
    assert seconds[0] < 20  # at once, but for a busy machine


def test_a_process_that_hangs_ends_the_others(tmp_path: Path) -> None:
    def hang(processes: Sequence[subprocess.Popen[str]]) -> None:
        wait_for(tmp_path / "started")
        processes[1].send_signal(signal.SIGSTOP)
        processes[0].wait(30)  # `start` lets a step take 3 s

    answer, _ = start("step for ever", 2, started=tmp_path / "started", act=hang)
    assert (answer.code, answer.stderr) == (5, LOST)


def test_an_error_of_one_process_is_told_by_that_one(tmp_path: Path) -> None:
    one, other = start("one error", 2, started=tmp_path / "started")
    assert (one.code, one.stderr) == (5, LOST)
    assert (other.code, other.stderr) == (3, "no images\n")


def test_an_error_of_all_is_told_by_one_of_them() -> None:
    answers = start("one error for all", 2)
    assert [answer.code for answer in answers] == [3, 3]
    assert sorted(answer.stderr for answer in answers) == ["no images\n", "no images (repeated)\n"]


def test_a_mistake_in_the_program_stays_what_it_is() -> None:
    answers = start("mistake", 2)
    assert all(answer.code == 1 for answer in answers)
    assert all("RuntimeError: mat1 and mat2" in answer.stderr for answer in answers)


def test_processes_that_expect_different_numbers() -> None:
    for answer in start("nothing", 2, {}, {"WORLD_SIZE": "3"}):
        assert answer.code == 2
        assert answer.stderr.startswith("the processes were started with mismatching WORLD_SIZE: 2 and 3; ")


def test_two_processes_of_one_rank() -> None:
    for answer in start("nothing", 3, {}, {"RANK": "2"}):
        assert answer.code == 2
        assert answer.stderr.startswith("two processes were started with RANK 2; ")


def test_a_process_that_never_comes_and_an_address_that_nobody_has() -> None:
    waiting, lost = start("nothing", 2, {"WAIT": "3"}, {"MASTER_ADDR": "no.such.machine.invalid"})
    assert (waiting.code, lost.code) == (5, 4)
    assert waiting.stderr.startswith("1 of 2 processes started within 3 s")
    assert lost.stderr.startswith("MASTER_ADDR 'no.such.machine.invalid' is not a known machine")


def test_alone_torch_distributed_is_not_set_up() -> None:
    line = (
        "from stages.launch import read_launch; from stages.world import join_world; import sys\n"
        "with join_world('cpu', read_launch()): print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
