"""Checkpoints of the published LAAT program against the networks that they are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stages.anchors.anchor_set import AnchorSet
from stages.errors import InputError, LaatError, UsageError
from stages.exchange.import_checkpoint import import_checkpoint
from stages.exchange.import_request import NORMALIZATIONS
from stages.files import artifacts
from stages.files.reading import sha256_of
from stages.models.classifier import Classifier
from tests.stages.exchange.published import Conv4, ResNet12, cosines, save_laat, trained_like
from tests.stages.models.test_checkpoint import anchors

pytestmark = pytest.mark.usefixtures("no_child")
WIDTH = 6
TOLERANCE = 1e-6


@pytest.fixture
def given(tmp_path: Path) -> Path:
    artifacts.write(anchors(width=WIDTH).to_artifact(), tmp_path / "anchors.st")
    return tmp_path / "anchors.st"


def conv4(width: int = 8, out: int | None = WIDTH) -> nn.Module:
    net = Conv4(width)
    return trained_like(net if out is None else nn.Sequential(net, nn.Linear(width, out, bias=False)))


def logits_of(net: nn.Module, x: Tensor, vectors: AnchorSet, normalization: str = "cifar-fs") -> Tensor:
    """What the published program computes, at tau = 1."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in NORMALIZATIONS[normalization])
    with torch.no_grad():
        return cosines(net((x - mean) / std), torch.from_numpy(vectors.vectors))


def images(size: int = 32) -> Tensor:
    return torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(5))


def answers(made: Classifier, x: Tensor) -> Tensor:
    with torch.no_grad():
        return made(x)


@pytest.mark.parametrize(
    ("net", "architecture"), [(conv4(), "conv4-8"), (conv4(WIDTH, None), "conv4-6"), (conv4(64), "conv4-64")]
)
def test_conv4_answers_as_the_published_network(net: nn.Module, architecture: str, given: Path, tmp_path: Path) -> None:
    made = import_checkpoint(save_laat(net, tmp_path / "model_best.pt"), "laat", anchors=given)
    torch.testing.assert_close(answers(made, images()), logits_of(net, images(), made.anchor_set), rtol=0, atol=TOLERANCE)
    record = made.origin.training["imported"]
    assert made.embedding.backbone_name == architecture
    assert record["changes"][0] == "4 biases of convolutions folded into the running means"
    assert record["ignored"].items() >= {"second names of the same layers": 28, "epoch": 1, "val_robust_acc": 1}.items()
    assert "optimizer_state_dict" in record["ignored"]


def test_resnet12_and_the_normalization_of_miniimagenet(given: Path, tmp_path: Path) -> None:
    net = trained_like(nn.Sequential(ResNet12(), nn.Linear(640, WIDTH, bias=False)))
    path = save_laat(net, tmp_path / "r.pt")
    made = import_checkpoint(path, "laat", tmp_path / "model.st", anchors=given, image_size=80, tau=0.5)
    assert (made.image_size, made.embedding.backbone_name, made.logit_scale) == (80, "resnet12", 2)
    found = answers(made, images(80)) / 2
    torch.testing.assert_close(found, logits_of(net, images(80), made.anchor_set, "miniimagenet"), rtol=0, atol=TOLERANCE)
    # what was written is what was returned
    record = artifacts.read(tmp_path / "model.st", "model")
    assert record.params["training"]["imported"]["sha256"] == sha256_of(path)


def test_a_plain_state_dict_in_safetensors_and_a_wrapped_one(given: Path, tmp_path: Path) -> None:
    net = conv4()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    save_file(state, tmp_path / "plain.safetensors")
    torch.save({"model_state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "wrapped.pt")
    for name in ("plain.safetensors", "wrapped.pt"):
        made = import_checkpoint(tmp_path / name, "laat", anchors=given)
        torch.testing.assert_close(answers(made, images()), logits_of(net, images(), made.anchor_set), rtol=0, atol=TOLERANCE)


def broken(**changes: Any) -> dict[str, Tensor]:
    """A state dict of Conv4 with other tensors; None removes one."""
    state = {**conv4().state_dict(), **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"0__trunk__2__C__weight": None}, "lacks the tensor '0.trunk.2.C.weight', which conv4-8 has"),
        ({"0__trunk__1__BN__weight": torch.ones(9)}, r"tensors '0.trunk.1.trunk.1.weight' and '0.trunk.1.BN.weight'.* differ"),
        ({"0__trunk__4__C__weight": torch.ones(9)}, "has the tensor '0.trunk.4.C.weight', which conv4-8 does not have"),
        ({"1__weight": torch.ones(7, 8)}, r"linear layer '1.weight'.* has shape \(7, 8\), expected \(6, 8\)"),
        ({"1__weight": torch.full((6, 8), torch.nan)}, "tensor '1.weight'.* not finite"),
        (
            {"0__trunk__0__C__bias": torch.ones(1), "0__trunk__0__trunk__0__bias": None},
            r"tensor '0.trunk.0.C.bias' in .* has shape \(1,\), conv4-8 expects \(8,\)",
        ),
        ({"0__trunk__0__C__weight": torch.ones(0)}, "no checkpoint of the published LAAT program"),
    ],
)
def test_a_file_that_differs_names_the_first_tensor(changes: dict[str, Any], says: str, given: Path, tmp_path: Path) -> None:
    torch.save({"model_state_dict": broken(**changes)}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=says):
        import_checkpoint(tmp_path / "x.pt", "laat", anchors=given)


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"anchors": None}, UsageError, "needs the anchors that the model was trained with"),
        ({"classes": "shapes", "anchors": None}, UsageError, "--classes cannot be combined with --as laat"),
        ({"architecture": "resnet12"}, InputError, "lacks the tensor '0.layer1.0.conv1.weight', which resnet12 has"),
        ({"architecture": "clip:demo"}, UsageError, "none of the published LAAT program"),
    ],
)
def test_options_that_do_not_fit(
    options: dict[str, Any], kind: type[LaatError], says: str, given: Path, tmp_path: Path
) -> None:
    path = save_laat(conv4(), tmp_path / "x.pt")
    with pytest.raises(kind, match=says):
        import_checkpoint(path, "laat", **{"anchors": given, **options})


def test_anchors_of_another_width(given: Path, tmp_path: Path) -> None:
    path = save_laat(conv4(8, None), tmp_path / "x.pt")
    with pytest.raises(InputError, match="no linear layer, so its embeddings have width 8, and the anchors have width 6"):
        import_checkpoint(path, "laat", anchors=given)


def test_an_import_is_reproducible(given: Path, tmp_path: Path) -> None:
    path = save_laat(conv4(), tmp_path / "x.pt")
    for name in ("a.st", "b.st"):
        import_checkpoint(path, "laat", tmp_path / name, anchors=given)
    assert (tmp_path / "a.st").read_bytes() == (tmp_path / "b.st").read_bytes()
    assert artifacts.read(tmp_path / "a.st").params["groups"] == anchors(width=WIDTH).groups.to_record()
