"""The image tower of a CLIP model as a backbone: clip:NAME[/TAG]."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stages.clip_weights import (
    CONFIG,
    OptionNames,
    check_names,
    includes_weights,
    load_clip,
    locate,
    model_folder,
    quiet,
    recorded_name,
)
from stages.errors import UsageError, nearest
from stages.models.no_images import at_least_one, features_of
from stages.text import first_line

PREFIX = "clip:"
OPTIONS = OptionNames(
    "--backbone", "--backbone clip:NAME/FILE.safetensors", "--backbone clip:local-dir:PATH", "--backbone clip:demo"
)
# without random numbers in training, and with the features as the only output
_FIXED = {
    "patch_dropout": 0.0,
    "timm_drop": 0.0,
    "timm_drop_path": None,
    "timm_model_pretrained": False,
    "output_tokens": False,
}


class ClipTower(nn.Module):
    """The image tower of an open_clip model, projection into the common space included. Shapes: (N, 3, S, S) -> (N, features).

    Patch dropout and stochastic depth are off.

    Args:
        record: {"embed_dim", "quick_gelu", "vision_cfg"} as in an open_clip model configuration; weights are random.
        image_size: side of the images; must be the tower's.

    Attributes:
        features: width of the embedding.
        record: the complete record: with it and the weights the tower can be rebuilt without any other file.
        recorded_name: clip:NAME[/TAG] without a local path.
        mean, std: its normalization of pixels in [0, 1], per channel; None when built from a record.
    """

    def __init__(self, record: dict[str, Any], image_size: int) -> None:
        super().__init__()
        self.record = _checked(record)
        wanted = self.record["vision_cfg"]["image_size"]
        if image_size != wanted:
            raise UsageError(f"this image tower takes images of {wanted} px, these have {image_size}", f"add --resize {wanted}")
        self.features = int(self.record["embed_dim"])
        self.recorded_name = ""
        self.mean: list[float] | None = None
        self.std: list[float] | None = None
        with quiet():
            from open_clip import model as towers

            try:
                self.net = towers._build_vision_tower(self.features, self.record["vision_cfg"], self.record["quick_gelu"])
            except Exception as error:  # open_clip raises many types for inconsistent numbers
                raise _damaged(first_line(error)) from error

    @classmethod
    def named(cls, name: str, image_size: int) -> ClipTower:
        """The tower clip:NAME[/TAG] with its weights; published weights are downloaded on first use.

        TAG is a pretrained tag or a safetensors file; without it the weights are random, from torch's global generator. NAME
        may be local-dir:PATH, hf-hub:ORG/NAME or demo, which include weights.

        Raises UsageError (unknown name or tag, another image size), InputError (weights that do not fit), MissingError (weights
        that cannot be downloaded).
        """
        model, tag = split_tower_name(name)
        config, normalisation = tower_configuration(model, tag)
        net = None
        if tower_has_weights(name):
            # sizes first: nothing is downloaded for images that do not fit
            tower_size = _size_of(config)
            if image_size == tower_size:
                located = locate(model, tag or "", OPTIONS)
                config, model, tag = located.config, located.model, located.tag
                net = load_clip(located, OPTIONS)[0]
        tower = cls(config, image_size)
        if net is not None:
            tower.net.load_state_dict(net.visual.state_dict())
        tower.recorded_name = PREFIX + "/".join(filter(None, (recorded_name(model), tag)))
        tower.mean, tower.std = normalisation
        return tower

    def forward(self, x: Tensor) -> Tensor:
        """The image features, not normalized."""
        return features_of(self.net, x)

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image features as of `forward`, and each patch in the same space: its token of the last block through the final
        norm and the projection, as the class token goes, or the mean of the patches.

        Args:
            x: images (N, 3, S, S), normalized.

        Returns:
            Features (N, features) and patch tokens (N, T, features), row by row; neither normalized.

        Raises UsageError for a tower that has no patch tokens in the common space.
        """
        net = self._transformer()
        found = net.forward_intermediates(at_least_one(x), indices=1, normalize_intermediates=True, output_fmt="NLC")
        features, patches = found["image_features"], found["image_intermediates"][-1]
        return features[: len(x)], (patches @ net.proj)[: len(x)]

    def _transformer(self) -> Any:
        """The network, if its patch tokens are in the image's grid and share norm and projection with the features."""
        from open_clip.transformer import VisionTransformer

        net = self.net
        if isinstance(net, VisionTransformer) and net.attn_pool is None and net.pool_type in ("tok", "avg"):
            return net
        raise no_tokens(self.recorded_name or "the image tower")


def no_tokens(name: str) -> UsageError:
    """The error for a network that has no patch tokens."""
    return UsageError(
        f"{name} has no patch tokens that can be projected into the anchors' space",
        "use a vision transformer of CLIP, such as --backbone clip:ViT-B-32",
    )


