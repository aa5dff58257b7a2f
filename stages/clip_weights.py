"""Find and load the weights of an open_clip model, for the text encoder and the image tower.

Only safetensors are read: loading other formats can run code.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from stages.errors import InputError, LaatError, MissingError, UsageError, nearest
from stages.files.reading import sha256_of
from stages.text import first_line

DEMO = "demo"
CONFIG = "open_clip_config.json"
FILE_TAG = "file:"  # and the name of the file: weights of the user's
WEIGHTS = "open_clip_model.safetensors"


@dataclass(frozen=True)
class OptionNames:
    """The options for model and weights, for error messages."""

    model: str
    file: str
    folder: str
    demo: str


@dataclass(frozen=True)
class Located:
    """A model's architecture and weights.

    Attributes:
        config: the architecture (`model_cfg`), checked if it came from a folder.
        weights: the safetensors file.
        model, tag: for records, without paths.
    """

    config: dict[str, Any]
    weights: Path
    model: str
    tag: str


def locate(model: str, pretrained: str, options: OptionNames) -> Located:
    """Find a model's weights; published ones are downloaded if they are not in the cache.

    Args:
        model: an open_clip name ('ViT-B-16'), `local-dir:PATH`, `hf-hub:ORG/NAME`, or 'demo' (the bundled tiny CLIP).
        pretrained: an open_clip tag ('openai') or a safetensors weights file; empty with the three other forms of `model`.
        options: see `OptionNames`.

    Raises:
        UsageError: unknown model or tag, with the nearest ones; weights that are named twice.
        InputError: a folder without configuration or weights; weights that are not safetensors.
        MissingError: weights that cannot be downloaded.
    """
    if not includes_weights(model):
        return _built_in(model.replace("/", "-"), pretrained, options)
    if pretrained:
        raise UsageError(f"'{model}' includes its weights, and '{pretrained}' names others", "give one of the two")
    from stages.clip_config import read_config

    folder, recorded = model_folder(model, options), recorded_name(model)
    config = read_config(folder / CONFIG, recorded)[0]
    if model.startswith("hf-hub:"):
        return Located(config, _fetch(model.removeprefix("hf-hub:"), WEIGHTS, options), recorded, "")
    for name in (WEIGHTS, "model.safetensors"):
        if (folder / name).is_file():
            return Located(config, folder / name, recorded, "")
    raise InputError(f"'{folder}' has no safetensors weights", f"save them there as {WEIGHTS} (other formats can run code)")


def includes_weights(model: str) -> bool:
    """Whether `model` includes its weights: local-dir:, hf-hub: and the bundled model."""
    return model == DEMO or model.startswith(("local-dir:", "hf-hub:"))


def recorded_name(model: str) -> str:
    """`model` without local paths."""
    return f"local-dir:{Path(model.removeprefix('local-dir:')).name}" if model.startswith("local-dir:") else model


def model_folder(model: str, options: OptionNames) -> Path:
    """The folder with the configuration of a model that `includes_weights`; from the hub only the configuration.

    Raises InputError if it has no configuration, else as `locate`.
    """
    if model.startswith("hf-hub:"):
        folder = _fetch(model.removeprefix("hf-hub:"), CONFIG, options).parent
    elif model == DEMO:
        folder = Path(str(resources.files("stages.anchors").joinpath("demo_clip")))
    else:
        folder = Path(model.removeprefix("local-dir:"))
    if not (folder / CONFIG).is_file():
        raise InputError(f"'{folder}' is not an open_clip model folder: it has no {CONFIG}", f"it needs {CONFIG} and {WEIGHTS}")
    return folder


def load_clip(located: Located, options: OptionNames, device: str = "cpu") -> tuple[Any, str]:
    """Load exactly the file `located.weights`.

    Returns:
        The CLIP model in float32, and the SHA-256 of its weights file.

    Raises InputError if the weights do not fit the architecture, or the file was replaced while it was read.
    """
    with quiet():
        import open_clip
        import torch

        from stages.clip_config import build_model
        from stages.uninitialised import Uninitialised

        try:
            before = _version_of(located.weights)
            sha256 = sha256_of(located.weights)
            # names and shapes first, without memory: the configuration may describe a far larger model than the weights
            with torch.device("meta"), Uninitialised():
                shapes = build_model(located.config)
            _check_context(shapes, located.weights)
            # the suffix decides: open_clip reads only safetensors from such a file
            open_clip.load_checkpoint(shapes, str(located.weights), strict=True)
            with Uninitialised():
                net = build_model(located.config)
            open_clip.load_checkpoint(net, str(located.weights), strict=True)
            replaced = _version_of(located.weights) != before
        except LaatError:
            raise
        except Exception as error:  # open_clip raises many types for weights that do not fit
            raise _does_not_load(located, options, error) from error
    if replaced:
        raise InputError(f"the weights '{located.weights.name}' were replaced while they were read", "run the command again")
    return net.to(device), sha256


def _check_context(net: Any, weights: Path) -> None:
    """Raise ValueError if the text tower has another context length than the weights: open_clip would interpolate them."""
    from safetensors import safe_open

    tower = net if hasattr(net, "positional_embedding") else net.text
    own = getattr(tower, "positional_embedding", None)
    with safe_open(weights, "pt") as file:
        names = [name for name in file.keys() if "positional_embedding" in name]  # noqa: SIM118 (not a dict)
        for name in names:
            length = file.get_slice(name).get_shape()[-2]
            if own is not None and "visual." not in name and "image_encoder." not in name and length != len(own):
                raise ValueError(f"the context has {len(own)} tokens, in the weights {length}")


def _version_of(path: Path) -> tuple[int, ...]:
    """What changes whenever a file is written to or replaced."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _does_not_load(located: Located, options: OptionNames, error: Exception) -> InputError:
    """The error for weights that do not load."""
    return InputError(
        f"the weights '{located.weights.name}' do not load as {located.model}: {first_line(error)}",
        f"check that {options.model} names the architecture of the weights",
    )


