"""Where the weights of an open_clip model are, and loading it from them: for the text encoder and the image tower alike.

Only safetensors are read: other formats can run code while they load.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from stages.errors import InputError, MissingError, UsageError, nearest

DEMO = "demo"
CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"


@dataclass(frozen=True)
class Ways:
    """How the user tells a command which model and weights to take; errors say it so."""

    model: str
    file: str
    folder: str
    demo: str


@dataclass(frozen=True)
class Located:
    """Where a model's architecture and weights are.

    Attributes:
        name: for open_clip.
        weights: the safetensors file.
        quick_gelu: whether the tag was trained with QuickGELU.
        model, tag: what to record; without any path.
    """

    name: str
    weights: Path
    quick_gelu: bool
    model: str
    tag: str


def locate(model: str, pretrained: str, ways: Ways) -> Located:
    """Find a model's weights; published ones are fetched when they are not here yet.

    Args:
        model: an open_clip name ('ViT-B-16'), `local-dir:PATH`, `hf-hub:ORG/NAME`, or 'demo' (the bundled tiny CLIP).
        pretrained: an open_clip tag ('openai') or a safetensors weights file; not used with the three other forms of `model`.
        ways: see `Ways`.

    Raises:
        UsageError: unknown model or tag (the nearest are named).
        InputError: a folder without configuration or weights; weights that are not safetensors.
        MissingError: weights that are neither here nor to be downloaded.
    """
    if not brings_its_weights(model):
        return _built_in(model.replace("/", "-"), pretrained, ways)
    folder = model_folder(model, ways)
    if model.startswith("hf-hub:"):
        # go on from the folder that the weights lie in: what is loaded is then what was hashed
        folder = _fetch(model.removeprefix("hf-hub:"), WEIGHTS, ways).parent
    for name in (WEIGHTS, "model.safetensors"):
        if (folder / name).is_file():
            return Located(f"local-dir:{folder}", folder / name, False, recorded_name(model), "")
    raise InputError(f"'{folder}' has no safetensors weights", f"save them there as {WEIGHTS} (other formats can run code)")


def brings_its_weights(model: str) -> bool:
    """Whether `model` is configuration and weights in one: local-dir:, hf-hub: and the bundled one."""
    return model == DEMO or model.startswith(("local-dir:", "hf-hub:"))


def recorded_name(model: str) -> str:
    """`model` without a path of this machine."""
    return f"local-dir:{Path(model.removeprefix('local-dir:')).name}" if model.startswith("local-dir:") else model


def model_folder(model: str, ways: Ways) -> Path:
    """The folder with the configuration of a model that `brings_its_weights`; from the hub only that is fetched.

    Raises InputError when there is no configuration in it, else as `locate`.
    """
    if model.startswith("hf-hub:"):
        folder = _fetch(model.removeprefix("hf-hub:"), CONFIG, ways).parent
    elif model == DEMO:
        folder = Path(str(resources.files("stages.anchors").joinpath("demo_clip")))
    else:
        folder = Path(model.removeprefix("local-dir:"))
    if not (folder / CONFIG).is_file():
        raise InputError(f"'{folder}' is no open_clip model folder: it has no {CONFIG}", f"it needs {CONFIG} and {WEIGHTS}")
    return folder


def load_clip(located: Located, ways: Ways, device: str = "cpu") -> Any:
    """The whole CLIP model in float32 with its weights. Raises InputError when they do not fit the architecture."""
    with quiet():
        import open_clip

        try:
            return open_clip.create_model(
                located.name,
                pretrained=None if ":" in located.name else str(located.weights),
                force_quick_gelu=located.quick_gelu,
                precision="fp32",
                device=device,
                require_pretrained=True,
            )
        except Exception as error:  # open_clip raises many kinds for weights that do not fit
            raise does_not_load(located, ways, error) from error


def does_not_load(located: Located, ways: Ways, error: Exception) -> InputError:
    """The error for weights that are no such model."""
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return InputError(
        f"the weights '{located.weights.name}' do not load as {located.model}: {reason}",
        f"check that {ways.model} names the architecture of the weights",
    )


def check_names(model: str, pretrained: str | None) -> None:
    """Raise UsageError, with the nearest names, unless open_clip knows `model` and `pretrained` is a tag of it or a file.

    None for `pretrained` asks about the model only. Fetches nothing.
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


def _built_in(model: str, pretrained: str, ways: Ways) -> Located:
    check_names(model, pretrained)
    from open_clip.pretrained import get_pretrained_cfg

    config = get_pretrained_cfg(model, pretrained)
    convert = f"convert them once on a machine you trust (safetensors.torch.save_file) and give the file with {ways.file}"
    if config:
        repository = str(config.get("hf_hub", "")).partition(":")[0].rstrip("/")
        if repository.count("/") > 1:  # a repository and a file in it
            repository = repository.rpartition("/")[0]
        if not repository:
            raise InputError(
                f"the weights of {model} ({pretrained}) are published as a pickle only, which can run code while it loads",
                convert,
            )
        # open_clip only warns when the tag was trained with another activation than the architecture's default
        quick_gelu = bool(config.get("quick_gelu", False))
        return Located(model, _fetch(repository, WEIGHTS, ways), quick_gelu, model, pretrained)
    weights = Path(pretrained)
    if weights.suffix != ".safetensors":
        raise InputError(
            f"the weights '{weights.name}' are not safetensors; other formats can run code while they load", convert
        )
    return Located(model, weights, False, model, f"file:{weights.name}")


def _fetch(repository: str, name: str, ways: Ways) -> Path:
    """One file of a hub repository, from the cache where it is there. Raises MissingError with the ways out."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with quiet():
        try:
            return Path(hf_hub_download(repository, name, local_files_only=True))
        except LocalEntryNotFoundError:
            pass
        except ValueError as error:
            raise UsageError(f"'{repository}' is no hub repository: {_reason(error)}", "write it as ORG/NAME") from error
        try:
            # asked once: the download itself would try a dead network for half a minute before it says so
            HfApi().model_info(repository, timeout=10)
            return Path(hf_hub_download(repository, name))
        except Exception as error:
            raise MissingError(
                f"the weights '{repository}/{name}' are not on this machine and cannot be fetched ({_reason(error)})",
                "either connect to the network once (open_clip then caches the weights), or give a file with "
                f"{ways.file} or a folder with {ways.folder}, or use the bundled encoder with {ways.demo}",
            ) from error


def _reason(error: Exception) -> str:
    """The first line of the innermost cause: the outer ones only say that something failed."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = str(error).strip()
    return text.splitlines()[0][:160] if text else type(error).__name__


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:
    """Python 3.10 has no hashlib.file_digest."""
    digest = hashlib.sha256()
    for block in iter(lambda: file.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Within: open_clip and the hub client neither log nor warn; what matters of it is in our own errors."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