def check_tower_name(name: str) -> None:
    """Raise UsageError, with the nearest names, unless NAME of clip:NAME[/TAG] is a model of open_clip or includes weights."""
    model, tag = split_tower_name(name)
    if tag is not None and includes_weights(model):
        raise UsageError(f"'{PREFIX}{model}' includes its weights, and '{tag}' names others", f"use {PREFIX}{model}")
    if tag == "" or (not includes_weights(model) and model not in _known_models()):
        raise UsageError(f"unknown backbone '{name}'", f"nearest: {nearest(model, _known_models())}, as clip:NAME[/TAG]")


def tower_image_size(name: str) -> int:
    """The image size of the tower clip:NAME[/TAG], without reading weights. Errors as `ClipTower.named`."""
    return _size_of(tower_configuration(*split_tower_name(name))[0])


def tower_width(name: str) -> int:
    """The width of the embeddings of the tower clip:NAME[/TAG], without reading weights. Errors as `ClipTower.named`."""
    return int(tower_configuration(*split_tower_name(name))[0]["embed_dim"])


def tower_has_weights(name: str) -> bool:
    """Whether clip:NAME[/TAG] names weights; otherwise they are random."""
    model, tag = split_tower_name(name)
    return tag is not None or includes_weights(model)


def recorded_tower(name: str) -> str:
    """clip:NAME[/TAG] without a local path: of folders and files the last component stays."""
    model, tag = split_tower_name(name)
    return PREFIX + "/".join(filter(None, (recorded_name(model), tag and Path(tag).name)))


def split_tower_name(name: str) -> tuple[str, str | None]:
    """clip:NAME[/TAG] -> NAME, TAG; NAME may have a slash (ViT-B/16), TAG may be a path."""
    rest = name.removeprefix(PREFIX)
    if includes_weights(rest):
        return rest, None
    parts = rest.split("/")
    if parts[0] not in _known_models() and len(parts) > 1 and "-".join(parts[:2]) in _known_models():
        parts = ["-".join(parts[:2]), *parts[2:]]
    return parts[0], "/".join(parts[1:]) if len(parts) > 1 else None


def _known_models() -> list[str]:
    """From open_clip if it is loaded, otherwise from the files of its folder: importing it takes seconds."""
    if "open_clip" in sys.modules:
        return list(sys.modules["open_clip"].list_models())
    spec = importlib.util.find_spec("open_clip")
    folders = spec.submodule_search_locations if spec is not None else None
    return sorted(path.stem for folder in folders or () for path in (Path(folder) / "model_configs").glob("*.json"))


def tower_configuration(model: str, tag: str | None) -> tuple[dict[str, Any], tuple[list[float], list[float]]]:
    """The model's architecture, and its mean and std, from open_clip's lists or from the model's folder."""
    config, preprocessing = _published(model, tag)
    return config, _normalisation(preprocessing)


def tower_resize_mode(model: str, tag: str | None) -> str:
    """How the model's images were brought to its size, in open_clip's words: 'shortest' (the centre is cropped), 'squash' …"""
    return str(_published(model, tag)[1].get("resize_mode") or "shortest")


def _published(model: str, tag: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's architecture and preprocessing."""
    if not includes_weights(model):
        check_names(model, tag)
        from open_clip import get_model_config
        from open_clip.pretrained import get_pretrained_cfg

        published = get_pretrained_cfg(model, tag) if tag else {}
        # as in `clip_weights.locate`
        activation = {"quick_gelu": True} if published.get("quick_gelu", False) else {}
        return {**get_model_config(model), **activation}, published
    from stages.clip_config import read_config

    return read_config(model_folder(model, OPTIONS) / CONFIG, recorded_name(model))


def _normalisation(preprocessing: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Mean and std per channel; OpenAI's when the configuration has none, as in open_clip."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    mean, std = (preprocessing.get("mean") or OPENAI_DATASET_MEAN), (preprocessing.get("std") or OPENAI_DATASET_STD)
    return [float(value) for value in mean], [float(value) for value in std]


def _size_of(config: dict[str, Any]) -> int:
    return int(_checked(config)["vision_cfg"]["image_size"])


def _checked(config: dict[str, Any]) -> dict[str, Any]:
    """The image tower of a model configuration, without what training must not use; raises UsageError if it is not valid."""
    from pydantic import ValidationError

    from stages.clip_config import Tower
    from stages.files.records import first_fault

    try:
        tower = {"embed_dim": config["embed_dim"], "quick_gelu": config.get("quick_gelu", False)}
        tower["vision_cfg"] = {**config["vision_cfg"], **_FIXED}
        side = Tower.model_validate(tower).vision_cfg.side
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(type(error).__name__) from None
    except ValidationError as error:
        raise _damaged(first_fault(error)) from None
    tower["vision_cfg"]["image_size"] = side
    return tower


def _damaged(why: str) -> UsageError:
    return UsageError(f"no image tower can be built from its configuration ({why})", "choose another model")
