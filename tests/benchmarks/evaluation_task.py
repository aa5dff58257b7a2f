"""The task of an evaluation benchmark: a model and images that it classifies correctly, also under attack."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch

from stages.attacks.suites import SUITES
from stages.evaluation.protocol import Protocol
from stages.models.classifier import unit
from stages.models.embedding import EmbeddingModel, place
from stages.pixels import to_pixels
from stages.threat import ThreatModel
from tests.benchmarks.task import Task
from tests.stages.evaluation.models import Group

THREAT = ThreatModel(Fraction(1, 2550000))
SCALE = 10.0
AUTOATTACK = SUITES["aa-few-class"].attacks
_CLASSES, _A_CLASS = 6, 40
_CLEAR = 1e-3  # difference of the two largest cosines, which no rounding and no attack within THREAT changes


@dataclass(frozen=True)
class EvaluationTask:
    """What both programs evaluate: a model and images that it classifies correctly among all anchors, so in every episode.

    Attributes:
        model: on `device`.
        group: the images, their classes and the anchors, on the CPU.
        protocol: the episodes.
    """

    model: EmbeddingModel
    group: Group
    device: str
    protocol: Protocol

    @property
    def points(self) -> int:
        """Number of queries in all episodes."""
        return self.protocol.episodes * self.protocol.ways * self.protocol.queries


def evaluation_task(backbone: str, device: str, episodes: int, queries: int) -> EvaluationTask:
    """Coloured noise, classified by an untrained model with anchors that are fitted to its embeddings; two processes make the
    same."""
    task = Task(backbone, width=64)
    torch.manual_seed(0)
    model = task.model().eval()
    place(model, device)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(_CLASSES).repeat_interleave(4 * _A_CLASS)
    tint = torch.randint(32, 224, (_CLASSES, 3, 1, 1), generator=generator)[labels]
    noise = torch.randint(-24, 25, (len(labels), 3, task.size, task.size), generator=generator)
    images = (tint + noise).clamp(0, 255).to(torch.uint8)
    rows = torch.arange(len(labels))
    with torch.no_grad():
        found = torch.cat([unit(model(to_pixels(images, part, device))).cpu() for part in rows.split(128)])
    exact = found.double()
    wanted = torch.nn.functional.one_hot(labels, _CLASSES).double() - 1 / _CLASSES
    fitted = torch.linalg.solve(exact.T @ exact + 1e-6 * torch.eye(exact.shape[1]).double(), exact.T @ wanted)
    anchors = (fitted.T / fitted.norm(dim=0).max()).float()
    cosines = found @ anchors.T
    first, second = cosines.topk(2).values.T
    right = (cosines.argmax(1) == labels) & (first - second > _CLEAR)
    kept = torch.cat([rows[right & (labels == at)][:_A_CLASS] for at in range(_CLASSES)])
    counts = torch.bincount(labels[kept], minlength=_CLASSES)
    names = [f"class {at}" for at in range(_CLASSES)]
    assert int(counts.min()) >= queries, f"too few images that are right: {counts.tolist()}"
    protocol = Protocol("episodes", ways=5, queries=queries, episodes=episodes)
    return EvaluationTask(model, Group(names, anchors, images[kept], labels[kept]), device, protocol)
