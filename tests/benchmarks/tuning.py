"""Benchmark of a fine-tuning step on the bundled CLIP image tower: `tecoa` and `fare` against the obvious loop.

The obvious loop is open_clip's own model. As in the published programs, the class names of `tecoa` are tokenized in every step
and encoded in every forward pass, the frozen tower of `fare` sees the clean images in every step, and the attack's backward
pass also computes the gradients of the weights.
"""

from __future__ import annotations

import copy
import time
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.anchors.encoder import OPTIONS, load_encoder
from stages.anchors.sources import text_anchors
from stages.classes import ClassGroups
from stages.clip_weights import load_clip, locate
from stages.data.image_set import DataProvenance, ImageSet
from stages.data.shapes import shape_classes
from stages.models.embedding import EmbeddingModel
from stages.randomness import numpy_generator
from stages.training.loop import Trainer
from stages.training.settings import TrainSettings
from tests.benchmarks.timing import Pair, alternate

# their published attacks
STEPS = {"tecoa": 2, "fare": 10}
CLASSES = shape_classes()
TEMPLATE = "This is a photo of a {}"


class PlainLoop:
    """Training steps of open_clip's model, with SGD at a rate that leaves it as it is."""

    def __init__(self, objective: str, images: ImageSet, batch: int) -> None:
        self.clip = load_clip(locate("demo", "", OPTIONS), OPTIONS)[0].float()
        self._frozen = copy.deepcopy(self.clip.visual).eval()
        self._tokenize = load_encoder("demo").tokenize
        self._objective, self._images, self._batch, self._steps = objective, images, batch, STEPS[objective]
        self._optimizer = torch.optim.SGD(self.clip.visual.parameters(), lr=1e-12, momentum=0.9)
        self._mean, self._std = (torch.tensor(values).view(1, 3, 1, 1) for values in zip(*[(0.48, 0.27)] * 3, strict=True))

    def step(self) -> None:
        """One step on a random batch."""
        rows = torch.randperm(len(self._images))[: self._batch]
        x, y = self._images.images[rows].float() / 255, self._images.labels[rows]
        self._tokens = self._tokenize([TEMPLATE.format(name) for name in CLASSES])
        with torch.no_grad():
            target = self._frozen((x - self._mean) / self._std) if self._objective == "fare" else None
        delta = torch.zeros_like(x).uniform_(-1 / 255, 1 / 255)
        self.clip.visual.eval()
        for _ in range(self._steps):
            delta.requires_grad_()
            self._loss(x + delta, y, target).backward()
            delta = (delta + delta.grad.sign() / 255).clamp(-1 / 255, 1 / 255).detach()
            delta = (x + delta).clamp(0, 1) - x
        self.clip.visual.train()
        self._optimizer.zero_grad()
        self._loss(x + delta, y, target).backward()
        self._optimizer.step()

    def _loss(self, x: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
        embedding = self.clip.visual((x - self._mean) / self._std)
        if target is not None:
            return (embedding - target).square().sum(1).mean()
        with torch.no_grad():
            text = F.normalize(self.clip.encode_text(self._tokens), dim=1)
        return F.cross_entropy(self.clip.logit_scale.exp() * F.normalize(embedding, dim=1) @ text.T, y)

    def seconds(self, steps: int) -> float:
        """Seconds that `steps` steps take."""
        start = time.perf_counter()
        for _ in range(steps):
            self.step()
        return time.perf_counter() - start


def tuning_step(objective: str, batch: int, *, repeats: int, a_turn: int, target: float | None) -> Pair:
    """Seconds per step, `a_turn` steps in each turn; the reference's embeddings of an epoch are part of the first turn alone.

    Raises AssertionError when the two towers do not agree.
    """
    drawn = numpy_generator(0, "bench/images").integers(0, 256, (4 * batch, 3, 32, 32), dtype="uint8")
    images = ImageSet(torch.from_numpy(drawn), torch.arange(4 * batch) % len(CLASSES), CLASSES, DataProvenance("noise"))
    anchors = text_anchors(CLASSES, ClassGroups.from_counts(len(CLASSES), None, 0), load_encoder("demo"), [TEMPLATE])
    settings = TrainSettings(
        backbone="clip:demo",
        objective=objective,
        tau=1 / anchors.origin["logit_scale"],
        eps=Fraction(1, 255),
        step_size=Fraction(1, 255),
        steps=STEPS[objective],
        batch_size=batch,
        lr=1e-12,
        epochs=10**6,
        augment=False,
    )
    model = EmbeddingModel("clip:demo", 64, 32, mean=(0,) * 3, std=(1,) * 3)
    ours = Trainer(model, torch.from_numpy(anchors.vectors), images, settings, "cpu")
    plain = PlainLoop(objective, images, batch)
    x = images.images[:16].float() / 255
    with torch.no_grad():
        far = model.eval().backbone(x) - plain.clip.visual.eval()(x)
    assert float(far.abs().max()) < 1e-4, "the two image towers differ"

    def ours_seconds() -> float:
        start, taken = time.perf_counter(), 0
        while taken < a_turn:
            taken += sum(1 for _ in ours.steps())
        return (time.perf_counter() - start) / taken

    name = f"{objective} step, clip:demo, {len(CLASSES)} classes, batch {batch}, PGD-{STEPS[objective]}"
    return alternate(name, ours_seconds, lambda: plain.seconds(a_turn) / a_turn, repeats, target)
