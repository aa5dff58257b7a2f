"""What the product costs beside a plain program, in one run: `make bench`.

Both sides alternate on the same images; a row gives the median over repeats of each and their ratio. Absolute times belong to
the machine, ratios travel. `--csv FILE` writes the rows with device, versions and settings.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).parents[2]))

from stages.anchors.constructed import random_anchors
from stages.data.image_set import DataProvenance, ImageSet
from stages.data.shapes import render_split
from stages.models.embedding import EmbeddingModel
from stages.randomness import torch_generator
from stages.train.loop import Trainer
from stages.train.settings import TrainSettings
from tests.stages.train.plain_step import PlainConv4, plain_attack, plain_laat_loss

WIDTH, BATCH, STEPS, EPS = 512, 128, 7, 8 / 255


def image_set() -> ImageSet:
    """Two batches of the bundled images, twelve classes."""
    images, labels = render_split("train")
    keep = np.flatnonzero(labels < 12)[: 2 * BATCH]
    names = tuple(str(at) for at in range(12))
    return ImageSet(torch.from_numpy(images[keep]), torch.from_numpy(labels[keep]), names, DataProvenance("shapes", ("train",)))


def product_step(images: ImageSet, anchors: torch.Tensor, backbone: str) -> Callable[[], None]:
    """One step of the training loop: batched augmentation, folded PGD-7, outer step."""
    model = EmbeddingModel(backbone, WIDTH, 32, mean=(0.5,) * 3, std=(0.25,) * 3)
    loop = Trainer(model, anchors, images, TrainSettings(backbone=backbone, steps=STEPS, eps=Fraction(8, 255)), "cpu")
    rows = torch.arange(BATCH)
    return lambda: loop.train_batch(rows) and None


def plain_step(images: ImageSet, anchors: torch.Tensor, backbone: str) -> Callable[[], None]:
    """The same step written the obvious way: PIL and torchvision image by image, channels first, nothing folded."""
    model = PlainConv4(EmbeddingModel(backbone, WIDTH, 32, mean=(0.5,) * 3, std=(0.25,) * 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    augment = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(15),
            transforms.ToTensor(),
        ]
    )
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images.images[:BATCH]]
    labels = images.labels[:BATCH]
    generator = torch_generator(0, "bench")

    def step() -> None:
        x = torch.stack([augment(picture) for picture in pictures])
        noise = torch.rand(x.shape, generator=generator)
        x_adv = plain_attack(model, anchors, x, labels, noise, eps=EPS, steps=STEPS, step=EPS / 4)
        optimizer.zero_grad()
        plain_laat_loss(model, anchors, x, x_adv, labels).backward()
        optimizer.step()

    return step


def alternate(product: Callable[[], None], plain: Callable[[], None], repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of each, taken in turns after one warm-up of both."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(repeats + 1):
        for times, run in zip(taken, (product, plain), strict=True):
            start = time.perf_counter()
            run()
            if number:
                times.append(time.perf_counter() - start)
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    images, anchors = image_set(), torch.from_numpy(random_anchors(12, WIDTH, 0))
    rows = []
    for backbone in ("conv4-64", "conv4-128"):
        ours, plain = alternate(product_step(images, anchors, backbone), plain_step(images, anchors, backbone), options.repeats)
        ratios = sorted(b / a for a, b in zip(ours, plain, strict=True))
        rows.append(
            {
                "what": f"training step, {backbone}, batch {BATCH}, PGD-{STEPS}",
                "product_ms": round(1e3 * statistics.median(ours), 1),
                "plain_ms": round(1e3 * statistics.median(plain), 1),
                "ratio": round(statistics.median(ratios), 2),
                "ratio_low": round(ratios[0], 2),
                "ratio_high": round(ratios[-1], 2),
                "repeats": options.repeats,
                "device": f"cpu, {torch.get_num_threads()} threads, {platform.machine()}",
                "versions": f"torch {torch.__version__}, Python {platform.python_version()}",
            }
        )
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    print(f"{rows[0]['device']}; {rows[0]['versions']}; medians of {options.repeats}")
    for row in rows:
        times = f"product {row['product_ms']} ms, plain {row['plain_ms']} ms"
        print(f"{row['what']}: {times}, ratio {row['ratio']} ({row['ratio_low']}–{row['ratio_high']})")


if __name__ == "__main__":
    main()
