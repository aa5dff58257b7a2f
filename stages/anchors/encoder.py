"""The text tower of a CLIP model: the bundled one, or any other through open_clip."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.clip_weights import DEMO, Located, OptionNames, includes_weights, load_clip, locate, quiet, reason_of
from stages.errors import InputError, MissingError
from stages.parameters import MOST_SCALE

if TYPE_CHECKING:
    import torch

DEFAULT_MODEL, DEFAULT_TAG = "ViT-B-16", "openai"
OPTIONS = OptionNames("--model", "--pretrained FILE.safetensors", "--model local-dir:PATH", "--model demo")


@dataclass(frozen=True)
class TextEncoder:
    """A loaded text tower.

    Attributes:
        encode: token ids (n, context) int64 -> text features (n, D), not normalised.
        tokenize: list of prompts -> token ids (n, context), truncated to the context length.
        context_length: maximum number of tokens, including start and end.
        record: the entry of the encoder in an anchors artifact, see `encoder_record`; and `logit_scale`, if it has one.
    """

    encode: Callable[[torch.Tensor], torch.Tensor]
    tokenize: Callable[..., torch.Tensor]
    context_length: int
    record: dict[str, Any]

    @property
    def model(self) -> str:
        """As given by the user, without paths."""
        return str(self.record["model"])


def load_encoder(model: str = DEFAULT_MODEL, pretrained: str | None = None, device: str = "cpu") -> TextEncoder:
    """Load a text encoder.

    Args:
        model, pretrained: see `locate`; None is 'openai' where the model does not include its weights.
        device: torch device.

    Raises as `locate`, and InputError for weights that do not fit the architecture.
    """
    if pretrained is None:
        pretrained = "" if includes_weights(model) else DEFAULT_TAG
    located = locate(model, pretrained, OPTIONS)
    if located.model == DEMO:
        from stages.anchors.demo_text import load_demo_text

        weights = located.weights.read_bytes()
        net, sha256 = load_demo_text(located.config, weights), hashlib.sha256(weights).hexdigest()
    else:
        net, sha256 = load_clip(located, OPTIONS, device)
    return encoder_of(net, located, sha256, device)


def encoder_of(net: Any, located: Located, sha256: str, device: str = "cpu") -> TextEncoder:
    """The text encoder of a loaded model.

    Args:
        net: the model, or its text tower, in float32.
        located: its architecture, and its name for records.
        sha256: of its weights file.
        device: torch device.

    Raises InputError and MissingError for a tokenizer that does not load.
    """
    import torch

    tokenizer = _tokenizer_of(located)
    net.to(device)
    net.eval().requires_grad_(False)

    @torch.no_grad()
    def encode(tokens: torch.Tensor) -> torch.Tensor:
        return net.encode_text(tokens.to(device)).float()

    context = int(getattr(tokenizer, "context_length", 77) or 77)
    scale = _logit_scale(net)
    record = encoder_record(net, located, sha256) | ({} if scale is None else {"logit_scale": scale})
    return TextEncoder(encode, tokenizer, context, record)


def encoder_record(net: Any, located: Located, sha256: str) -> dict[str, Any]:
    """What anchors record of their encoder; arguments as for `encoder_of`.

    The model and the tag are without paths; the SHA-256 are those of the weights file and of the architecture (see
    `config_digest`); the activation is 'QuickGELU' or 'GELU', as found in the text tower.
    """
    from stages.clip_config import config_digest

    return {
        "model": located.model,
        "pretrained": located.tag,
        "weights_sha256": sha256,
        "config_sha256": config_digest(located.config),
        "activation": _activation(net),
    }


def _tokenizer_of(located: Located) -> Any:
    if located.model == DEMO:
        from stages.anchors.demo_text import demo_tokenizer

        return demo_tokenizer(located.config)
    from stages.clip_config import build_tokenizer

    with quiet():
        try:
            return build_tokenizer(located.config)
        except InputError:
            raise
        except Exception as error:  # transformers raises many types
            what = f"the tokenizer of {located.model} does not load: {reason_of(error)}"
            raise MissingError(what, "it may need `pip install transformers`, and on first use the network") from error


def _logit_scale(net: Any) -> float | None:
    """What the model multiplies cosines with; None where it has no such number."""
    found = getattr(net, "logit_scale", None)
    if found is None or found.numel() != 1 or not abs(float(found)) <= math.log(MOST_SCALE):  # NaN too
        return None
    return math.exp(float(found))


def _activation(net: Any) -> str:
    tower = getattr(net, "text", None) or net.transformer
    return "QuickGELU" if any(type(module).__name__ == "QuickGELU" for module in tower.modules()) else "GELU"
