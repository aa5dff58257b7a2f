from __future__ import annotations

import pytest
import torch

from stages.devices import check_device_name, resolve_device
from stages.errors import MissingError, UsageError


def machine(monkeypatch: pytest.MonkeyPatch, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:x", "cuda:0\n", "cpu:0", "meta"])
def test_unknown_names(name: str) -> None:
    for check in (check_device_name, resolve_device):
        with pytest.raises(UsageError, match="choose auto, cpu, cuda, cuda:N or mps"):
            check(name)


@pytest.mark.parametrize(("cuda", "mps", "expected"), [(0, False, "cpu"), (0, True, "mps"), (2, True, "cuda")])
def test_auto_takes_the_fastest(monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, expected: str) -> None:
    machine(monkeypatch, cuda, mps)
    assert resolve_device("auto") == expected
    assert resolve_device("cpu") == "cpu"


def test_a_device_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=2, mps=True)
    assert [resolve_device(name) for name in ("cuda", "cuda:1", "mps")] == ["cuda", "cuda:1", "mps"]


@pytest.mark.parametrize(("cuda", "name"), [(0, "cuda"), (0, "cuda:0"), (2, "cuda:2"), (2, "cuda:17"), (0, "mps")])
def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, cuda: int, name: str) -> None:
    machine(monkeypatch, cuda)
    with pytest.raises(MissingError, match=f"device '{name}' is not available"):
        resolve_device(name)


def test_a_driver_that_counts_devices_it_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("auto") == "cpu"
