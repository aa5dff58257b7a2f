from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from torch.nn.functional import normalize

from stages import clip_weights
from stages.anchors.bundled import bundled_classes
from stages.anchors.encoder import OPTIONS, load_encoder
from stages.anchors.sources import text_anchors
from stages.classes import ClassGroups
from stages.clip_config import config_digest
from stages.clip_weights import OptionNames
from stages.cosines import cosine_figures
from stages.errors import InputError, MissingError, UsageError
from tests.stages.anchors.encoders import NAMED, tiny_config, tiny_folder, tiny_weights

TEXTS = ["This is a photo of a bear", "This is a photo of a sea lion"]


def assert_same(features: torch.Tensor, expected: torch.Tensor) -> None:
    """But for float rounding: attention takes another way through torch when no parameter wants a gradient."""
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)


def changed_config(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
    return folder


def directly(folder: Path, texts: list[str]) -> torch.Tensor:
    """The text features as open_clip gives them to anybody."""
    net = open_clip.create_model_and_transforms(f"local-dir:{folder}")[0].eval()
    with torch.no_grad():
        return net.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(texts))


def test_a_model_folder_gives_the_features_of_open_clip(folder: Path) -> None:
    found = load_encoder(f"local-dir:{folder}")
    assert_same(found.encode(found.tokenize(TEXTS)), directly(folder, TEXTS))
    made = text_anchors(["bear", "sea_lion"], ClassGroups((0, 1)), found, ["This is a photo of a {}"])
    np.testing.assert_allclose(made.vectors, normalize(directly(folder, TEXTS).double(), dim=1), atol=1e-5)


def test_what_is_recorded_names_no_path(folder: Path) -> None:
    found = load_encoder(f"local-dir:{folder}")
    weights = (folder / "open_clip_model.safetensors").read_bytes()
    assert found.record == {
        "model": "local-dir:tiny",
        "pretrained": "",
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "config_sha256": config_digest(tiny_config()),
        "activation": "GELU",
        "logit_scale": pytest.approx(1 / 0.07),  # the initial one of open_clip
    }
    assert found.context_length == 12


@pytest.mark.parametrize(
    "changed",
    [
        {"pool_type": "first"},
        {"no_causal_mask": True},
        {"norm_kwargs": {"eps": 1.0}},
        {"heads": 4},
        {"tokenizer_kwargs": {"clean": "whitespace"}},
    ],
    ids=str,
)
def test_another_architecture_with_the_same_weights_is_another_encoder(
    changed: dict[str, Any], tmp_path: Path, folder: Path
) -> None:
    config = tiny_config()
    config["text_cfg"].update(changed)
    other = changed_config(tiny_folder(tmp_path / "tiny"), config)
    own, found = (load_encoder(f"local-dir:{one}").record for one in (folder, other))
    assert {key for key in own if own[key] != found[key]} == {"config_sha256"}


def test_the_same_architecture_written_otherwise_is_the_same_encoder() -> None:
    config = tiny_config()
    config["text_cfg"] = dict(reversed([*config["text_cfg"].items(), ("mlp_ratio", 4), ("pool_type", "argmax")]))
    assert config_digest(dict(reversed(config.items()))) == config_digest(tiny_config())


def test_the_digests_of_published_architectures_stay() -> None:
    """Anchors record them: checkpoints of today could not take new names otherwise."""
    assert load_encoder("demo").record["config_sha256"] == "455a49d4cca3284ea8dc4aa68eb14a70fa81899917469e1f1926507c37b7c8fd"
    assert (
        config_digest(open_clip.get_model_config("ViT-B-16"))
        == "4989b15f7dfa0d9f55f1ddd11e9d5753f9b0507773beb530860b235e470d311b"
    )


def test_an_encoder_gives_no_gradients_and_is_in_eval_mode(folder: Path) -> None:
    found = load_encoder(f"local-dir:{folder}")
    features = found.encode(found.tokenize(TEXTS))
    assert features.dtype == torch.float32
    assert not features.requires_grad


def test_quick_gelu_is_recorded_and_computed(folder: Path, tmp_path: Path) -> None:
    quick = tiny_folder(tmp_path / "quick", quick_gelu=True)
    found = load_encoder(f"local-dir:{quick}")
    assert found.record["activation"] == "QuickGELU"
    features = found.encode(found.tokenize(TEXTS))
    assert_same(features, directly(quick, TEXTS))
    # the same weights with the other activation
    assert (features - directly(folder, TEXTS)).abs().max() > 1e-3


def test_a_prompt_beyond_the_context_is_named(folder: Path) -> None:
    found = load_encoder(f"local-dir:{folder}")
    fits = "one two three four five six seven eight nine ten"  # with start and end 12 tokens
    assert text_anchors([fits], ClassGroups((0,)), found, ["{}"]).vectors.shape == (1, 5)
    with pytest.raises(InputError, match=f"'{fits} eleven' is longer than the 12 tokens"):
        text_anchors(["bear", f"{fits} eleven"], ClassGroups((0, 1)), found, ["{}"])


