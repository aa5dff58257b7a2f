"""A model folder is data: its configuration cannot run code, fetch anything, or choose which weights are loaded."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from stages import clip_config, clip_weights
from stages.anchors.encoder import load_encoder
from stages.clip_config import read_config
from stages.errors import InputError, LaatError, MissingError
from stages.models.backbones import build_backbone
from tests.stages.anchors.encoders import tiny_config, tiny_folder

BIN, OTHER, FIRST = "open_clip_pytorch_model.bin", "model.safetensors", "open_clip_model.safetensors"
FORGED: dict[str, dict[str, Any]] = {
    "the folder's code": {"text_cfg": {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}},
    "code with a published tokenizer": {
        "text_cfg": {"hf_tokenizer_name": "roberta-base", "tokenizer_kwargs": {"trust_remote_code": True}}
    },
    "the folder's tokenizer": {"text_cfg": {"hf_tokenizer_name": "."}},
    "a file of the machine": {"text_cfg": {"tokenizer_kwargs": {"bpe_path": "/etc/passwd"}}},
    "a tokenizer of the hub": {"text_cfg": {"hf_tokenizer_name": "some/repository"}},
    "a text model of the hub": {"text_cfg": {"hf_model_name": "some/repository"}},
    "a decoder of the hub": {"multimodal_cfg": {"hf_model_name": "some/repository"}, "custom_text": True},
    "an image model of the hub": {"vision_cfg": {"timm_model_name": "hf-hub:some/repository"}},
    "arguments of a module": {"text_cfg": {"norm_kwargs": {"device": "cuda"}}},
    "an unknown entry": {"cast_dtype": "float16"},
    "an entry of another type": {"text_cfg": {"tokenizer_kwargs": "trust_remote_code"}},
    "a vocabulary larger than memory": {"text_cfg": {"vocab_size": 10**12}},
    "positions larger than memory": {"vision_cfg": {"width": 8192, "image_size": 2048, "patch_size": 16}},
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """What was asked of a stand-in for transformers, which runs the code of a folder as the real one does."""
    calls: list[tuple[Any, dict[str, Any]]] = []

    class AutoTokenizer:
        @staticmethod
        def from_pretrained(name: Any, **options: Any) -> Callable[..., None]:
            calls.append((name, options))
            return lambda *_, **__: None

    module = ModuleType("transformers")
    module.AutoTokenizer = AutoTokenizer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", module)
    return calls


def changed_folder(folder: Path, changes: dict[str, Any]) -> Path:
    config = tiny_config()
    for name, value in changes.items():
        config[name] = {**config.get(name, {}), **value} if isinstance(value, dict) else value
    (tiny_folder(folder) / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
    return folder


@pytest.mark.parametrize("changes", FORGED.values(), ids=FORGED)
def test_only_an_architecture_is_taken_from_a_folder(
    changes: dict[str, Any], tmp_path: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = changed_folder(tmp_path / "m", changes)
    monkeypatch.setattr(clip_weights, "_fetch", lambda repository, name, options: folder / name)
    ways: list[Callable[[], object]] = [
        lambda: load_encoder(f"local-dir:{folder}"),
        lambda: load_encoder("hf-hub:org/name"),
        lambda: build_backbone(f"clip:local-dir:{folder}", 16),
        lambda: build_backbone("clip:hf-hub:org/name", 16),
    ]
    for way in ways:
        with pytest.raises(InputError, match=r"the configuration of (local-dir:m|hf-hub:org/name) cannot be used: "):
            way()
    assert not asked


def test_a_published_tokenizer_is_loaded_by_name_without_its_code(tmp_path: Path, asked: list[Any]) -> None:
    text = {"hf_tokenizer_name": "roberta-base", "tokenizer_kwargs": {"clean": "canonicalize"}}
    load_encoder(f"local-dir:{changed_folder(tmp_path / 'm', {'text_cfg': text})}")
    [(name, options)] = asked
    assert (name, options["trust_remote_code"]) == ("roberta-base", False)


@pytest.mark.parametrize("key", ["hf_tokenizer_name", "hf_model_name"])
@pytest.mark.parametrize("name", ["roberta-base", "google/mt5-base"])
def test_a_folder_in_the_working_directory_does_not_replace_a_published_name(
    name: str, key: str, tmp_path: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = changed_folder(tmp_path / "m", {"text_cfg": {key: name}})
    (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"'{name}' in the working directory would be read instead of the published"):
        load_encoder(f"local-dir:{folder}")
    assert not asked


def test_a_tokenizer_that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    folder = changed_folder(tmp_path / "m", {"text_cfg": {"hf_tokenizer_name": "roberta-base"}})
    with pytest.raises(MissingError, match=r"the tokenizer of local-dir:m does not load: .*transformers.*pip install"):
        load_encoder(f"local-dir:{folder}")


def test_the_configurations_of_open_clip_itself_are_taken(tmp_path: Path) -> None:
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        (tmp_path / "config.json").write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
        assert read_config(tmp_path / "config.json", name)[0] == config


@pytest.mark.parametrize(("names", "loaded"), [((OTHER, BIN), OTHER), ((OTHER, FIRST, BIN), FIRST)])
def test_the_weights_that_are_recorded_are_those_that_are_loaded(names: tuple[str, ...], loaded: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "m")
    weights = load_file(folder / FIRST)
    (folder / FIRST).unlink()
    expected: dict[str, torch.Tensor] = {}
    for at, name in enumerate(names):
        other = {key: value + at for key, value in weights.items()}
        if name == BIN:
            torch.save(other, folder / name)
        else:
            save_file(other, folder / name)
        if name == loaded:
            expected = other
    found = clip_weights.locate(f"local-dir:{folder}", "", clip_weights.OptionNames("", "", "", ""))
    net, sha256 = clip_weights.load_clip(found, clip_weights.OptionNames("", "", "", ""))
    torch.testing.assert_close(net.state_dict(), expected, rtol=0, atol=0, check_stride=False)
    assert sha256 == hashlib.sha256((folder / loaded).read_bytes()).hexdigest()
    assert load_encoder(f"local-dir:{folder}").record["weights_sha256"] == sha256


@pytest.mark.parametrize(
    "changes",
    [
        {"text_cfg": {"width": 16}},
        {"text_cfg": {"layers": 2}},
        {"text_cfg": {"context_length": 6}},
        {"text_cfg": {"context_length": 24}, "custom_text": True},
        {"vision_cfg": {"width": 16}},
        {"embed_dim": 6},
    ],
    ids=str,
)
def test_a_model_that_does_not_fit_its_weights_is_refused_before_it_takes_memory(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = changed_folder(tmp_path / "m", changes)
    devices: list[str] = []
    build = clip_config.build_model

    def watched(config: dict[str, Any]) -> Any:
        net = build(config)
        devices.extend({value.device.type for value in net.state_dict().values()})
        return net

    monkeypatch.setattr(clip_config, "build_model", watched)
    for load in (load_encoder, lambda name: build_backbone(f"clip:{name}", 16)):
        with pytest.raises(InputError, match=r"'open_clip_model\.safetensors' do not load as local-dir:m: "):
            load(f"local-dir:{folder}")
    assert devices == ["meta", "meta"]
    monkeypatch.undo()
    load_encoder(f"local-dir:{tiny_folder(tmp_path / 'fits')}")


@pytest.mark.parametrize("renamed", [True, False], ids=["renamed over", "written into"])
def test_weights_that_are_replaced_while_they_are_read_are_refused(
    renamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_folder(tmp_path / "m")
    other = (folder / FIRST).read_bytes()
    true_sha256 = clip_weights.sha256_of

    def then_replaced(path: Path) -> str:
        found = true_sha256(path)
        before = path.stat()
        (tmp_path / "other").write_bytes(other)
        os.replace(tmp_path / "other", path) if renamed else path.write_bytes(other)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return found

    monkeypatch.setattr(clip_weights, "sha256_of", then_replaced)
    with pytest.raises(LaatError, match=r"'open_clip_model\.safetensors' were replaced while they were read"):
        load_encoder(f"local-dir:{folder}")
