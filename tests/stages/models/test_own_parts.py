from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.errors import LaatError, MissingError, UsageError
from stages.models.backbones import build_backbone, check_backbone_name
from stages.models.embedding import EmbeddingModel
from stages.models.own_parts import check_embedding, fingerprint, is_own_backbone, load_backbone, output_width

PARTS = """
import torch
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def maps():
    return nn.Conv2d(3, 5, 3)

def fails():
    raise ValueError("no weights here")

def needs(width):
    return nn.Linear(width, 2)

net = nn.Linear(2, 2)
number = 3
text = lambda: "no module"
"""


@pytest.fixture(autouse=True)
def own_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_net.py").write_text(PARTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_net", raising=False)


def test_names() -> None:
    assert is_own_backbone("own_net:make")
    assert not any(is_own_backbone(name) for name in ("timm:resnet18", "clip:demo", "conv4-64", "own_net", "own-net:make"))
    check_backbone_name("own_net:make")
    with pytest.raises(UsageError, match=r"or timm:NAME, clip:NAME\[/TAG\], package\.module:factory"):
        check_backbone_name("own_net:")


def test_a_backbone_of_ones_own() -> None:
    before = torch.random.get_rng_state()
    modules = [load_backbone("own_net:make", seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(modules[0][0].weight, modules[1][0].weight)
    assert not torch.equal(modules[0][0].weight, modules[2][0].weight)
    model = EmbeddingModel("own_net:make", 6, 16, mean=(0.5,) * 3, std=(0.5,) * 3, own=modules[0])
    assert model.training
    assert model(torch.rand(4, 3, 16, 16)).shape == (4, 6)
    assert model.architecture == {"backbone": "own_net:make", "width": 6, "image_size": 16}
    assert int(modules[0][1].num_batches_tracked) == 1  # the probe left no trace


@pytest.mark.parametrize(
    ("path", "kind", "says"),
    [
        (
            "own_nett:make",
            MissingError,
            r"--backbone own_nett:make: No module named 'own_nett'; install .*or start in",
        ),
        ("own_net:made", UsageError, "'own_net' has no 'made'; nearest: 'make'"),
        (
            "own_net:number",
            UsageError,
            "own_net:number is a int; name a function or class that returns an nn.Module",
        ),
        ("own_net:net", UsageError, "own_net:net is a Linear; name a function"),
        ("own_net:text", UsageError, "own_net:text returns a str; name a function"),
        ("own_net:fails", UsageError, r"own_net:fails: fails\(\) fails with ValueError: no weights here"),
        (
            "own_net:needs",
            UsageError,
            r"own_net:needs: needs\(\) fails with TypeError: .*missing 1 .*without arguments",
        ),
    ],
)
def test_mistakes_are_one_line(path: str, kind: type[LaatError], says: str) -> None:
    with pytest.raises(kind, match=says) as caught:
        load_backbone(path)
    assert "\n" not in str(caught.value)


def test_the_output_is_checked() -> None:
    with pytest.raises(UsageError, match=r"own_net:maps gives \(2, 5, 14, 14\) for 2 images, expected \(2, features\); end it"):
        build_backbone("own_net:maps", 16, own=load_backbone("own_net:maps"))
    with pytest.raises(UsageError, match="x does not take 16 px images: RuntimeError: mat1 and mat2"):
        output_width(nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), 16, "x")
    with pytest.raises(UsageError, match="gives a tuple for 2 images"):
        output_width(Pair(), 16, "x")
    good = load_backbone("own_net:make")
    check_embedding(good, 16, 5)
    with pytest.raises(UsageError, match=r"gives \(2, 5\) for 2 images, the anchors have width 512; .*nn\.Linear\(5, 512\)"):
        check_embedding(good, 16, 512)


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def test_a_name_alone_is_not_imported() -> None:
    with pytest.raises(UsageError, match="'own_net:make' is a backbone of your own"):
        build_backbone("own_net:make", 16)
    assert "own_net" not in sys.modules


def test_fingerprints() -> None:
    one, same, other = (load_backbone("own_net:make", seed) for seed in (0, 0, 1))
    assert fingerprint(one) == fingerprint(same)
    assert fingerprint(one)["type"] == "torch.nn.modules.container:Sequential"
    differing = {key for key, value in fingerprint(one).items() if fingerprint(other)[key] != value}
    assert differing == {"weights"}
    wider = nn.Sequential(nn.Conv2d(3, 6, 3), *list(one)[1:])
    assert fingerprint(wider)["shapes"] != fingerprint(one)["shapes"]
