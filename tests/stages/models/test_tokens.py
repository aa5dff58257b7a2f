"""The patch tokens of an image tower, against open_clip's own path of the class token and of the mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.errors import UsageError
from stages.models.clip_tower import ClipTower
from stages.models.embedding import EmbeddingModel
from tests.stages.anchors.encoders import tiny_config
from tests.stages.models.test_clip_tower import images, model


def tower(**changes: Any) -> ClipTower:
    config = tiny_config()
    vision = {**config["vision_cfg"], "layers": 2, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = ClipTower({**config, "vision_cfg": vision}, 16).double().eval()
        with torch.no_grad():  # norms that do something
            made.net.ln_post.weight.uniform_(0.5, 2)
            made.net.ln_post.bias.uniform_(-1, 1)
    return made


def patches_by_hand(made: ClipTower, x: Tensor) -> Tensor:
    """Each patch put where the class token is, so that open_clip's own pooling and projection take it: (N, T, features)."""
    net = made.net
    sequence = net.transformer(net._embeds(x))
    found = []
    for at in range(1, sequence.shape[1]):
        # a pooling of the mean leaves out the first one
        pooled, _ = net._pool(sequence[:, [at, at]])
        found.append(pooled @ net.proj)
    return torch.stack(found, 1)


@pytest.mark.parametrize(
    "changes",
    [{}, {"pool_type": "avg"}, {"final_ln_after_pool": True}, {"pool_type": "avg", "final_ln_after_pool": True}],
    ids=["class token", "mean", "norm last", "mean, norm last"],
)
def test_patches_go_through_the_norm_and_the_projection_of_the_class_token(changes: dict[str, Any]) -> None:
    made, x = tower(**changes), images(3).double()
    with torch.no_grad():
        features, patches = made.tokens(x)
        assert torch.equal(features, made(x))
        torch.testing.assert_close(patches, patches_by_hand(made, x), rtol=0, atol=1e-12)
    assert patches.shape == (3, 4, 5)
    if changes == {"pool_type": "avg"}:
        torch.testing.assert_close(patches.mean(1), features, rtol=0, atol=1e-12)


def test_tokens_are_row_by_row() -> None:
    """Of a tower without attention a patch depends on its own pixels alone."""
    made, x = tower(layers=1), images(1).double()
    with torch.no_grad():
        made.net.transformer.resblocks[0].attn.out_proj.weight.zero_()
        before, changed = made.tokens(x)[1], x.clone()
        changed[:, :, :8, 8:] = 0  # top right
        moved = (made.tokens(changed)[1] - before).abs().amax(2)[0] > 0
    assert moved.tolist() == [False, True, False, False]


@pytest.mark.parametrize("width", [5, 7])
def test_a_model_projects_tokens_as_it_projects_embeddings(folder: Path, width: int) -> None:
    made, x = model(f"clip:local-dir:{folder}", width).double().eval(), images().double()
    x.requires_grad_(True)
    raw, patches = made.tokens(x)
    assert torch.equal(raw, made(x))
    assert patches.shape == (2, 4, width)
    normal = (x - 0.5) / 0.5
    expected = patches_by_hand(made.backbone, normal) @ made.projection.weight.T
    torch.testing.assert_close(patches, expected, rtol=0, atol=1e-12)
    (grad,) = torch.autograd.grad(patches.sum(), x)
    assert (grad != 0).all()


def test_the_bundled_tower_and_no_images() -> None:
    made = model("clip:demo", width=64, size=32).eval()
    raw, patches = made.tokens(images(0, size=32))
    assert (raw.shape, patches.shape) == ((0, 64), (0, 64, 64))
    patches.sum().backward()  # of zero, as for embeddings: a process may have no images
    assert float(made.backbone.net.proj.grad.abs().max()) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"attentional_pool": True, "attn_pooler_heads": 1},
        {"pool_type": "none"},
        {"layers": [1, 1, 1, 1], "width": 4, "head_width": 4},
    ],
    ids=["attention pooling", "no pooling", "ModifiedResNet"],
)
def test_a_tower_without_patch_tokens_says_so(changes: dict[str, Any]) -> None:
    config = tiny_config()
    config["vision_cfg"] = {**config["vision_cfg"], "image_size": 32, **changes}
    made = ClipTower(config, 32)
    with pytest.raises(UsageError, match=r"the image tower has no patch tokens .*such as --backbone clip:ViT-B-32"):
        made.tokens(images(size=32))


@pytest.mark.parametrize("backbone", ["conv4-8", "timm:resnet18"])
def test_a_network_without_tokens_is_named(backbone: str) -> None:
    made: EmbeddingModel = model(backbone, size=32)
    with pytest.raises(UsageError, match=f"{backbone} has no patch tokens"):
        made.tokens(images(size=32))
