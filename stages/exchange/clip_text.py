"""The text side of a fine-tuned CLIP model: class names to anchors, with the text tower that belongs to the image tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from safetensors import safe_open
from torch import Tensor

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.encoder import TextEncoder, encoder_of, load_encoder
from stages.anchors.sources import text_anchors
from stages.clip_config import build_model
from stages.clip_weights import FILE_TAG, Located, OptionNames, locate, quiet
from stages.errors import InputError
from stages.exchange.clip_layout import LOGIT_SCALE, NAME_BASE, ClipParts, is_text, is_visual, scale_of
from stages.exchange.foreign import no_groups
from stages.exchange.foreign_file import ForeignFile
from stages.exchange.foreign_weights import as_weights
from stages.models.fit import kinds_of, require_fit
from stages.uninitialised import Uninitialised

_OPTIONS = OptionNames(
    "--architecture",
    "--architecture clip:NAME/FILE.safetensors",
    "--architecture clip:local-dir:PATH",
    "--architecture clip:demo",
)


@dataclass(frozen=True)
class BaseModel:
    """The CLIP model that was fine-tuned.

    Attributes:
        model, tag: as the user gave them, see `clip_weights.locate`.
        located: its architecture and weights.
        tensors: its weights, without the image tower.
    """

    model: str
    tag: str
    located: Located
    tensors: Mapping[str, Tensor]

    @classmethod
    def find(cls, model: str, tag: str) -> BaseModel:
        """Find its weights; published ones are downloaded. Raises as `locate`, and InputError for a damaged file."""
        located = locate(model, tag, _OPTIONS)
        try:
            with safe_open(located.weights, "pt") as file:
                names = [name for name in file.keys() if not is_visual(name)]  # noqa: SIM118 (not a dict)
                return cls(model, tag, located, {name: file.get_tensor(name) for name in names})
        except Exception as error:  # safetensors raises many types for a damaged file
            fix = "give another one with --architecture"
            raise InputError(f"the weights '{located.weights.name}' of {located.model} are damaged", fix) from error

    @property
    def scale(self) -> float:
        """exp(logit_scale)."""
        return scale_of(self.tensors.get(LOGIT_SCALE), self.located.model)


def encoder_for(base: BaseModel, file: ForeignFile, parts: ClipParts) -> tuple[TextEncoder, str]:
    """The text tower of a fine-tuned model, and what is said of it.

    It is the base model's, unless the file has another one. Anchors of such a one are encoded now; names that are given later
    need anchors, because checkpoints have no text tower.

    Raises InputError, naming the first tensor, for a text tower of another architecture.
    """
    own = {name: one for name, one in base.tensors.items() if is_text(name)}
    located, where = base.located, f"'{file.name}'"
    name = "/".join(filter(None, (located.model, located.tag)))
    if not parts.text or _same(parts.text, own):
        what = f"text tower of {name}" + (f", equal in {where}" if parts.text else "")
        return load_encoder(base.model, base.tag), what
    require_fit(own, kinds_of(parts.text), name=f"the text tower of {name}", where=where, fix=NAME_BASE)
    with quiet(), Uninitialised():
        net = build_model(located.config)
    net.load_state_dict({name: as_weights(one, name, where) for name, one in parts.text.items()}, strict=False)
    what = f"text tower of {where}: it differs from that of {name}, so later class names need --anchors"
    return encoder_of(net, replace(located, tag=f"{FILE_TAG}{file.name}"), file.sha256), what


def _same(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(one.float(), others[name].float()) for name, one in some.items())


def name_anchors(names: Sequence[str], encoder: TextEncoder, templates: Sequence[str]) -> AnchorSet:
    """Anchors of class names of which nobody knows whether the model was trained on them: all are novel."""
    return text_anchors(names, no_groups(len(names)), encoder, templates)
