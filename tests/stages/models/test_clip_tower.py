from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from stages import clip_weights
from stages.clip_weights import OptionNames
from stages.errors import InputError, MissingError, UsageError
from stages.files.artifacts import Artifact, from_bytes, to_bytes
from stages.models.backbones import build_backbone, check_backbone_name, required_image_size
from stages.models.checkpoint import checkpoint_of, read_checkpoint
from stages.models.classifier import Classifier, unit
from stages.models.embedding import EmbeddingModel
from tests.stages.anchors.encoders import tiny_folder, tiny_weights
from tests.stages.models.test_checkpoint import anchors


def model(backbone: str, width: int = 5, size: int = 16, seed: int = 0) -> EmbeddingModel:
    return EmbeddingModel(backbone, width, size, mean=(0.1,) * 3, std=(9.0,) * 3, seed=seed)


def images(count: int = 2, size: int = 16) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def directly(path: str, x: Tensor) -> Tensor:
    """What open_clip gives anybody for images as a tensor in [0, 1]."""
    net, _, transform = open_clip.create_model_and_transforms(path)
    with torch.no_grad():
        return normalize(net.eval().encode_image(transform.transforms[-1](x)), dim=1)


def recorded(made: EmbeddingModel) -> Artifact:
    training = {"settings": {"tau": 1.0}}
    return checkpoint_of(made, anchors(width=made.width), training, {}, image_size=made.image_size)


def written_and_read(artifact: Artifact, **params: Any) -> Classifier:
    artifact = replace(artifact, params={**artifact.params, **params})
    return read_checkpoint(from_bytes(to_bytes(artifact), where="it", kind="model"), "it")


