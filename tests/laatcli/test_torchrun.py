"""Training by several processes, started by torchrun as a user starts it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from stages.world import World
from tests.laatcli.conftest import Pipeline
from tests.laatcli.shell import Done, elsewhere, environment, run
from tests.stages.training.steps_together import RUNS, losses

ROOT = Path(__file__).parents[2]
EPOCHS = 10
# 28 training images: 4 steps an epoch, the last of them on 4 images
TRAIN: tuple[object, ...] = (
    *("train", "--data", "photos", "--epochs", EPOCHS, "--steps", 3, "--backbone", "conv4-8", "--batch-size", 8),
    *("--precision", "float32"),  # in bfloat16 the signs of more gradients hang on the order of the sums
    *("--device", "cpu"),
)


def torchrun(size: int, module: str, *args: object, cwd: Path) -> subprocess.Popen[str]:
    """Start `size` processes of a module in `cwd`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size), "-m", module]
    with elsewhere(cwd) as home:
        return subprocess.Popen(
            [*command, *map(str, args)],
            cwd=cwd,
            env=environment(home, PYTHONPATH=str(ROOT)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def ended(launcher: subprocess.Popen[str], seconds: float = 120) -> Done:
    """Wait for it to end by itself."""
    try:
        stdout, stderr = launcher.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        launcher.terminate()  # it ends the processes that it started
        launcher.communicate()
        raise
    return Done(launcher.returncode, stdout, stderr)


def worker(launcher: subprocess.Popen[str], rank: int) -> int:
    """The process id of a rank."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            variables = (process / "environ").read_bytes().split(b"\0")
        except OSError:  # gone, or somebody else's
            continue
        if parent == launcher.pid and f"RANK={rank}".encode() in variables:
            return int(process.name)
    raise AssertionError(f"no rank {rank}")


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def check_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """The losses of 20 steps, and everything that was decided."""
    assert [row["best_so_far"] for row in found] == [row["best_so_far"] for row in expected]
    assert [row["selection_robust"] for row in found] == [row["selection_robust"] for row in expected]
    assert [row["loss"] for row in found[:5]] == pytest.approx([row["loss"] for row in expected[:5]], abs=1e-5)
    assert [row["loss"] for row in found] == pytest.approx([row["loss"] for row in expected], abs=1e-3)


@pytest.fixture(scope="module")
def here(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Anchors, photos, and in `alone` what a single process makes of them."""
    folder = tmp_path_factory.mktemp("together") / "here"
    folder.mkdir()
    shutil.copy(pipeline.folder / "expanded.st", folder)
    shutil.copytree(pipeline.photos, folder / "photos")
    done = run(*TRAIN, "--out", "alone", cwd=folder)
    assert done.code == 0, done.stderr
    best = [row["epoch"] for row in rows(folder / "alone") if row["best_so_far"]]
    assert 1 < len(best) < EPOCHS, "a run whose best epoch says nothing"
    return folder


@pytest.mark.parametrize("size", [2, 3])
def test_any_number_of_processes_trains_the_same_model(size: int, here: Path) -> None:
    done = ended(torchrun(size, "laatcli", *TRAIN, "--out", f"of-{size}", "--json", cwd=here))
    assert done.code == 0, done.stderr
    check_same(rows(here / f"of-{size}"), rows(here / "alone"))
    # one process shows: a single JSON object, every note once
    said = json.loads(done.stdout)
    assert said["best_epoch"] == max(row["epoch"] for row in rows(here / "alone") if row["best_so_far"])
    # progress lines ("epoch 3/10 …"), as many as the time it takes allows, are not counted
    assert [int(number) for number in re.findall(r"^epoch +(\d+)  loss", done.stderr, re.M)] == list(range(1, EPOCHS + 1))
    assert {path.name for path in (here / f"of-{size}").iterdir()} == {path.name for path in (here / "alone").iterdir()}


def test_every_step_of_every_kind_of_run_has_the_same_loss(tmp_path: Path) -> None:
    launcher = torchrun(3, "tests.stages.training.steps_together", cwd=tmp_path)
    alone = {name: losses(World(), name) for name in RUNS}
    done = ended(launcher)
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)
    for name, expected in alone.items():
        assert found[name] == pytest.approx(expected, abs=1e-5 if "bf16" in name else 1e-7), name
    for said in (found, alone):
        assert said["laat, gradient checkpointing"] == said["laat"]  # bit for bit


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")
def test_a_dead_rank_ends_the_run_which_then_goes_on_with_other_numbers_of_processes(here: Path) -> None:
    resume = (*TRAIN, "--out", "broken", "--resume", "auto", "--save-every", "0s")
    state, metrics = here / "broken/state.st", here / "broken/metrics.jsonl"

    launcher = torchrun(2, "laatcli", *resume, cwd=here)
    wait_for(state, launcher)
    subprocess.run(["kill", "-KILL", str(worker(launcher, 0))], check=True)
    killed = time.monotonic()
    done = ended(launcher, 30)
    assert time.monotonic() - killed < 30
    assert done.code != 0
    lost = "another process of the run does not respond. Look for its own error, then start again (train: with --resume auto)"
    line = f"[rank 1] error: {lost}"
    assert line in done.stderr.splitlines()
    assert len(rows(here / "broken")) < EPOCHS if metrics.exists() else state.exists()

    # asked to stop, as a batch system does before it takes the machine away
    before = state.stat().st_mtime_ns
    launcher = torchrun(3, "laatcli", *resume, cwd=here)
    wait_for(state, launcher, before)
    launcher.terminate()
    done = ended(launcher)
    assert done.code != 0
    assert "stopped: checkpoint saved to broken/state.st; continue with --resume auto" in done.stderr.splitlines()
    assert done.stderr.splitlines().count("error: interrupted") == 1
    assert "rank 1] error" not in done.stderr

    done = ended(torchrun(1, "laatcli", *resume, cwd=here))
    assert done.code == 0, done.stderr
    check_same(rows(here / "broken"), rows(here / "alone"))


def wait_for(path: Path, launcher: subprocess.Popen[str], before: int = 0) -> None:
    """Until the file is there and was written after `before`."""
    deadline = time.monotonic() + 90
    while not path.exists() or path.stat().st_mtime_ns == before:
        assert launcher.poll() is None, launcher.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("--data", "nowhere"), 3, "error: the data 'nowhere' does not exist"),
        (("--data", "photos", "--objective", "best"), 2, "error: unknown --objective 'best'"),
    ],
)
def test_a_mistake_is_told_once(args: tuple[str, ...], code: int, says: str, here: Path) -> None:
    done = ended(torchrun(2, "laatcli", "train", *args, "--out", "mistaken", cwd=here))
    assert done.code != 0
    told = [line for line in done.stderr.splitlines() if "error: " in line and "exitcode" not in line]
    (line,) = told
    assert says in line
    assert f"exitcode  : {code}" in done.stderr
    assert 'File "' not in done.stderr.partition("torch/distributed")[0]
    assert not (here / "mistaken").exists()