def check_names(model: str, pretrained: str | None) -> None:
    """Raise UsageError, with the nearest names, unless open_clip has `model` and `pretrained` is one of its tags or a file.

    With `pretrained` None only the model is checked. Downloads nothing.
    """
    with quiet():
        import open_clip
        from open_clip.pretrained import is_pretrained_cfg
    if model not in open_clip.list_models():
        raise UsageError(f"open_clip has no model '{model}'", f"nearest: {nearest(model, open_clip.list_models())}")
    if pretrained is not None and not is_pretrained_cfg(model, pretrained) and not Path(pretrained).is_file():
        tags = open_clip.list_pretrained_tags_by_model(model)
        raise UsageError(
            f"'{pretrained}' is neither a tag of {model} nor a file",
            f"tags of {model}: {nearest(pretrained, tags, 6) or 'none'}",
        )


def _built_in(model: str, pretrained: str, options: OptionNames) -> Located:
    check_names(model, pretrained)
    from open_clip import get_model_config
    from open_clip.pretrained import get_pretrained_cfg

    architecture = get_model_config(model)
    config = get_pretrained_cfg(model, pretrained)
    convert = f"convert them once on a machine you trust (safetensors.torch.save_file) and give the file with {options.file}"
    if config:
        repository = str(config.get("hf_hub", "")).partition(":")[0].rstrip("/")
        if repository.count("/") > 1:  # a repository and a file in it
            repository = repository.rpartition("/")[0]
        if not repository:
            raise InputError(
                f"the weights of {model} ({pretrained}) are published as a pickle only, and loading a pickle can run code",
                convert,
            )
        # open_clip only warns if the tag was trained with another activation than the architecture's default
        if config.get("quick_gelu", False):
            architecture["quick_gelu"] = True
        return Located(architecture, _fetch(repository, WEIGHTS, options), model, pretrained)
    weights = Path(pretrained)
    if weights.suffix != ".safetensors":
        raise InputError(f"the weights '{weights.name}' are not safetensors; loading other formats can run code", convert)
    return Located(architecture, weights, model, f"{FILE_TAG}{weights.name}")


def _fetch(repository: str, name: str, options: OptionNames) -> Path:
    """One file of a hub repository, ORG/NAME or ORG/NAME@REVISION, from the cache if possible.

    Raises MissingError with the alternatives.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, _, named = repository.partition("@")
    revision = named or None
    with quiet():
        try:
            return Path(hf_hub_download(repository, name, revision=revision, local_files_only=True))
        except LocalEntryNotFoundError:
            pass
        except ValueError as error:
            raise UsageError(f"'{repository}' is not a hub repository: {reason_of(error)}", "write it as ORG/NAME") from error
        try:
            # without a network, the download itself would retry for half a minute
            HfApi().model_info(repository, revision=revision, timeout=10)
            return Path(hf_hub_download(repository, name, revision=revision))
        except Exception as error:
            raise MissingError(
                f"the weights '{repository}/{name}' are not in the cache and cannot be downloaded ({reason_of(error)})",
                "either connect to the network once (open_clip then caches the weights), or give a file with "
                f"{options.file} or a folder with {options.folder}, or use the bundled encoder with {options.demo}",
            ) from error


def reason_of(error: Exception) -> str:
    """The first line of the innermost cause of an error."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return first_line(error)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress logs and warnings of open_clip and the hub client; our own errors have the reason."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