def test_with_anchors_of_its_width_it_starts_as_the_clip_model_itself(folder: Path) -> None:
    expected = directly(f"local-dir:{folder}", images())
    made = model(f"clip:local-dir:{folder}").eval()
    torch.testing.assert_close(unit(made(images())), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(made.mean.flatten(), torch.full((3,), 0.5))
    # trained all the same, and its modes follow
    assert all(parameter.requires_grad for parameter in made.parameters())
    assert made.train().backbone.net.training


def test_the_bundled_tower() -> None:
    folder = clip_weights.model_folder("demo", OptionNames("", "", "", ""))
    made = model("clip:demo", width=64, size=32).eval()
    torch.testing.assert_close(unit(made(images(size=32))), directly(f"local-dir:{folder}", images(size=32)), rtol=0, atol=1e-5)


def test_with_other_anchors_the_projection_starts_random(folder: Path) -> None:
    made = model(f"clip:local-dir:{folder}", width=7).eval()
    assert made(images()).shape == (2, 7)
    assert made.projection.weight.abs().max() <= 5**-0.5
    assert (made.projection.weight != 0).all()


def test_weights_from_a_file(named: str, tmp_path: Path, folder: Path) -> None:
    weights = tiny_weights(tmp_path / "mine.safetensors")
    made = model(f"clip:{named}/{weights}").eval()
    assert made.backbone_name == f"clip:{named}/file:mine.safetensors"
    tower = model(f"clip:local-dir:{folder}")
    torch.testing.assert_close(made.backbone.state_dict(), tower.backbone.state_dict())
    # OpenAI's normalisation, as open_clip takes it for a file
    torch.testing.assert_close(made.mean.flatten(), torch.tensor(open_clip.OPENAI_DATASET_MEAN))
    torch.testing.assert_close(made.std.flatten(), torch.tensor(open_clip.OPENAI_DATASET_STD))


def test_without_a_tag_weights_follow_from_the_seed(named: str) -> None:
    before = torch.random.get_rng_state()
    one, again, other = (model(f"clip:{named}", seed=seed).backbone.state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["net.proj"], other["net.proj"])


def test_quick_gelu_follows_the_tag(named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tiny_weights(tmp_path / "open_clip_model.safetensors")
    tags = {"quick": {"hf_hub": "org/quick/", "quick_gelu": True, "mean": (0.3,) * 3, "std": (0.2,) * 3}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, named, {**tags, "plain": {"hf_hub": "org/plain/"}})
    monkeypatch.setattr(clip_weights, "_fetch", lambda repository, name, ways: weights)
    # open_clip would fetch by the tag: it is given the file that was found
    quick, plain = (model(f"clip:{named}/{tag}").eval() for tag in ("quick", "plain"))
    assert quick.architecture["tower"]["quick_gelu"] is True
    assert plain.architecture["tower"]["quick_gelu"] is False
    assert quick.backbone_name == f"clip:{named}/quick"
    torch.testing.assert_close(quick.mean.flatten(), torch.full((3,), 0.3))
    x = images()
    assert (quick.backbone(x) - plain.backbone(x)).abs().max() > 1e-4
    torch.testing.assert_close(quick.backbone.state_dict(), plain.backbone.state_dict())


@pytest.mark.parametrize("way", ["folder", "demo", "random"])
def test_a_checkpoint_is_complete_in_itself(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    path = tiny_folder(tmp_path / "somewhere" / "mine")
    name = {"folder": f"local-dir:{path}", "demo": "demo", "random": named}[way]
    width, size = (64, 32) if way == "demo" else (5, 16)
    made = model(f"clip:{name}", width, size).eval()
    checkpoint = recorded(made)
    assert str(tmp_path) not in json.dumps(checkpoint.params)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a checkpoint must be enough")

    for function in ("locate", "load_clip", "model_folder", "check_names", "_fetch"):
        monkeypatch.setattr(clip_weights, function, never)
        monkeypatch.setattr(f"stages.models.clip_tower.{function}", never, raising=False)
    back = written_and_read(checkpoint).embedding
    torch.testing.assert_close(back(images(size=size)), made(images(size=size)), rtol=0, atol=0)
    assert back.backbone_name == made.backbone_name
    assert back.architecture == made.architecture
    assert to_bytes(recorded(back)) == to_bytes(checkpoint)


def tower(**changes: Any) -> dict[str, Any]:
    record = model("clip:demo", 64, 32).architecture["tower"]
    vision = {**record["vision_cfg"], **changes.pop("vision", {})}
    return {"backbone": "clip:demo", "width": 64, "image_size": 32, "tower": {**record, "vision_cfg": vision, **changes}}


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (lambda: tower(vision={"layers": 10**9}), "cannot be built: no image tower"),
        (lambda: tower(vision={"width": 10**12}), "cannot be built: no image tower"),
        (lambda: tower(vision={"image_size": 10**6}), "cannot be built: no image tower"),
        (lambda: tower(vision={"image_size": 64}), "takes images of 64 px, these have 32"),
        (lambda: tower(vision={"width": float(64)}), "cannot be built: no image tower"),
        (lambda: tower(vision={"head_width": 0}), "cannot be built: no image tower"),
        (lambda: tower(vision={"width": 8192}), "expects"),
        (lambda: tower(vision={"layers": 4}), "lacks the tensor"),
        (lambda: tower(vision={"strange": 1}), "cannot be built: no image tower"),
        (lambda: tower(vision={"timm_model_name": "hf-hub:some/thing"}), "timm has no model 'hf-hub:some/thing'"),
        (lambda: tower(embed_dim=-1), "cannot be built: no image tower"),
        (lambda: tower(vision_cfg=None), "cannot be built: no image tower"),
        (lambda: {**tower(), "tower": "tower"}, "architecture.tower is .tower.: input should be an object"),
        (lambda: {**tower(), "tower": None}, "lacks its architecture"),
        (lambda: {**tower(), "backbone": "conv4-8"}, "lacks its architecture"),
    ],
)
def test_forged_records_are_refused(architecture: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        written_and_read(recorded(model("clip:demo", 64, 32)), architecture=architecture())


def test_names(folder: Path) -> None:
    for name in ("clip:ViT-B-32", "clip:ViT-B-32/openai", "clip:ViT-B/32/openai", "clip:demo", f"clip:local-dir:{folder}"):
        check_backbone_name(name)
    for name in ("clip:", "clip:ViT-B-33/openai", "clip:ViT-B-32/", "clip:vit", "CLIP:ViT-B-32"):
        with pytest.raises(UsageError, match="unknown backbone"):
            check_backbone_name(name)
    with pytest.raises(UsageError, match=r"nearest: .*'ViT-B-32'.* as clip:NAME"):
        check_backbone_name("clip:ViT-B-33")
    with pytest.raises(UsageError, match="'clip:demo' includes its weights, and 'openai' names others; use clip:demo"):
        check_backbone_name("clip:demo/openai")


def test_a_wrong_tag_shows_the_nearest_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_weights, "_fetch", lambda *_: pytest.fail("fetched"))
    for ask in (required_image_size, lambda name: build_backbone(name, 224)):
        with pytest.raises(UsageError, match=r"'opnai' is neither a tag of ViT-B-32 nor a file; tags of ViT-B-32: .*'openai'"):
            ask("clip:ViT-B-32/opnai")


def test_required_image_sizes(folder: Path) -> None:
    sizes = {
        "clip:ViT-B-32": 224,
        "clip:ViT-B/16/openai": 224,
        "clip:RN50x4/openai": 288,
        "clip:ViT-B-16-SigLIP-256/webli": 256,
        "clip:demo": 32,
        f"clip:local-dir:{folder}": 16,
        "conv4-64": None,
        "resnet12": None,
        "timm:resnet18": None,
    }
    assert {name: required_image_size(name) for name in sizes} == sizes
    for name in ("resnet18", "clip:nothing"):
        with pytest.raises(UsageError, match="unknown backbone"):
            required_image_size(name)


def test_images_of_another_size_are_refused_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_weights, "_fetch", lambda *_: pytest.fail("fetched"))
    with pytest.raises(UsageError, match="takes images of 224 px, these have 32; add --resize 224"):
        build_backbone("clip:ViT-B-32/openai", 32)


