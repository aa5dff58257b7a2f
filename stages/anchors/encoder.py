"""Finding and loading the text tower of a CLIP model through open_clip, from safetensors weights only."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.errors import InputError, MissingError, UsageError, nearest

if TYPE_CHECKING:
    import torch

DEFAULT_MODEL, DEFAULT_TAG = "ViT-B-16", "openai"
DEMO = "demo"
WEIGHTS = "open_clip_model.safetensors"
_WAYS_OUT = (
    "either connect to the network once (open_clip then caches the weights), or give a file with --pretrained FILE.safetensors "
    "or a folder with --model local-dir:PATH, or use the bundled encoder with --model demo"
)


@dataclass(frozen=True)
class TextEncoder:
    """A loaded text tower.

    Attributes:
        encode: token ids (n, context) int64 -> text features (n, D), not normalised.
        tokenize: list of prompts -> token ids (n, context), cut at the context length.
        model, tag: as the user named them, without any path.
        weights_sha256: of the weights file.
        activation: 'QuickGELU' or 'GELU', as found in the text tower.
        context_length: tokens a prompt may have, start and end included.
    """

    encode: Callable[[torch.Tensor], torch.Tensor]
    tokenize: Callable[..., torch.Tensor]
    model: str
    tag: str
    weights_sha256: str
    activation: str
    context_length: int

    def to_record(self) -> dict[str, Any]:
        """What an anchors artifact records of its encoder."""
        return {
            "model": self.model,
            "pretrained": self.tag,
            "weights_sha256": self.weights_sha256,
            "activation": self.activation,
        }


@dataclass(frozen=True)
class _Located:
    """Where a model's architecture and weights are: the name for open_clip, the weights file, and what to record."""

    name: str
    weights: Path
    quick_gelu: bool
    model: str
    tag: str


def load_encoder(model: str = DEFAULT_MODEL, pretrained: str = DEFAULT_TAG, device: str = "cpu") -> TextEncoder:
    """Load a text encoder.

    Args:
        model: an open_clip name ('ViT-B-16'), `local-dir:PATH`, `hf-hub:ORG/NAME`, or 'demo' (the bundled tiny CLIP).
        pretrained: an open_clip tag ('openai') or a safetensors weights file; not used with the three other forms of `model`.
        device: torch device.

    Raises:
        UsageError: unknown model or tag (the nearest are named).
        InputError: weights that are not safetensors or do not fit the architecture.
        MissingError: weights that are neither here nor to be downloaded.
    """
    import torch

    with _quiet():
        import open_clip

        located = _locate(model, pretrained)
        sha256 = _sha256(located.weights)
        try:
            net = open_clip.create_model(
                located.name,
                pretrained=None if ":" in located.name else str(located.weights),
                force_quick_gelu=located.quick_gelu,
                precision="fp32",
                device=device,
                require_pretrained=True,
            )
            tokenizer = open_clip.get_tokenizer(located.name)
        except Exception as error:  # open_clip raises many kinds for weights that do not fit
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise InputError(
                f"the weights '{located.weights.name}' do not load as {located.model}: {reason}",
                "check that --model names the architecture of the weights",
            ) from error
    net.eval().requires_grad_(False)

    @torch.no_grad()
    def encode(tokens: torch.Tensor) -> torch.Tensor:
        return net.encode_text(tokens.to(device)).float()

    context = int(getattr(tokenizer, "context_length", 77) or 77)
    return TextEncoder(encode, tokenizer, located.model, located.tag, sha256, _activation(net), context)


def _locate(model: str, pretrained: str) -> _Located:
    if model == DEMO:
        return _in_folder(Path(str(resources.files("stages.anchors").joinpath("demo_clip"))), DEMO, "")
    if model.startswith("local-dir:"):
        folder = Path(model.removeprefix("local-dir:"))
        return _in_folder(folder, f"local-dir:{folder.name}", "")
    if model.startswith("hf-hub:"):
        return _on_hub(model)
    return _built_in(model.replace("/", "-"), pretrained)


def _in_folder(folder: Path, model: str, tag: str) -> _Located:
    if not (folder / "open_clip_config.json").is_file():
        raise InputError(
            f"'{folder}' is no open_clip model folder: it has no open_clip_config.json",
            "the folder needs open_clip_config.json and open_clip_model.safetensors",
        )
    for name in (WEIGHTS, "model.safetensors"):
        if (folder / name).is_file():
            return _Located(f"local-dir:{folder}", folder / name, False, model, tag)
    raise InputError(
        f"'{folder}' has no safetensors weights",
        "save them there as open_clip_model.safetensors (other formats can run code)",
    )


def _on_hub(model: str) -> _Located:
    """Fetch configuration and weights, and go on from the folder they lie in: what is loaded is then what was hashed."""
    repository = model.removeprefix("hf-hub:")
    _fetch(repository, "open_clip_config.json")
    return _in_folder(_fetch(repository, WEIGHTS).parent, model, "")


def _fetch(repository: str, name: str) -> Path:
    """One file of a hub repository, from the cache where it is there. Raises MissingError with the ways out."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

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
            _WAYS_OUT,
        ) from error


def _built_in(model: str, pretrained: str) -> _Located:
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    if model not in open_clip.list_models():
        raise UsageError(f"open_clip has no model '{model}'", f"nearest: {nearest(model, open_clip.list_models())}")
    config = get_pretrained_cfg(model, pretrained)
    if config:
        repository = str(config.get("hf_hub", "")).partition(":")[0].rstrip("/")
        if repository.count("/") > 1:  # a repository and a file in it
            repository = repository.rpartition("/")[0]
        if not repository:
            raise InputError(
                f"the weights of {model} ({pretrained}) are published as a pickle only, which can run code while it loads",
                "convert them once on a machine you trust (safetensors.torch.save_file) and give the file with --pretrained",
            )
        # open_clip only warns when the tag was trained with another activation than the architecture's default
        return _Located(model, _fetch(repository, WEIGHTS), bool(config.get("quick_gelu", False)), model, pretrained)
    weights = Path(pretrained)
    if not weights.is_file():
        tags = open_clip.list_pretrained_tags_by_model(model)
        raise UsageError(
            f"'{pretrained}' is neither a tag of {model} nor a file",
            f"tags of {model}: {nearest(pretrained, tags, 6) or 'none'}",
        )
    _refuse_pickle(weights)
    return _Located(model, weights, False, model, f"file:{weights.name}")


def _refuse_pickle(weights: Path) -> None:
    if weights.suffix != ".safetensors":
        raise InputError(
            f"the weights '{weights.name}' are not safetensors; other formats can run code while they load",
            "convert them once on a machine you trust (safetensors.torch.save_file) and give the file with --pretrained",
        )


def _reason(error: Exception) -> str:
    """The first line of the innermost cause: the outer ones only say that something failed."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = str(error).strip()
    return text.splitlines()[0][:160] if text else type(error).__name__


def _activation(net: Any) -> str:
    tower = getattr(net, "text", None) or net.transformer
    return "QuickGELU" if any(type(module).__name__ == "QuickGELU" for module in tower.modules()) else "GELU"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:
    """Python 3.10 has no hashlib.file_digest."""
    digest = hashlib.sha256()
    for block in iter(lambda: file.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip and the hub client log and warn; what matters of it is in our own errors."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
