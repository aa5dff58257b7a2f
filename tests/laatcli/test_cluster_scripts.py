"""The scripts of examples/cluster, with fake SLURM commands (srun, scontrol); torchrun and laat are real."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.laatcli.shell import elsewhere, environment

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "examples/cluster"
LONG = ("--data", "photos", "--epochs", "500", "--steps", "1", "--backbone", "conv4-8", "--batch-size", "8")


@pytest.fixture
def here(untrained: Path) -> Path:
    return untrained


def start(script: str, *args: str, cwd: Path, **variables: str) -> subprocess.Popen[str]:
    with elsewhere(cwd) as home:
        known = environment(home, PYTHONPATH=str(ROOT), PROCESSES="2", **variables)
        known["PATH"] = f"{cwd}:{known['PATH']}"
        command = [str(CLUSTER / script), *args]
        return subprocess.Popen(command, cwd=cwd, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("script", sorted((ROOT / "examples").rglob("*.sh")), ids=lambda path: path.name)
def test_the_syntax_of_the_scripts(script: Path) -> None:
    shell = script.read_text().splitlines()[0].removeprefix("#!")
    subprocess.run([shell, "-n", str(script)], check=True)


def test_the_slurm_job_saves_its_state_and_queues_itself_again(here: Path) -> None:
    (here / "srun").write_text('#!/bin/sh\n[ "$1" = --kill-on-bad-exit=1 ] && shift\nexec "$@"\n')
    (here / "scontrol").write_text(
        '#!/bin/sh\nif [ "$1 $2" = "show hostnames" ]; then echo localhost; echo node2; else echo "$*" >> asked; fi\n'
    )
    for name in ("srun", "scontrol"):
        (here / name).chmod(0o755)
    job = {"SLURM_JOB_ID": str(free_port() - 20000), "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_NUM_NODES": "1"}
    process = start("slurm.sh", *LONG, "--save-every", "0s", cwd=here, **job)
    deadline = time.monotonic() + 90
    while not (here / "run/metrics.jsonl").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "continue with --resume auto" in stderr
    assert (here / "run/state.st").exists()
    assert (here / "asked").read_text() == f"requeue {job['SLURM_JOB_ID']}\n"


def test_a_mistake_does_not_queue_the_job_again(here: Path) -> None:
    (here / "srun").write_text("#!/bin/sh\nexit 3\n")
    (here / "scontrol").write_text('#!/bin/sh\necho localhost\n[ "$1" = show ] || touch asked\n')
    for name in ("srun", "scontrol"):
        (here / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_NUM_NODES": "1"}
    process = start("slurm.sh", *LONG, cwd=here, **job)
    process.communicate(timeout=60)
    assert process.returncode == 3
    assert not (here / "asked").exists()


def test_the_line_for_several_machines(here: Path) -> None:
    line = ("localhost", "1", *LONG, "--epochs", "1", "--quiet")
    process = start("torchrun.sh", *line, cwd=here, PORT=str(free_port()))
    _, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (0, "")
    assert (here / "run/model.st").exists()


def free_port() -> int:
    """A port from 20000 to 39999 that nobody listens to."""
    for port in range(20000 + time.monotonic_ns() % 19000, 40000):
        with socket.socket() as free:
            if free.connect_ex(("localhost", port)):
                return port
    raise AssertionError("no port is free")