def test_a_folder_that_is_no_model_and_one_that_is_damaged(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not an open_clip model folder"):
        required_image_size(f"clip:local-dir:{tmp_path}")
    for text in ("{", "[]", '{"model_cfg": 3}', '{"model_cfg": {}, "preprocess_cfg": {"mean": [1]}}'):
        (tmp_path / "open_clip_config.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"the configuration of local-dir:.* is damaged"):
            required_image_size(f"clip:local-dir:{tmp_path}")


def test_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"never looked at")
    with pytest.raises(InputError, match=r"other formats can run code; .*clip:NAME/FILE\.safetensors"):
        build_backbone(f"clip:ViT-B-32/{tmp_path / 'weights.pt'}", 224)

    def away(repository: str, name: str, options: OptionNames) -> Path:
        raise MissingError(f"no {repository}", options.folder)

    monkeypatch.setattr(clip_weights, "_fetch", away)
    with pytest.raises(MissingError, match="clip:local-dir:PATH"):
        build_backbone("clip:ViT-B-32/openai", 224)


def test_under_autocast(folder: Path) -> None:
    made = model(f"clip:local-dir:{folder}").eval()
    exact = unit(made(images()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = unit(made(images()))
    assert found.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found, exact).min() > 0.999
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))


def test_gradients_reach_the_pixels_and_the_tower(folder: Path) -> None:
    made = model(f"clip:local-dir:{folder}")
    x = images().requires_grad_(True)
    made(x)[:, 0].sum().backward()
    assert x.grad.abs().max() > 0
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_a_wrong_name_is_refused_without_loading_open_clip() -> None:
    code = (
        "import sys; from stages.models.backbones import check_backbone_name as check\n"
        "check('clip:ViT-B-32/openai'); check('clip:demo')\n"
        "assert 'open_clip' not in sys.modules and 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
