from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stages.errors import InputError
from stages.files.artifacts import Artifact
from stages.models.checkpoint import checkpoint_of
from stages.models.embedding import EmbeddingModel
from stages.models.initialise import initialise_from
from tests.stages.models.test_backbones import trained
from tests.stages.training.synthetic import made_up_anchors


def model(backbone: str = "conv4-8", width: int = 6, size: int = 32, seed: int = 0, mean: float = 0.4) -> EmbeddingModel:
    return EmbeddingModel(backbone, width, size, mean=(mean,) * 3, std=(0.3,) * 3, seed=seed)


def saved(source: EmbeddingModel) -> Artifact:
    """The checkpoint of a model."""
    return checkpoint_of(source, made_up_anchors(width=source.width), {}, {}, image_size=source.image_size)


def images(size: int = 32) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("backbone", ["conv4-8", "resnet12", "timm:resnet10t", "clip:demo"])
def test_the_model_answers_as_the_checkpoints_does(backbone: str) -> None:
    source, made = trained(model(backbone, seed=1, mean=0.6)).eval(), model(backbone)
    assert initialise_from(made, saved(source), "'old.st'")
    assert made.training
    torch.testing.assert_close(made.eval()(images()), source(images()), rtol=0, atol=0)
    # copied, not shared
    with torch.no_grad():
        made.projection.weight.add_(1)
    assert (made.projection.weight - source.projection.weight).abs().min() > 0.5


def test_anchors_of_another_width_leave_the_projection_as_it_starts() -> None:
    source, made = trained(model(width=7, seed=1)), model()
    assert not initialise_from(made, saved(source), "'old.st'")
    torch.testing.assert_close(made.projection.weight, model().projection.weight)
    torch.testing.assert_close(made.eval().backbone(images()), source.eval().backbone(images()))


def test_images_of_another_size_where_the_weights_do_not_depend_on_it() -> None:
    made = model("resnet12", size=32)
    assert initialise_from(made, saved(trained(model("resnet12", size=16))), "'old.st'")
    vit = "timm:vit_tiny_patch16_224"
    with pytest.raises(InputError, match=r"at 64 px; 'backbone\.net\.pos_embed' is \(.*\) in the checkpoint and \(.*\) in the"):
        initialise_from(model(vit, size=64), saved(model(vit, size=32)), "'old.st'")


@pytest.mark.parametrize("other", ["conv4-16", "resnet12", "clip:demo"])
def test_another_architecture_is_refused(other: str) -> None:
    made = model()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    message = rf"'old\.st' has {other} for images of 32 px, this run trains conv4-8 at 32 px; .*--backbone {other}"
    with pytest.raises(InputError, match=message):
        initialise_from(made, saved(model(other)), "'old.st'")
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
