"""CLIP models as zero-shot classifiers, against what open_clip itself gives."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from torch.nn.functional import normalize

from stages import clip_weights
from stages.anchors.encoder import load_encoder
from stages.anchors.sources import text_anchors
from stages.classes import ClassGroups
from stages.clip_weights import OptionNames
from stages.data.load import load_images
from stages.data.request import ImageRequest
from stages.errors import InputError, UsageError
from stages.exchange.model_request import ModelRequest
from stages.exchange.open_model import open_model, open_models, report_names
from stages.expand.paper import PaperExpansion
from stages.files import artifacts
from stages.models.classifier import Classifier
from tests.stages.anchors.encoders import tiny_folder

NAMES = ("red circle", "blue_star")
TEMPLATE = "a photo of a {}."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("clip") / "tiny")


def directly(path: Path, x: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    """The logits that open_clip gives anybody."""
    net, _, transform = open_clip.create_model_and_transforms(f"local-dir:{path}")
    tokens = open_clip.get_tokenizer(f"local-dir:{path}")(prompts)
    with torch.no_grad():
        image, text = net.eval().encode_image(transform.transforms[-1](x)), net.encode_text(tokens)
        return net.logit_scale.exp() * normalize(image, dim=1) @ normalize(text, dim=1).T


def opened(spec: str, **asked: object) -> Classifier:
    return open_model(spec, ModelRequest(**asked)).classifier  # type: ignore[arg-type]


def test_logits_are_those_of_open_clip(folder: Path) -> None:
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    made = opened(f"local-dir:{folder}", names=NAMES, template=[TEMPLATE])
    expected = directly(folder, x, ["a photo of a red circle.", "a photo of a blue star."])
    torch.testing.assert_close(made(x), expected, rtol=0, atol=1e-5)
    assert made.classes == NAMES
    assert (made.image_size, made.groups.seen, made.origin.reading) == (16, (), {"resize": 16})
    assert made.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)


def test_another_resizing_than_ours_is_said(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "squashed")
    path = tmp_path / "squashed/open_clip_config.json"
    config = json.loads(path.read_text())
    config["preprocess_cfg"] = {**config.get("preprocess_cfg", {}), "resize_mode": "squash"}
    path.write_text(json.dumps(config))
    said: list[str] = []
    for one in (folder, tmp_path / "squashed"):
        open_model(f"local-dir:{one}", ModelRequest(names=NAMES), progress=said.append)
    (line,) = (line for line in said if "resized" in line)
    assert line.startswith("local-dir:squashed was made for images resized with 'squash'; here the shorter side is resized")


def test_an_identity_changes_with_the_normalization(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / folder.name))
    path = other / "open_clip_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "preprocess_cfg": {**config.get("preprocess_cfg", {}), "mean": [0.4, 0.5, 0.6]}}))
    one, two = (opened(f"local-dir:{path}", names=NAMES).origin for path in (folder, other))
    assert one.sha256 == two.sha256
    assert one.digest != two.digest


def test_the_bundled_clip_on_shapes() -> None:
    images = load_images(ImageRequest("shapes"), side="test")
    rows = torch.arange(0, len(images), 50)
    x, labels = images.images[rows], images.labels[rows]
    made = opened("clip:demo", classes="shapes")
    with torch.no_grad():
        logits = made(x)
    path = clip_weights.model_folder("demo", OptionNames("", "", "", ""))
    prompts = [f"This is a photo of a {name}" for name in images.classes]
    torch.testing.assert_close(logits, directly(path, x / 255, prompts), rtol=0, atol=1e-4)
    assert (logits.argmax(1) == labels).float().mean() > 0.9


def test_anchors_from_a_file_must_be_of_the_same_encoder(folder: Path, tmp_path: Path) -> None:
    encoder = load_encoder(f"local-dir:{folder}")
    own = text_anchors(NAMES, ClassGroups((0,), (), (1,)), encoder, [TEMPLATE])
    artifacts.write(own.to_artifact(), tmp_path / "own.st")
    made = opened(f"local-dir:{folder}", anchors=tmp_path / "own.st")
    assert made.groups.seen == ()
    assert made.anchor_set.origin == own.origin
    names = opened(f"local-dir:{folder}", names=NAMES, template=[TEMPLATE])
    assert torch.equal(made.anchors, names.anchors)
    for other, says in (
        (
            replace(own, origin={**own.origin, "weights_sha256": "0" * 64}),
            "another encoder than local-dir:tiny: weights_sha256",
        ),
        (replace(own, expansion=PaperExpansion.fit(own.vectors)), "are expanded"),
    ):
        artifacts.write(other.to_artifact(), tmp_path / "other.st")
        with pytest.raises(InputError, match=says):
            opened(f"local-dir:{folder}", anchors=tmp_path / "other.st")


@pytest.mark.parametrize(
    ("spec", "asked", "says"),
    [
        ("clip:ViT-B-32", {"names": NAMES}, "'clip:ViT-B-32' names no weights; add a tag, as clip:ViT-B-32/TAG: 'openai'"),
        ("clip:ViT-B-33/openai", {"names": NAMES}, "open_clip has no model 'ViT-B-33'; nearest: 'ViT-B-32"),
        ("clip:ViT-B-32/opnai", {"names": NAMES}, "'opnai' is neither a tag of ViT-B-32 nor a file"),
        ("clip:demo", {}, "'clip:demo' has no class names; give --classes FILE"),
        ("clip:demo", {"names": NAMES, "backbone": "a.b:c"}, "--backbone means nothing for a CLIP model"),
        ("hf-hub:a b/c&d", {"names": NAMES}, "'a b/c&d' is not the name of a hub repository"),
        ("clip:demo", {"names": NAMES, "template": ["a photo"]}, "needs exactly one {}"),
    ],
)
def test_wrong_usage(spec: str, asked: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("{", r"\{")):
        opened(spec, **asked)


def test_names_that_the_tokenizer_cannot_hold(folder: Path) -> None:
    with pytest.raises(InputError, match="longer than the 12 tokens"):
        opened(f"local-dir:{folder}", names=("a very " * 9 + "long name",))


def test_an_identity_changes_with_weights_scale_and_prompts(folder: Path) -> None:
    one, two = (opened(f"local-dir:{folder}", names=NAMES, template=[text]) for text in (TEMPLATE, "a {}"))
    assert one.origin.digest == two.origin.digest != opened("clip:demo", names=NAMES).origin.digest
    assert not torch.equal(one.anchors, two.anchors)
    scaled = replace(one.origin, foreign={**one.origin.foreign, "logit_scale": 1.0})
    assert scaled.digest != one.origin.digest


def test_names_in_reports_have_no_paths(folder: Path) -> None:
    assert report_names([f"local-dir:{folder}", "clip:demo"]) == ["local-dir:tiny", "clip:demo"]
    one, two = open_models([f"local-dir:{folder}", "clip:demo"], ModelRequest(names=NAMES))
    assert (one.name, two.name) == ("local-dir:tiny", "clip:demo")
    assert two.lineage["anchors"]["kind"] == "anchors"
