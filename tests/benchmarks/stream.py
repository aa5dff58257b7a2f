"""Benchmark of streaming: reading speed, time a training step waits for images, and memory.

    python tests/benchmarks/stream.py                   200,000 generated images of 96 px, a ResNet-12 step
    python tests/benchmarks/stream.py --images 20000    the same, smaller

The images are JPEG files of random smooth patterns, written to a saved data set (or, with --format parquet, a parquet file) in
a temporary folder that is removed at the end. Memory is that of the program and its worker processes together, sampled twice a
second from /proc: RSS counts shared pages once per process, PSS once in total. A training step adds the model's memory for the
images in one batch: about 115 MB per image of 96 px with ResNet-12, independent of the source.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from stages.data.batches.image_loader import ImageLoader
from stages.data.load import open_images
from stages.data.request import ImageRequest
from stages.models.embedding import EmbeddingModel
from stages.randomness import numpy_generator, torch_generator
from stages.training.loop import Trainer
from stages.training.settings import TrainSettings
from tests.benchmarks.timing import environment, show

CLASSES, WIDTH = 64, 512
DISTINCT = 4096  # distinct images; a larger set repeats them
ROWS = 1000


@dataclass
class Memory:
    """Peak memory of a process and its descendants, in bytes, since the last `reset`."""

    process: int
    rss: int = 0
    pss: int = 0
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Memory:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def reset(self) -> None:
        self.rss = self.pss = 0

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            found = [_rss_and_pss(process) for process in (self.process, *_descendants(self.process))]
            self.rss = max(self.rss, sum(rss for rss, _ in found))
            self.pss = max(self.pss, sum(pss for _, pss in found))


def _descendants(process: int) -> list[int]:
    found = []
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            numbers = [int(number) for number in children.read_text().split()]
        except OSError:
            continue
        for number in numbers:
            found += [number, *_descendants(number)]
    return found


def _rss_and_pss(process: int) -> tuple[int, int]:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    sizes = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.endswith(" kB")}
    return sizes.get("Rss", 0), sizes.get("Pss", 0)


def pictures(count: int, side: int) -> list[bytes]:
    """Smooth random patterns with noise, as JPEG: similar to photographs in size and decoding time."""
    draw = numpy_generator(0, "bench/stream")
    found = []
    for _ in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        grain = draw.integers(-12, 13, (side, side, 1))
        pixels = (np.asarray(coarse).astype(np.int64) + grain).clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        found.append(buffer.getvalue())
    return found


def generate(folder: Path, count: int, side: int, kind: str) -> Path:
    """Write a data set of `count` images with cyclic labels to `folder`."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=[f"class {at}" for at in range(CLASSES)])}
    )
    schema = features.arrow_schema
    drawn = pictures(min(DISTINCT, count), side)
    whole = folder / ("train.parquet" if kind == "parquet" else "train.arrow")
    with pa.OSFile(str(whole), "wb") as sink:
        writer = pq.ParquetWriter(sink, schema) if kind == "parquet" else pa.ipc.new_stream(sink, schema)
        with writer:
            for start in range(0, count, ROWS):
                rows = range(start, min(start + ROWS, count))
                images = [{"bytes": drawn[row % len(drawn)], "path": None} for row in rows]
                table = pa.table({"image": images, "label": [row % CLASSES for row in rows]}, schema=schema)
                writer.write_table(table)
    if kind == "parquet":
        return whole
    saved = folder / "saved"
    datasets.disable_progress_bars()
    datasets.DatasetDict({"train": datasets.Dataset.from_file(str(whole))}).save_to_disk(saved)
    whole.unlink()
    return saved


