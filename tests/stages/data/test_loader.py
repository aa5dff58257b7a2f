from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stages.data.batches.image_loader import ImageLoader
from stages.data.batches.loader import open_loader
from stages.data.batches.worker_loader import worker_count
from stages.data.image_set import ImageSet
from stages.data.load import load_images, open_images
from stages.data.request import ImageRequest
from stages.data.streaming_set import StreamingImageSet
from stages.errors import ComputeError, InputError
from tests.stages.data.pictures import class_folders, noise

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "pets", {"cat": 30, "dog": 40})


def sets(data: Path) -> tuple[ImageSet, StreamingImageSet]:
    request = ImageRequest(str(data), split="train")
    streamed, _ = open_images(request, side="train", cache="none")
    assert isinstance(streamed, StreamingImageSet)
    return load_images(request, side="train"), streamed


def drawn(count: int, seed: int) -> list[Tensor]:
    """All rows in a random order, in parts, two of them empty."""
    parts = list(torch.randperm(count, generator=torch.Generator().manual_seed(seed)).split(16))
    none = torch.empty(0, dtype=torch.int64)
    return [none, *parts[:2], none, *parts[2:]]


def check_hands_out(loader: ImageLoader, images: ImageSet, parts: list[Tensor], device: str = "cpu") -> None:
    given = list(loader.batches(parts))
    assert len(given) == len(parts)
    for part, (pixels, labels) in zip(parts, given, strict=True):
        assert (pixels.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert {pixels.device.type, labels.device.type} == {device}
        assert torch.equal(pixels.cpu(), images.images[part])
        assert torch.equal(labels.cpu(), images.labels[part])


def workers() -> set[int]:
    """Child processes of this one."""
    found: set[int] = set()
    for children in Path("/proc/self/task").glob("*/children"):
        found.update(int(number) for number in children.read_text().split())
    return found


def gone(processes: set[int], seconds: float = 120.0) -> bool:
    """Whether none of the processes is left, or comes to an end in time."""
    end = time.monotonic() + seconds
    while any(alive(process) for process in processes):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("cache", ["device", "ram", "none"])
def test_parts_come_in_their_order_epoch_after_epoch(data: Path, cache: str) -> None:
    images, streamed = sets(data)
    with open_loader(streamed if cache == "none" else images, cache, "cpu") as loader:
        for epoch in range(3):
            check_hands_out(loader, images, drawn(len(images), epoch))
        check_hands_out(loader, images, [])
        check_hands_out(loader, images, [torch.tensor([5, 5, 69, 0])])


@needs_cuda
@pytest.mark.parametrize("cache", ["device", "ram", "none"])
def test_parts_come_on_the_device(data: Path, cache: str) -> None:
    images, streamed = sets(data)
    with open_loader(streamed if cache == "none" else images, cache, "cuda") as loader:
        for epoch in range(2):
            check_hands_out(loader, images, drawn(len(images), epoch), "cuda")


def test_a_part_of_a_streamed_set(data: Path) -> None:
    images, streamed = sets(data)
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:50]
    images, part = (given.take(rows).restricted_to(["dog"], names_from="the anchors") for given in (images, streamed))
    with open_loader(part, "none", "cpu") as loader:
        check_hands_out(loader, images, drawn(len(images), 0))


def test_an_epoch_left_early_does_not_reach_into_the_next(data: Path) -> None:
    images, streamed = sets(data)
    with open_loader(streamed, "none", "cpu") as loader:
        for epoch in range(3):
            batches = loader.batches(drawn(len(images), epoch))
            for _ in range(epoch):
                next(batches)
            batches.close()
        check_hands_out(loader, images, drawn(len(images), 9))
        loader.close()
        check_hands_out(loader, images, drawn(len(images), 10))


