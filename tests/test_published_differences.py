"""The objectives and the backbone of examples/published_differences."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stages.models.classifier import unit
from stages.training import objectives

FOLDER = Path(__file__).parents[1] / "examples" / "published_differences"
LABELS = torch.tensor([0, 1, 2, 0])


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(FOLDER))
    import published

    yield published
    del sys.modules["published"]


def anchors() -> torch.Tensor:
    return unit(torch.randn(3, 6, generator=torch.Generator().manual_seed(0)))


def images(seed: int) -> torch.Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_three_forward_passes_change_the_running_statistics_and_not_the_loss(published: Any) -> None:
    x, x_adv = images(0), images(1)
    found = {}
    for kind in (objectives.Laat, published.Laat):
        torch.manual_seed(0)
        norm = nn.BatchNorm2d(3)
        head = nn.Sequential(nn.Conv2d(3, 6, 16), nn.Flatten())
        outcome = kind(anchors(), 1.0, 1.0).outer(lambda x, head=head, norm=norm: unit(head(norm(x))), x, x_adv, LABELS)
        found[kind] = outcome.losses, norm.running_mean
    (ours, two), (theirs, three) = found[objectives.Laat], found[published.Laat]
    torch.testing.assert_close(ours, theirs)
    clean, attacked = x.mean((0, 2, 3)), x_adv.mean((0, 2, 3))
    torch.testing.assert_close(two, 0.1 * clean + 0.09 * attacked)
    torch.testing.assert_close(three, 0.1 * attacked + 0.09 * clean + 0.081 * attacked)


@pytest.mark.parametrize("name", ["CosineDistance", "AngularDistance", "EuclideanDistance"])
def test_distances_are_attacked_by_the_cross_entropy(published: Any, name: str) -> None:
    def embed(x: torch.Tensor) -> torch.Tensor:
        return unit(x.flatten(1)[:, :6])

    theirs, ours = (getattr(module, name)(anchors(), 1.0) for module in (published, objectives))
    x, x_adv = images(0), images(1)
    wanted = objectives.a_ce(theirs.logits(embed(x_adv)), LABELS)
    torch.testing.assert_close(theirs.inner(embed, x, LABELS)(x_adv), wanted)
    assert not torch.allclose(ours.inner(embed, x, LABELS)(x_adv), wanted)
    # trained on the same distance
    torch.testing.assert_close(*(one.outer(embed, x, x_adv, LABELS).losses for one in (theirs, ours)))


def test_the_biases_of_conv4_cancel_in_training(published: Any) -> None:
    net = published.conv4_64_with_biases().train()
    before = net(images(0))
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                layer.bias.add_(1.0)
    assert before.shape == (4, 64)
    torch.testing.assert_close(net(images(0)), before, rtol=1e-3, atol=1e-4)
