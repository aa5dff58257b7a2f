"""Processes that meet as a launcher other than torchrun would start them: `python -m tests.stages.training.together SCENARIO`.

What a process prints is its answer; an error is its exit code and its message.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from stages.errors import InputError, LaatError
from stages.launch import read_launch
from stages.world import World, join_world

ROOT = Path(__file__).parents[3]


class Answer(NamedTuple):
    """What became of one process: exit code (minus the signal), what it said, standard error."""

    code: int
    said: Any
    stderr: str


def start(
    scenario: str,
    size: int,
    *changes: dict[str, str],
    started: Path | None = None,
    act: Callable[[Sequence[subprocess.Popen[str]]], None] | None = None,
) -> list[Answer]:
    """Run `size` processes of a scenario and wait for them.

    `changes[k]` go to the environment of process k. `act` may do harm to the processes, for example when the file `started`
    is there, which some scenarios make.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    same = {"WORLD_SIZE": str(size), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = []
    for rank in range(size):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "STARTED": str(started)}
        changed = changes[rank] if rank < len(changes) else {}
        command = [sys.executable, "-m", "tests.stages.training.together", scenario]
        environment = {**os.environ, **same, **own, **changed}
        processes.append(
            subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    try:
        if act is not None:
            act(processes)
            for process in processes:
                process.kill()
        return [_answer(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _answer(process: subprocess.Popen[str]) -> Answer:
    stdout, stderr = process.communicate(timeout=60)
    return Answer(process.returncode, json.loads(stdout) if stdout else None, stderr)


def wait_for(path: Path) -> None:
    """Wait until a process has made the file."""
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.05)
    raise TimeoutError(path)


def _together(world: World) -> Any:
    rank = world.rank
    single, double = torch.tensor([[0.1, rank], [1e8, 3.0]]), torch.tensor([rank / 3], dtype=torch.float64)
    picture = torch.arange(24.0).reshape(1, 2, 3, 4)
    channels_last = picture.contiguous(memory_format=torch.channels_last)
    uneven = torch.rand(1001, generator=torch.Generator().manual_seed(rank))
    world.sum([single, double, channels_last, uneven])
    world.agree("the same", "settings")
    try:
        world.agree(f"of {rank // 2}", "settings")
        refusal = ""
    except InputError as error:
        refusal = str(error)
    return {
        "single": single.tolist(),
        "double": double.tolist(),
        "double dtype": str(double.dtype),
        "channels last": torch.equal(channels_last, world.size * picture),
        "bits": uneven.view(torch.int32).tolist(),
        "flags": list(world.any(False, rank == 1)),
        "part": [world.share(10).start, world.share(10).stop],
        "refusal": refusal,
    }


def _step_for_ever(world: World) -> Any:
    while True:
        world.sum([torch.ones(1000)])
        Path(os.environ["STARTED"]).touch()


def _error(world: World) -> Any:
    raise InputError("no images")


def _one_error(world: World) -> Any:
    return _step_for_ever(world) if world.rank == 0 else _error(world)


def _mistake(world: World) -> Any:
    raise RuntimeError("mat1 and mat2 do not fit")


KEPT: list[World] = []


def _keep(world: World) -> Any:
    """Holds on to the world when the processes have parted."""
    world.sum([torch.ones(3)])
    KEPT.append(world)
    return _gloo_threads()


def _gloo_threads() -> int:
    """How many threads of gloo this process has."""
    return sum("gloo" in (task / "comm").read_text() for task in Path("/proc/self/task").iterdir())


SCENARIOS: dict[str, Callable[[World], Any]] = {
    "together": _together,
    "step for ever": _step_for_ever,
    "one error": _one_error,
    "one error for all": _error,
    "mistake": _mistake,
    "keep": _keep,
    "nothing": lambda world: world.size,
}


def main() -> None:
    try:
        wait = float(os.environ.get("WAIT", "60"))
        with join_world("cpu", read_launch(), start_seconds=wait, step_seconds=3) as world:
            said = SCENARIOS[sys.argv[1]](world)
    except LaatError as error:
        sys.stderr.write(f"{error}{' (repeated)' if error.repeated else ''}\n")
        sys.exit(error.exit_code)
    sys.stdout.write(json.dumps([said, _gloo_threads()] if KEPT else said))


if __name__ == "__main__":
    main()
