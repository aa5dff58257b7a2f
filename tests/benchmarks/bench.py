"""Measurements against plain references in the same run: one LAAT training step, and the expansion.

Ours and the reference take turns, so that a machine that slows down slows both; the table shows the medians over the
repeats and the median, lowest and highest ratio of a pair. Nothing is written unless --csv names a file.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).parents[2]))

from stages import __version__
from stages.data.image_set import DataProvenance, ImageSet
from stages.expand import Expansion
from stages.models.embedding import EmbeddingModel
from stages.randomness import numpy_generator, torch_generator
from stages.train.loop import Trainer
from stages.train.settings import TrainSettings
from tests.stages.plane_rotations import expand_by_rotations
from tests.stages.train.plain_step import PlainConv4, plain_attack, plain_laat_loss

CLASSES, WIDTH, SIZE = 64, 512, 32


@dataclass(frozen=True)
class Measured:
    """Seconds of each repeat, ours and the reference's, in pairs."""

    name: str
    ours: list[float]
    reference: list[float]

    def row(self) -> list[str]:
        ratios = sorted(r / o for o, r in zip(self.ours, self.reference, strict=True))
        ours, reference = (1000 * statistics.median(times) for times in (self.ours, self.reference))
        middle = statistics.median(ratios)
        return [self.name, f"{ours:.4g}", f"{reference:.4g}", f"{middle:.2f}", f"{ratios[0]:.2f}", f"{ratios[-1]:.2f}"]


HEADER = ["what", "ours ms", "plain ms", "plain/ours", "lowest", "highest"]


def alternate(name: str, ours: Callable[[], object], reference: Callable[[], object], repeats: int) -> Measured:
    """Time both in turns, after one turn each that does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        for run, kept in zip((ours, reference), times, strict=True):
            start = time.perf_counter()
            run()
            if turn:
                kept.append(time.perf_counter() - start)
    return Measured(name, *times)


def training_step(width: int, batch: int, steps: int, repeats: int) -> Measured:
    """One LAAT step on the CPU: augmentation, PGD, both forward passes, the backward pass and SGD.

    The reference is the same step written the obvious way: images go through torchvision one by one as PIL images, memory is
    channels first, batch norm is a layer of its own in the attack too, and the parameters are not frozen there.
    """
    draw = numpy_generator(0, "bench/images")
    pixels = torch.from_numpy(draw.integers(0, 256, (batch, 3, SIZE, SIZE), dtype=np.uint8))
    labels = torch.arange(batch) % CLASSES
    images = ImageSet(pixels, labels, tuple(f"class {at}" for at in range(CLASSES)), DataProvenance("noise"))
    anchors = torch.nn.functional.normalize(torch.from_numpy(draw.standard_normal((CLASSES, WIDTH))).float(), dim=1)
    model = EmbeddingModel(f"conv4-{width}", WIDTH, SIZE, mean=(0.5,) * 3, std=(0.25,) * 3)
    plain = PlainConv4(model)
    settings = TrainSettings(backbone=f"conv4-{width}", batch_size=max(batch, 2), steps=steps)
    loop = Trainer(model, anchors, images, settings, "cpu")
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    noise = torch_generator(0, "bench/noise")
    augment = transforms.Compose(
        [
            transforms.RandomCrop(SIZE, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(15),
            transforms.ToTensor(),
        ]
    )
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels]

    def reference() -> None:
        x = torch.stack([augment(picture) for picture in pictures])
        start = torch.rand(x.shape, generator=noise)
        x_adv = plain_attack(plain, anchors, x, labels, start, eps=8 / 255, steps=steps, step=2 / 255)
        loss = plain_laat_loss(plain, anchors, x, x_adv, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    rows = torch.arange(batch)
    name = f"LAAT step, conv4-{width}, batch {batch}, PGD-{steps}"
    return alternate(name, lambda: loop.train_batch(rows), reference, repeats)


def expansion(width: int, repeats: int) -> Measured:
    """Expand 64 anchors of `width` dimensions: the closed form against the product of plane rotations."""
    anchors = 2 + numpy_generator(0, "bench/anchors").standard_normal((CLASSES, width))
    found, expected = Expansion.fit(anchors).apply(anchors), expand_by_rotations(anchors, anchors)
    assert np.abs(found - expected).max() < 1e-9, "the two do not agree"
    return alternate(
        f"expansion, {CLASSES} anchors of {width}",
        lambda: Expansion.fit(anchors).apply(anchors),
        lambda: expand_by_rotations(anchors, anchors),
        repeats,
    )


def show(rows: Sequence[Sequence[str]]) -> None:
    """The rows as a table, the first column to the left and the others to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for first, *others in rows:
        print("  ".join([first.ljust(widths[0]), *(cell.rjust(size) for cell, size in zip(others, widths[1:], strict=True))]))


def versions(repeats: int) -> str:
    """What the figures belong to."""
    return (
        f"median of {repeats} repeats; laat {__version__}, torch {torch.__version__}, numpy {np.__version__}, "
        f"Python {platform.python_version()}, {platform.machine()}, {torch.get_num_threads()} threads"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="pairs of runs that count (default 7)")
    parser.add_argument("--batch-size", type=int, default=128, help="images of a training step (default 128)")
    parser.add_argument("--steps", type=int, default=7, help="PGD steps (default 7)")
    parser.add_argument("--width", type=int, default=64, help="width of conv4 (default 64)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table there")
    options = parser.parse_args()
    if min(options.repeats, options.batch_size, options.steps, options.width) < 1:
        parser.error("every number is at least 1")
    measured = [training_step(options.width, options.batch_size, options.steps, options.repeats)]
    measured += [expansion(width, options.repeats) for width in (8, 32, 128)]
    rows = [HEADER, *(one.row() for one in measured)]
    show(rows)
    print(versions(options.repeats))
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([*rows, [versions(options.repeats)]])


if __name__ == "__main__":
    main()
