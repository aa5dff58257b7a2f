"""Weights of another program by the names of their layout: compared with an architecture, converted, and counted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stages.errors import InputError
from stages.exchange.foreign_file import ForeignFile
from stages.exchange.import_request import FARE, FORMATS, LAAT, OPEN_CLIP, TECOA

# added by torch.nn.DataParallel and torch.compile
_WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class ForeignWeights:
    """The weights that were taken from a file.

    Attributes:
        architecture: as for `--architecture`.
        state: name in our model -> tensor.
        changes: what was done to them, in sentences for the record and the output.
        ignored: what was not taken: first key or name of the part -> number of entries.
        sources: the names in the file of the tensors that were taken.
    """

    architecture: str
    state: dict[str, Tensor]
    sources: tuple[str, ...]
    changes: tuple[str, ...] = ()
    ignored: dict[str, int] = field(default_factory=dict)


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefix that a wrapper of the model gave to every name."""
    for prefix in _WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            return unwrapped({name.removeprefix(prefix): tensor for name, tensor in tensors.items()})
    return dict(tensors)


def group_of(file: ForeignFile, key: str, form: str, where: str) -> dict[str, Tensor]:
    """The tensors under the first key `key`, or those at the top of a file that has no keys above its tensors, unwrapped.

    Raises InputError, with the format that the file seems to have.
    """
    found = file.groups.get(key) or (file.groups.get("") if not file.groups.keys() - {""} else None)
    if not found:
        has = ", ".join(f"'{name}'" for name in sorted({*file.groups, *file.counts} - {""})) or "no tensors"
        raise InputError(f"{where} is no checkpoint of {form}: it lacks '{key}', and has {has}", guess(file))
    return unwrapped(found)


def guess(file: ForeignFile) -> str:
    """What to try next for a file that is not in the layout that was named."""
    named = {key: names for key, names in file.groups.items() if names}
    everything = {name for names in named.values() for name in unwrapped(names)}
    looks = None
    if "vision_encoder_state_dict" in named:
        looks = TECOA
    elif "conv1.weight" not in everything and any(re.match(r"(0\.)?(trunk\.0|layer1)\.", name) for name in everything):
        looks = LAAT
    elif any(name.startswith("visual.") for name in everything):
        looks = OPEN_CLIP
    elif "class_embedding" in everything or "attnpool.positional_embedding" in everything:
        looks = FARE
    elif any(name.startswith("vision_model.") for name in everything):
        return "it has the names of transformers; save it as an open_clip model, and open that folder as local-dir:PATH"
    return f"it looks like --as {looks}" if looks else f"known layouts: --as {', '.join(FORMATS)}"


def as_weights(tensor: Tensor, name: str, where: str) -> Tensor:
    """A tensor in float32, integers as int64. Raises InputError, naming it, for a value that is not finite."""
    made = tensor.to(torch.float32 if tensor.is_floating_point() else torch.int64)
    if not bool(made.isfinite().all()):
        raise InputError(f"tensor '{name}' in {where} has a value that is not finite", "take another checkpoint")
    return made


def ignored_of(file: ForeignFile, *taken: str) -> dict[str, int]:
    """The entries of a file by their first key, without the groups that were `taken`."""
    counts = dict(file.counts)
    for key, names in file.groups.items():
        # a tensor at the top is an entry by itself
        found = {} if key in taken else dict.fromkeys(names, 1) if key == "" else {key: len(names)}
        for name, number in found.items():
            counts[name] = counts.get(name, 0) + number
    return dict(sorted(counts.items()))