def test_several_workers_keep_the_order(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.data.batches.worker_loader.worker_count", lambda *_: 3)
    images, streamed = sets(data)
    with open_loader(streamed, "none", "cpu") as loader:
        check_hands_out(loader, images, list(torch.arange(70).split(3)))


def test_reading_draws_nothing_from_the_global_generator(data: Path) -> None:
    _, streamed = sets(data)
    before = torch.get_rng_state()
    with open_loader(streamed, "none", "cpu") as loader:
        list(loader.batches([torch.arange(4)]))
    assert torch.equal(torch.get_rng_state(), before)


@needs_proc
def test_workers_stay_between_epochs_and_end_with_the_loader(data: Path) -> None:
    images, streamed = sets(data)
    before = workers()
    loader = open_loader(streamed, "none", "cpu")
    check_hands_out(loader, images, drawn(len(images), 0))
    started = workers() - before
    assert started
    check_hands_out(loader, images, drawn(len(images), 1))
    assert workers() - before == started
    loader.close()
    assert gone(started)


@pytest.mark.parametrize("wrong", ["corrupt", "size", "missing"])
def test_images_that_went_bad_are_named(data: Path, wrong: str) -> None:
    """After the first pass found all of them sound."""
    images, streamed = sets(data)
    path = data / "dog/007.png"
    if wrong == "corrupt":
        path.write_bytes(b"broken")
    elif wrong == "size":
        noise(0, 9, 8).save(path)
    else:
        path.unlink()
    with open_loader(streamed, "none", "cpu") as loader:
        with pytest.raises(InputError, match=r"'dog/007\.png'"):
            list(loader.batches(list(torch.arange(70).split(8))))
        check_hands_out(loader, images, [torch.arange(30)])  # what is sound is still given


@needs_proc
def test_a_worker_that_is_killed_is_an_error(data: Path) -> None:
    _, streamed = sets(data)
    before = workers()
    with open_loader(streamed, "none", "cpu") as loader:
        batches = loader.batches([torch.arange(8)] * 50)
        next(batches)
        (worker,) = workers() - before
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(ComputeError, match=r"process that reads the images of 'pets' has died.*--batch-size"):
            for _ in batches:
                pass


TRAINING = """
import sys, time
import torch
from stages.data.batches.loader import open_loader
from stages.data.load import open_images
from stages.data.request import ImageRequest
images, _ = open_images(ImageRequest(sys.argv[1], split="train", resize=256), side="train", cache="none")
with open_loader(images, "none", "cpu") as loader:
    for at, _ in enumerate(loader.batches([torch.arange(70)] * 1000)):
        if not at:
            print("started", flush=True)
        time.sleep(0.05)
"""


@pytest.fixture
def training(data: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own that reads parts too large for a pipe, and goes on for a minute."""
    environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(data)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        yield process
        process.kill()


def children(process: int) -> set[int]:
    found: set[int] = set()
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        found.update(int(number) for number in file.read_text().split())
    return found


@needs_proc
def test_workers_end_when_training_is_killed(training: subprocess.Popen[str]) -> None:
    started = children(training.pid)
    assert started
    training.kill()
    training.wait()
    assert gone(started)


@needs_proc
def test_ctrl_c_is_one_error_and_leaves_no_process(training: subprocess.Popen[str]) -> None:
    started = children(training.pid)
    os.killpg(training.pid, signal.SIGINT)  # as a terminal does
    _, said = training.communicate(timeout=300)
    assert said.count("Traceback") == 1, said  # the process's own
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    assert "ignored in" not in said
    assert gone(started)


@needs_proc
def test_workers_leave_sigterm_to_training(training: subprocess.Popen[str]) -> None:
    started = children(training.pid)
    for worker in started:
        os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGINT)
    time.sleep(1.0)
    assert training.poll() is None
    assert children(training.pid) == started


def test_how_many_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(24)), raising=False)
    assert worker_count("cuda") == 8
    assert worker_count("cuda:3", processes=8) == 3
    assert worker_count("cpu") == 6
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert worker_count("cuda") == 2
    assert worker_count("cpu") == 1
    assert worker_count("cpu", processes=4) == 1


@pytest.mark.parametrize("left", ["open", "in a cycle"])
def test_a_loader_that_nobody_closes_does_not_keep_a_process_from_ending(data: Path, left: str) -> None:
    code = (
        "import sys, gc, torch\nfrom stages.data.batches.loader import open_loader\nfrom stages.data.load import open_images\n"
        "from stages.data.request import ImageRequest\n"
        "images, _ = open_images(ImageRequest(sys.argv[1], split='train', resize=256), side='train', cache='none')\n"
        "loader = open_loader(images, 'none', 'cpu')\nbatches = loader.batches([torch.arange(70)] * 100)\nnext(batches)\n"
        "if sys.argv[2] == 'in a cycle':\n    loader.itself = [loader, batches]\n    del loader, batches\n    gc.collect()\n"
        "print('done')"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(data), left]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
