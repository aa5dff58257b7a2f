"""Benchmark of `laat predict`: its rate on PNG files against a bare loop over the same network on decoded images.

    python tests/benchmarks/predict_rate.py                  20,000 files of 32 px, conv4-64
    OMP_NUM_THREADS=1 python tests/benchmarks/predict_rate.py    the network on one core, so that decoding has another

Both go through the same images in batches of 256 in turns. `laat predict` reads and decodes the files in threads and writes the
answers to a CSV file. The second row is the time of the thread that runs the network alone, which other programs do not change:
what is left of it for the network. The files are written to a temporary folder that is removed at the end.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from stages.anchors.anchor_set import AnchorSet
from stages.classes import ClassGroups
from stages.data.request import DecodeOptions
from stages.data.shapes import render_split, shape_classes
from stages.data.unlabelled import ImagePaths
from stages.models.classifier import Classifier
from stages.models.embedding import EmbeddingModel, place
from stages.models.frozen import inference
from stages.pixels import to_pixels
from stages.prediction.files import prediction_file
from stages.prediction.predict import BATCH, decoding_for, predict_batches
from tests.benchmarks.timing import HEADER, Pair, environment, show, write_csv

TARGET = 0.9


def classifier(width: int) -> Classifier:
    """A Conv4 of random weights over the names of `shapes`."""
    names = shape_classes()
    vectors = np.random.default_rng(0).normal(size=(len(names), 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    anchors = AnchorSet(vectors, names, ClassGroups.from_counts(len(names), 48), {"source": "given"})
    net = EmbeddingModel(f"conv4-{width}", 64, 32, mean=(0.5,) * 3, std=(0.25,) * 3)
    place(net, "cpu")
    return Classifier(net, anchors, logit_scale=10, image_size=32).eval()


def write_files(folder: Path, count: int) -> torch.Tensor:
    """Write `count` PNG files into folders of 1,000; returns their pixels, uint8 (N, 3, 32, 32)."""
    images, _ = render_split("test")
    for at in range(count):
        home = folder / f"{at // 1000:03}"
        home.mkdir(exist_ok=True)
        Image.fromarray(np.ascontiguousarray(images[at % len(images)].transpose(1, 2, 0))).save(home / f"{at:06}.png")
    return torch.from_numpy(images)[torch.arange(count) % len(images)]


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """Seconds on the wall, and of this thread on a core."""
    wall, own = time.perf_counter(), time.thread_time()
    run()
    return time.perf_counter() - wall, time.thread_time() - own


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    model = classifier(given.width)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pixels = write_files(folder, given.images)

        def ours() -> None:
            with prediction_file(folder / "p.csv", io.BytesIO(), top=1, judged=False) as file:
                for batch in predict_batches(model, ImagePaths([folder]), decoding_for(model, DecodeOptions())):
                    file.write(batch.predictions)

        def bare() -> None:
            with inference(model):
                for rows in torch.arange(len(pixels)).split(BATCH):
                    model.scores(to_pixels(pixels, rows, "cpu")).argmax(1)

        times = [(timed(ours), timed(bare)) for _ in range(given.repeats + 1)][1:]
    pairs = [
        Pair(what, [mine[at] for mine, _ in times], [plain[at] for _, plain in times], TARGET)
        for at, what in enumerate(("wall time", "thread of the network"))
    ]
    rows = [HEADER, *(pair.row() for pair in pairs)]
    about = {"images": str(given.images), "network": f"conv4-{given.width}", **environment("cpu")}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    for name, best in (("laat predict", min(pairs[0].ours)), ("a loop", min(pairs[0].reference))):
        print(f"{name}: {given.images / best:,.0f} images/s")
    show(rows)
    if given.csv is not None:
        write_csv(given.csv, rows, about)


if __name__ == "__main__":
    main()
