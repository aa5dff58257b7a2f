from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.anchors.bundled import bundled_classes
from stages.anchors.encoder import load_encoder
from stages.anchors.sources import PUBLISHED, text_anchors
from stages.classes import ClassGroups
from stages.files import artifacts
from stages.models.checkpoint import checkpoint_of
from stages.models.embedding import EmbeddingModel
from stages.uninitialised import Uninitialised

_LOAD = """
import sys
import stages as laat
for path in sys.argv[1:]:
    laat.load(path, device="cpu").over(["red ball"])
slow = {"torch._dynamo", "torch._inductor", "sympy", "open_clip", "timm", "torchvision", "datasets", "matplotlib"}
print(*sorted(slow & sys.modules.keys()))
"""


def test_loading_a_checkpoint_and_the_bundled_encoder_imports_nothing_slow(tmp_path: Path) -> None:
    names, _ = bundled_classes("shapes")
    own = text_anchors(names[:3], ClassGroups.from_counts(3, None), load_encoder("demo"), [PUBLISHED])
    paths = []
    for name in ("conv4-8", "resnet12"):  # they have different initialisers
        model = EmbeddingModel(name, own.vectors.shape[1], 16, mean=(0.5,) * 3, std=(0.2,) * 3)
        paths.append(str(tmp_path / f"{name}.st"))
        artifacts.write(checkpoint_of(model, own, {"settings": {"tau": 1.0}}, {}, image_size=16), paths[-1])
    done = subprocess.run([sys.executable, "-c", _LOAD, *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


@pytest.mark.parametrize(
    "initialise",
    [
        nn.init.normal_,
        nn.init.uniform_,
        nn.init.kaiming_normal_,
        nn.init.kaiming_uniform_,
        nn.init.xavier_uniform_,
        lambda weight: nn.init.constant_(weight, 3),
    ],
)
def test_initialisers_change_nothing_and_draw_nothing(initialise: object) -> None:
    weight, before = torch.full((3, 4), 7.0), torch.get_rng_state()
    with Uninitialised():
        assert initialise(weight) is weight  # type: ignore[operator]
        assert torch.equal(torch.zeros(2) + 1, torch.ones(2))  # all else runs
    assert torch.equal(weight, torch.full((3, 4), 7.0))
    assert torch.equal(torch.get_rng_state(), before)
