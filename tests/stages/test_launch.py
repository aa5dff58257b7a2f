from __future__ import annotations

import pytest
import torch

from stages.devices import resolve_device
from stages.errors import MissingError, UsageError
from stages.launch import Launch, read_launch

SOUND = {"RANK": "1", "WORLD_SIZE": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "node7", "MASTER_PORT": "29500"}


def test_a_process_started_by_itself_works_alone() -> None:
    assert read_launch({}) == Launch(0, 1)
    # what batch systems and shells leave behind says nothing about torch.distributed
    assert read_launch({"LOCAL_RANK": "3", "MASTER_ADDR": "node7", "SLURM_PROCID": "2"}) == Launch(0, 1)
    assert read_launch({"RANK": "0", "WORLD_SIZE": "1"}).size == 1


def test_what_a_launcher_sets_is_read() -> None:
    assert read_launch(SOUND) == Launch(1, 3, 1, "node7", 29500)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"RANK": "3"}, "RANK is 3 and WORLD_SIZE 3"),
        ({"RANK": "one"}, "RANK is 'one', expected a number"),
        ({"RANK": "-1"}, "RANK is '-1', expected a number"),
        ({"RANK": "²"}, "RANK is '²', expected a number"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is '', expected a number"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE is 0"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK is 'x'"),
        ({"WORLD_SIZE": None}, "RANK in the environment but not WORLD_SIZE"),
        ({"RANK": None}, "WORLD_SIZE in the environment but not RANK"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is missing"),
        ({"MASTER_PORT": None}, "but not MASTER_PORT"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT is 0"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT is 65536"),
    ],
)
def test_variables_that_make_no_sense_are_named(changed: dict[str, str | None], says: str) -> None:
    environment = {name: value for name, value in {**SOUND, **changed}.items() if value is not None}
    with pytest.raises(UsageError, match=says):
        read_launch(environment)


def devices(monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_each_process_has_the_device_of_its_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    devices(monkeypatch, cuda=2)
    for name in ("auto", "cuda"):
        assert [resolve_device(name, Launch(rank, 4, rank % 2, "node7", 1)) for rank in (2, 3)] == ["cuda:0", "cuda:1"]
    assert resolve_device("cpu", Launch(3, 4, 1, "node7", 1)) == "cpu"


def test_more_processes_than_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    devices(monkeypatch, cuda=2)
    with pytest.raises(MissingError, match=r"LOCAL_RANK is 2 and torch sees 2 CUDA devices .*--nproc-per-node 2"):
        resolve_device("auto", Launch(2, 3, 2, "node7", 1))


def test_devices_that_several_processes_cannot_share(monkeypatch: pytest.MonkeyPatch) -> None:
    devices(monkeypatch, cuda=2, mps=True)
    for name in ("cuda:1", "mps"):
        with pytest.raises(UsageError, match=f"--device {name} cannot be shared by several processes"):
            resolve_device(name, Launch(0, 2, 0, "node7", 1))
    devices(monkeypatch, cuda=0, mps=True)
    assert resolve_device("auto", Launch(0, 2, 0, "node7", 1)) == "cpu"
    assert resolve_device("auto", Launch()) == "mps"
