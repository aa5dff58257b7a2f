"""Weights without a record: the architecture is said, names and shapes are compared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stages.anchors.anchor_set import AnchorSet
from stages.classes import ClassGroups
from stages.errors import InputError, UsageError
from stages.exchange.model_request import ModelRequest
from stages.exchange.open_model import open_model
from stages.exchange.zero_shot import assumed
from stages.files import artifacts
from stages.models.classifier import Classifier, unit
from stages.models.embedding import EmbeddingModel
from tests.stages.anchors.encoders import tiny_folder

NAMES = ("red circle", "blue star")
ABC: Any = (("a", "b", "c"), ClassGroups((0, 1, 2)), {"source": "random", "seed": 0})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    artifacts.write(AnchorSet(np.eye(3, 8, dtype=np.float32), *ABC).to_artifact(), tmp_path / "anchors.st")
    return tmp_path / "anchors.st"


def opened(path: Path, **asked: object) -> Classifier:
    return open_model(str(path), ModelRequest(**asked)).classifier  # type: ignore[arg-type]


def saved(tensors: dict[str, Tensor], path: Path) -> Path:
    save_file({name: one.contiguous() for name, one in tensors.items()}, path)
    return path


def pixels(size: int = 16) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_an_image_tower_with_the_text_tower_of_a_model(folder: Path, tmp_path: Path) -> None:
    """As FARE and TeCoA publish theirs: the visual tower alone, also under visual., in half precision."""
    whole = load_file(folder / "open_clip_model.safetensors")
    tower = {name.removeprefix("visual."): one for name, one in whole.items() if name.startswith("visual.")}
    robust = {name: (one * 1.25).half() for name, one in tower.items()}
    found = [
        opened(saved(given, tmp_path / "robust.safetensors"), architecture=f"clip:local-dir:{folder}", names=NAMES)
        for given in (robust, {f"visual.{name}": one for name, one in robust.items()})
    ]
    base = open_model(f"local-dir:{folder}", ModelRequest(names=NAMES)).classifier
    base.embedding.backbone.net.load_state_dict({name: one.float() for name, one in robust.items()})  # type: ignore[union-attr]
    for one in found:
        torch.testing.assert_close(one(pixels()), base(pixels()))
    assert found[0].origin.sha256 != found[1].origin.sha256


def test_a_whole_model_has_its_own_text_tower(folder: Path, tmp_path: Path, named: str) -> None:
    path = saved(load_file(folder / "open_clip_model.safetensors"), tmp_path / "whole.safetensors")
    made = opened(path, architecture=f"clip:{named}", names=NAMES)
    like = open_model(f"clip:{named}/{path}", ModelRequest(names=NAMES)).classifier
    assert torch.equal(made(pixels()), like(pixels()))


def test_our_embedding_model_and_a_tower_alone(tmp_path: Path, anchors: Path) -> None:
    net = EmbeddingModel("conv4-8", 8, 16, mean=(0.5,) * 3, std=(0.2,) * 3).eval()
    made = opened(saved(net.state_dict(), tmp_path / "ours.safetensors"), architecture="conv4-8", anchors=anchors)
    torch.testing.assert_close(made.embed(pixels()), unit(net(pixels())))
    assert (made.logit_scale, made.image_size, made.classes) == (1.0, None, ("a", "b", "c"))
    alone = opened(saved(net.backbone.state_dict(), tmp_path / "alone.safetensors"), architecture="conv4-8", anchors=anchors)
    torch.testing.assert_close(alone.embed(pixels(32)), unit(net.backbone(pixels(32))))


def test_weights_that_do_not_fit(tmp_path: Path, anchors: Path, folder: Path) -> None:
    tensors = EmbeddingModel("conv4-8", 8, 16, mean=(0.5,) * 3, std=(0.2,) * 3).state_dict()
    path = saved(tensors, tmp_path / "it.safetensors")
    for architecture, says in (
        ("conv4-16", "tensor 'backbone.blocks.0.conv.weight' in .* has shape (8, 3, 3, 3), conv4-16 expects (16, 3, 3, 3)"),
        ("resnet12", "lacks the tensor 'backbone.blocks.0.convs.0.conv.weight', which resnet12 has"),
    ):
        with pytest.raises(InputError, match=re.escape(says).replace(r"\.\*", ".*")):
            opened(path, architecture=architecture, anchors=anchors)
    narrow = EmbeddingModel("conv4-4", 4, 16, mean=(0,) * 3, std=(1,) * 3).backbone.state_dict()
    with pytest.raises(InputError, match=r"anchors have width 8 and the embeddings of .* 4; give anchors"):
        opened(saved(narrow, tmp_path / "4.safetensors"), architecture="conv4-4", anchors=anchors)
    tower = {name: one for name, one in load_file(folder / "open_clip_model.safetensors").items() if name != "visual.proj"}
    with pytest.raises(InputError, match=r"lacks the tensor 'visual\.proj', which clip:"):
        opened(saved(tower, tmp_path / "x.safetensors"), architecture=f"clip:local-dir:{folder}", names=NAMES)


def test_the_logit_scale_of_the_file(tmp_path: Path, anchors: Path, folder: Path) -> None:
    whole = load_file(folder / "open_clip_model.safetensors")
    tower = {name: one for name, one in whole.items() if name.startswith("visual.")}
    bare = {name.removeprefix("visual."): one for name, one in tower.items()}

    def scale(tensors: dict[str, Tensor], value: object) -> float:
        path = saved({**tensors, "logit_scale": torch.tensor(value)}, tmp_path / "x.safetensors")
        return opened(path, architecture=f"clip:local-dir:{folder}", names=NAMES).logit_scale

    for tensors in (tower, bare, whole):
        assert scale(tensors, 2.0) == pytest.approx(np.exp(2))
        for value, says in ((1000.0, "is 1000"), (np.nan, "is nan")):
            with pytest.raises(InputError, match=f"'logit_scale' in .* {says}, expected one number from -13.8 to 13.8"):
                scale(tensors, value)
    with pytest.raises(InputError, match=r"'logit_scale' in .* has shape \(2,\)"):
        scale(tower, [1.0, 2.0])


def test_wrong_usage(tmp_path: Path, anchors: Path) -> None:
    path = saved({"x": torch.ones(2)}, tmp_path / "x.safetensors")
    for asked, says in (
        ({"anchors": anchors}, "no laat record of what they are; add --architecture: clip:NAME"),
        ({"architecture": "conv4-8"}, "'x' has no class names"),
        ({"architecture": "conv4-8", "names": NAMES}, "conv4-8 has no text tower to encode class names; give --anchors"),
        ({"architecture": "clip:ViT-B-32", "names": NAMES}, "add the tag of its text tower, clip:NAME/TAG, or give --anchors"),
        ({"architecture": "a.b:c", "anchors": anchors}, "is your own module; give it as MODEL"),
    ):
        with pytest.raises(UsageError, match=says):
            opened(path, **asked)


def test_what_the_file_does_not_say_is_told(tmp_path: Path, anchors: Path, folder: Path, named: str) -> None:
    net = EmbeddingModel("conv4-8", 8, 16, mean=(0.5,) * 3, std=(0.2,) * 3)
    whole = load_file(folder / "open_clip_model.safetensors")
    tower = {name: one for name, one in whole.items() if name.startswith("visual.")}
    scale, plain = "weights.safetensors has no logit scale: {} is assumed", "without normalization"
    configuration = f"weights.safetensors does not say its activation and normalization: those of clip:{named} are assumed"
    (tmp_path / "whole.safetensors").write_bytes((folder / "open_clip_model.safetensors").read_bytes())
    artifacts.write(AnchorSet(np.eye(3, 5, dtype=np.float32), *ABC).to_artifact(), tmp_path / "narrow.st")
    for tensors, architecture, says in (
        (net.state_dict(), "conv4-8", [scale.format(1)]),
        (net.backbone.state_dict(), "conv4-8", [scale.format(1), plain]),
        (tower, f"clip:local-dir:{folder}", []),  # the scale of the model of the text tower
        (tower, f"clip:{named}/{tmp_path / 'whole.safetensors'}", [configuration]),
        (whole, f"clip:{named}", [configuration]),
        (tower, f"clip:{named}", [scale.format(100), configuration]),
    ):
        lines: list[str] = []
        path = saved(tensors, tmp_path / "weights.safetensors")
        own = {"conv4-8": anchors, f"clip:{named}": tmp_path / "narrow.st"}.get(architecture)
        classes = {"names": NAMES} if own is None or tensors is whole else {"anchors": own}
        open_model(str(path), ModelRequest(architecture=architecture, **classes), progress=lines.append)  # type: ignore[arg-type]
        told = [one for one in lines if not one.startswith("loading ")]
        assert len(told) == len(says)
        assert all(text in one for text, one in zip(says, told, strict=True)), told
    assert assumed("a", "ViT-B-32").endswith("; if they are OpenAI's or tuned from them, name clip:ViT-B-32-quickgelu")
    assert assumed("a", "ViT-B-32-quickgelu").endswith("are assumed")


@pytest.mark.parametrize("kind", ["tower", "clip"])
def test_templates_are_read_before_anything_is_loaded(kind: str, tmp_path: Path, folder: Path) -> None:
    lines: list[str] = []
    path = saved({"x": torch.ones(2)}, tmp_path / "x.safetensors")
    asked = ModelRequest(names=NAMES, templates="nowhere.txt", architecture="clip:demo" if kind == "tower" else None)
    with pytest.raises(InputError, match=r"nowhere\.txt"):
        open_model(str(path) if kind == "tower" else "clip:demo", asked, progress=lines.append)
    assert lines == []