def test_weights_from_a_file(named: str, tmp_path: Path, folder: Path) -> None:
    weights = tiny_weights(tmp_path / "mine.safetensors")
    found = load_encoder(named, str(weights))
    assert_same(found.encode(found.tokenize(TEXTS)), directly(folder, TEXTS))
    assert (found.model, found.record["pretrained"]) == (NAMED, "file:mine.safetensors")
    assert found.record["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_weights_of_another_architecture(named: str, tmp_path: Path) -> None:
    save_file({"something.else": torch.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=f"'other.safetensors' do not load as {named}"):
        load_encoder(named, str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff" * 100])
def test_damaged_weights(content: bytes, named: str, tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"'bad\.safetensors' do not load"):
        load_encoder(named, str(tmp_path / "bad.safetensors"))


@pytest.mark.parametrize("name", ["weights.pt", "weights.bin", "weights.pth", "weights"])
def test_pickled_weights_are_refused_unread(name: str, named: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"never looked at")
    with pytest.raises(InputError, match="loading other formats can run code"):
        load_encoder(named, str(tmp_path / name))


def test_a_folder_with_pickled_weights_only_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "open_clip_config.json", tmp_path)
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"never looked at")
    with pytest.raises(InputError, match="has no safetensors weights"):
        load_encoder(f"local-dir:{tmp_path}")


def test_the_safetensors_are_loaded_where_a_pickle_lies_beside_them(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "both")
    (tmp_path / "both" / "open_clip_pytorch_model.bin").write_bytes(b"not a pickle")
    found = load_encoder(f"local-dir:{tmp_path / 'both'}")
    assert_same(found.encode(found.tokenize(TEXTS)), directly(folder, TEXTS))


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match=r"not an open_clip model folder: it has no open_clip_config\.json"):
            load_encoder(f"local-dir:{path}")


def test_a_damaged_configuration(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "bad")
    (tmp_path / "bad" / "open_clip_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="the configuration of local-dir:bad is damaged"):
        load_encoder(f"local-dir:{tmp_path / 'bad'}")


def test_unknown_names_show_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no model 'ViT-B-17'; nearest: .*'ViT-B-1"):
        load_encoder("ViT-B-17", "openai")
    with pytest.raises(UsageError, match=r"'opnai' is neither a tag of ViT-B-16 nor a file; tags of ViT-B-16: .*'openai'"):
        load_encoder("ViT-B-16", "opnai")


@pytest.mark.parametrize(
    ("model", "tag", "repository", "quick"),
    [
        ("ViT-B-16", "openai", "timm/vit_base_patch16_clip_224.openai", True),
        ("ViT-B/16", "openai", "timm/vit_base_patch16_clip_224.openai", True),
        ("ViT-B-16", "laion2b_s34b_b88k", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", False),
        ("ViT-B-16-SigLIP", "webli", "timm/ViT-B-16-SigLIP", False),
    ],
)
def test_a_tag_says_where_its_weights_are_and_how_they_were_trained(
    model: str, tag: str, repository: str, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[tuple[str, str]] = []

    def fetch(repository: str, name: str, options: OptionNames) -> Path:
        fetched.append((repository, name))
        return Path("weights")

    monkeypatch.setattr(clip_weights, "_fetch", fetch)
    located = clip_weights.locate(model, tag, OPTIONS)
    assert fetched == [(repository, "open_clip_model.safetensors")]
    assert (located.model, located.config.get("quick_gelu", False), located.tag) == (model.replace("/", "-"), quick, tag)


def test_a_hub_model_is_loaded_from_the_folder_that_was_hashed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(repository: str, name: str, options: OptionNames) -> Path:
        asked.append((repository, name))
        return folder / name

    monkeypatch.setattr(clip_weights, "_fetch", fetch)
    found = load_encoder("hf-hub:org/name")
    assert asked == [("org/name", "open_clip_config.json"), ("org/name", "open_clip_model.safetensors")]
    assert found.model == "hf-hub:org/name"
    assert_same(found.encode(found.tokenize(TEXTS)), directly(folder, TEXTS))


def test_without_network_and_weights_the_alternatives_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any, **__: Any) -> None:
        raise LocalEntryNotFoundError("not in the cache")

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("Network is unreachable")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", nothing)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    for model in ("ViT-B-16", "hf-hub:org/name"):
        with pytest.raises(MissingError, match=r"cannot be downloaded \(Network is unreachable") as caught:
            load_encoder(model)
        for way in ("network", "--pretrained FILE.safetensors", "--model local-dir:PATH", "--model demo"):
            assert way in caught.value.fix


@pytest.mark.parametrize("model", ["demo", "hf-hub:org/name", "local-dir:somewhere"])
def test_a_tag_beside_weights_is_refused_and_not_dropped(model: str) -> None:
    with pytest.raises(UsageError, match=f"'{model}' includes its weights, and 'openai' names others"):
        load_encoder(model, "openai")


def test_a_name_that_is_no_hub_repository() -> None:
    with pytest.raises(UsageError, match="write it as ORG/NAME"):
        load_encoder("hf-hub:not a name/at/all")


def test_the_bundled_encoder() -> None:
    found = load_encoder("demo")
    names, groups = bundled_classes("shapes")
    made = text_anchors(names, groups, found, ["This is a photo of a {}"])
    assert made.vectors.shape == (64, 64)
    assert made.origin["model"] == "demo"
    assert cosine_figures(made.vectors).near_duplicates == ()