class Timed(ImageLoader):
    """A loader that records the seconds spent waiting for it, except for the first batch, when workers start."""

    def __init__(self, loader: ImageLoader) -> None:
        self._loader = loader
        self.waited: list[float] = []

    def batches(self, parts: Sequence[torch.Tensor]) -> Generator[tuple[torch.Tensor, torch.Tensor], None, None]:
        inner = self._loader.batches(parts)
        while True:
            start = time.perf_counter()
            try:
                batch = next(inner)
            except StopIteration:
                return
            self.waited.append(time.perf_counter() - start)
            yield batch

    def close(self) -> None:
        self._loader.close()


def measure(data: Path, arguments: argparse.Namespace) -> list[list[str]]:
    """Measure, and return the rows of the table."""
    rows = [["what", "images", "images/s", "waiting", "RSS MB", "PSS MB"]]

    def row(name: str, images: int, seconds: float, waiting: str, memory: Memory) -> None:
        time.sleep(0.6)  # one more sample
        peaks = [f"{size / 1e6:.0f}" for size in (memory.rss, memory.pss)]
        rows.append([name, f"{images:,}", f"{images / seconds:.4g}", waiting, *peaks])
        memory.reset()

    with Memory(os.getpid()) as memory:
        for name in ("first pass over all images", "the same, kept from an earlier run"):
            start = time.perf_counter()
            images, _ = open_images(ImageRequest(str(data), split="train"), side="train", cache="none", device="cpu")
            row(name, len(images), time.perf_counter() - start, "", memory)
        model = EmbeddingModel(arguments.backbone, WIDTH, arguments.side, mean=(0.5,) * 3, std=(0.25,) * 3)
        draw = numpy_generator(0, "bench/anchors").standard_normal((CLASSES, WIDTH))
        anchors = torch.nn.functional.normalize(torch.from_numpy(draw).float(), dim=1)
        settings = TrainSettings(
            backbone=arguments.backbone,
            batch_size=arguments.batch_size,
            steps=arguments.steps,
        )
        trainer = Trainer(model, anchors, images, settings, "cpu", cache="none")
        loader: Any = trainer._loader
        order = torch.randperm(len(images), generator=torch_generator(0, "bench/order"))
        parts = order[: arguments.read].split(128)
        start = 0.0
        for _ in loader.batches(parts):
            start = start or time.perf_counter()
        read = sum(len(part) for part in parts[1:])
        row("workers alone, random order", read, time.perf_counter() - start, "", memory)
        trainer._loader = timed = Timed(loader)
        steps = trainer.steps()
        next(steps)
        start = time.perf_counter()
        taken = sum(done.images for done in islice(steps, arguments.train_steps))
        seconds = time.perf_counter() - start
        waiting = sum(timed.waited[1:]) / seconds
        name = f"training step, {arguments.backbone}, batch {arguments.batch_size}, PGD-{arguments.steps}"
        row(name, taken, seconds, f"{100 * waiting:.1f}%", memory)
        steps.close()
        trainer.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--format", choices=("saved", "parquet"), default="saved")
    parser.add_argument("--backbone", default="resnet12")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--train-steps", type=int, default=10)
    parser.add_argument("--read", type=int, default=50_000, help="images read without training")
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.data:
        show(measure(arguments.data, arguments))
        return
    with tempfile.TemporaryDirectory(prefix="laat-bench-") as folder:
        start = time.perf_counter()
        data = generate(Path(folder), arguments.images, arguments.side, arguments.format)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        decoded = 3 * arguments.side**2 * arguments.images
        print(
            f"{arguments.images:,} images of {arguments.side} px: {size / 1e6:.0f} MB on disk, {decoded / 1e6:.0f} MB decoded, "
            f"written in {time.perf_counter() - start:.0f} s"
        )
        print(", ".join(f"{key} {value}" for key, value in environment("cpu").items()), flush=True)
        # in a separate process, so that the generator's memory is not counted
        command = [sys.executable, __file__, *sys.argv[1:], "--data", str(data)]
        subprocess.run(command, env={**os.environ, "LAAT_CACHE": f"{folder}/cache"}, check=True)


if __name__ == "__main__":
    main()
