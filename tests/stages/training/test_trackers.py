from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.errors import InputError, MissingError, UsageError
from stages.training import trackers
from stages.training.trackers import TRACKERS, check_tracker, open_tracker

SETTINGS = {"lr": 0.1, "eps": "8/255"}
FIRST = {"loss": 4.0, "selection/robust": 0.25, "train/robust": None}
SECOND = {"loss": 3.5, "selection/robust": 0.5, "train/robust": None}


def losses(folder: Path) -> list[tuple[int, float]]:
    """What TensorBoard's own reader finds in the event files."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "tensorboard")).Reload()
    assert "train/robust" not in events.Tags()["scalars"]
    return [(event.step, event.value) for event in events.Scalars("loss")]


def test_no_log_writes_nothing(tmp_path: Path) -> None:
    tracker = open_tracker(None, tmp_path / "run", SETTINGS)
    tracker.epoch(1, FIRST)
    tracker.close()
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown --log 'tensorbord'; nearest: 'tensorboard'"):
        check_tracker("tensorbord")
    with pytest.raises(UsageError, match="nearest: 'tensorboard', 'wandb'"):
        open_tracker("", tmp_path, SETTINGS)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)  # as where the extra is not installed
    with pytest.raises(MissingError) as caught:
        open_tracker(name, tmp_path, SETTINGS)
    assert caught.value.fix == f"install it with: pip install 'laat[{name}]'"
    assert list(tmp_path.iterdir()) == []


class TestTensorBoard:
    @pytest.fixture(autouse=True)
    def needs_the_package(self) -> None:
        pytest.importorskip("tensorboard")

    def test_each_epoch_is_on_the_disk_when_it_is_done(self, tmp_path: Path) -> None:
        tracker = open_tracker("tensorboard", tmp_path, SETTINGS)
        tracker.epoch(1, FIRST)
        assert losses(tmp_path) == [(1, 4.0)]
        tracker.epoch(2, SECOND)
        tracker.close()
        assert losses(tmp_path) == [(1, 4.0), (2, 3.5)]

    def test_the_settings_are_kept(self, tmp_path: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        open_tracker("tensorboard", tmp_path, SETTINGS).close()
        events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        (tag,) = events.Tags()["tensors"]
        (text,) = events.Tensors(tag)[0].tensor_proto.string_val
        assert '"eps": "8/255"' in text.decode()

    def test_a_resumed_run_goes_on(self, tmp_path: Path) -> None:
        for epochs, resumed in (((1, 2), False), ((2, 3), True)):
            tracker = open_tracker("tensorboard", tmp_path, SETTINGS, resumed=resumed)
            for epoch in epochs:
                tracker.epoch(epoch, {"loss": float(epoch)})
            tracker.close()
        assert dict(losses(tmp_path)) == {1: 1.0, 2: 2.0, 3: 3.0}

    def test_a_new_run_in_the_folder_replaces_the_old_one_s_log_alone(self, tmp_path: Path) -> None:
        (tmp_path / "tensorboard").mkdir()
        (tmp_path / "tensorboard/notes.txt").write_text("mine")
        for first in (4.0, 9.0):
            tracker = open_tracker("tensorboard", tmp_path, SETTINGS)
            tracker.epoch(1, {"loss": first})
            tracker.close()
        assert losses(tmp_path) == [(1, 9.0)]
        assert (tmp_path / "tensorboard/notes.txt").read_text() == "mine"

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "tensorboard").write_text("mine")
        with pytest.raises(MissingError, match=r"cannot write '.*tensorboard'"):
            open_tracker("tensorboard", tmp_path, SETTINGS)


WANDB_RUN = """
import sys
from pathlib import Path
from stages.training.trackers import open_tracker
folder, first, last, resumed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "resumed"
tracker = open_tracker("wandb", folder, {"lr": 0.1}, resumed=resumed)
for number in range(first, last + 1):
    tracker.epoch(number, {"loss": float(number), "train/robust": None})
tracker.close()
"""


class TestWandb:
    """In a process of its own: the package starts a service and keeps state a process."""

    @pytest.fixture(autouse=True)
    def needs_the_package(self) -> None:
        if importlib.util.find_spec("wandb") is None:
            pytest.skip("needs wandb")

    def run(self, folder: Path, *args: object, **env: str) -> subprocess.CompletedProcess[str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        home = folder.parent / "home"
        home.mkdir(exist_ok=True)
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", WANDB_RUN, folder, *map(str, args)],
            cwd=Path(__file__).parents[3],
            env={**plain, "HOME": str(home), "WANDB_MODE": "offline", **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def test_an_offline_run_is_written_quietly_and_a_resumed_one_keeps_its_identity(self, tmp_path: Path) -> None:
        identities = []
        for args in ((1, 2, "new"), (2, 3, "resumed"), (1, 1, "new")):
            done = self.run(tmp_path / "run", *args)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
            identities.append((tmp_path / "run/wandb/run-id.txt").read_text().strip())
        first, second, third = identities
        assert first == second != third
        logs = [path.stem.removeprefix("run-") for path in (tmp_path / "run/wandb").rglob("*.wandb")]
        assert sorted(logs) == sorted(identities)
        (log, *_) = (tmp_path / "run/wandb").rglob(f"run-{first}.wandb")
        assert b"loss" in log.read_bytes()

    def test_without_a_key_the_way_out_is_named(self, tmp_path: Path) -> None:
        done = self.run(tmp_path / "run", 1, 1, "new", WANDB_MODE="online")
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert "MissingError: Weights & Biases does not start: " in last
        assert "WANDB_MODE=offline" in last


@pytest.mark.parametrize("data", [b"\xff\xfe", b"", b"a b", b"a\0", b"x" * 100])
def test_a_damaged_id_of_a_run_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb/run-id.txt").write_bytes(data)
    with pytest.raises(InputError, match=r"run-id\.txt' has no id of a run; remove it"):
        trackers._run_id(tmp_path, resumed=True)
