from __future__ import annotations

import os
from pathlib import Path

import pytest

from stages.data import memory
from stages.data.memory import available_ram, check_cache_name, choose_cache, processes_here
from stages.errors import UsageError

GB = 10**9


def machine(root: Path, *, available_kb: int, groups: str = "", files: dict[str, str] | None = None) -> Path:
    for name, text in {
        "proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable: {available_kb:>10} kB\n",
        "proc/self/cgroup": groups,
        **(files or {}),
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_small_sets_stay_in_memory_and_large_ones_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_ram", lambda: 12 * GB)
    kind, reason = choose_cache(3 * GB, "cpu")
    assert (kind, reason) == ("ram", "images are kept in memory: 3.0 GB of pixels, 12.0 GB free")
    kind, reason = choose_cache(5 * GB, "cpu")
    assert (kind, reason) == ("none", "images are streamed from disk: 5.0 GB of pixels, 12.0 GB of memory free")
    assert choose_cache(3 * GB, "cpu", processes=2)[0] == "none"


def test_the_device_is_taken_while_half_of_what_is_free_there_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_ram", lambda: 100 * GB)
    monkeypatch.setattr(memory, "available_on", lambda device: 16 * GB if device == "cuda:1" else None)
    kind, reason = choose_cache(8 * GB, "cuda:1")
    assert (kind, reason) == ("device", "images are kept on cuda:1: 8.0 GB of pixels, 16.0 GB free there")
    assert choose_cache(8 * GB + 1, "cuda:1")[0] == "ram"
    assert choose_cache(8 * GB, "mps")[0] == "ram"
    assert choose_cache(40 * GB, "cuda:1")[0] == "none"


def test_free_memory_is_what_the_system_says(tmp_path: Path) -> None:
    assert available_ram(machine(tmp_path, available_kb=2000)) == 2000 * 1024


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs /proc")
def test_free_memory_of_this_machine_is_plausible() -> None:
    assert 2**20 < available_ram() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_limits_of_control_groups_count(tmp_path: Path) -> None:
    base = "sys/fs/cgroup"
    files = {
        f"{base}/memory.max": "max\n",
        f"{base}/memory.current": "5000\n",
        f"{base}/job/memory.max": "9000\n",
        f"{base}/job/memory.current": "8000\n",
        f"{base}/job/memory.stat": "anon 1\ninactive_file 500\n",
        f"{base}/job/step/memory.max": "max\n",
        f"{base}/job/step/memory.current": "10\n",
    }
    assert available_ram(machine(tmp_path / "two", available_kb=2000, groups="0::/job/step\n", files=files)) == 1500
    files = {
        f"{base}/memory/box/memory.limit_in_bytes": "7000\n",
        f"{base}/memory/box/memory.usage_in_bytes": "8000\n",
        f"{base}/memory/box/memory.stat": "total_inactive_file 1200\n",
        f"{base}/cpu/box/memory.limit_in_bytes": "1\n",
    }
    groups = "7:cpu:/box\n4:memory:/box\n"
    assert available_ram(machine(tmp_path / "one", available_kb=2000, groups=groups, files=files)) == 200


@pytest.mark.parametrize("name", ["", "gpu", "RAM"])
def test_unknown_caches_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"unknown --cache '{name}'; choose auto, device, ram or none"):
        check_cache_name(name)


@pytest.mark.parametrize(("value", "count"), [(None, 1), ("", 1), ("4", 4), ("0", 1), ("many", 1)])
def test_processes_of_a_launcher_share_the_machine(monkeypatch: pytest.MonkeyPatch, value: str | None, count: int) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if value is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", value)
    assert processes_here() == count
