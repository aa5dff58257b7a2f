"""Whether weights fit a model, by names, shapes and types, before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stages.errors import InputError
from stages.uninitialised import Uninitialised

REMAKE = "train it again with `laat train`"


class Kind(NamedTuple):
    """Shape and type of a tensor in a file."""

    shape: tuple[int, ...]
    dtype: str
    floating: bool


def on_meta(build: Callable[[], nn.Module]) -> nn.Module | None:
    """The model without memory for its weights; None if it cannot be built so.

    Some models of timm read values while they are built. A forged record cannot make others large: their sizes are timm's.
    """
    try:
        with torch.device("meta"), Uninitialised():
            return build()
    except (NotImplementedError, RuntimeError):
        return None


def kinds_of(tensors: Mapping[str, Tensor]) -> dict[str, Kind]:
    """Shape and type of each tensor."""
    return {
        name: Kind(tuple(one.shape), str(one.dtype).removeprefix("torch."), one.is_floating_point())
        for name, one in tensors.items()
    }


def require_fit(own: Mapping[str, Tensor], given: Mapping[str, Kind], *, name: str, where: str, fix: str) -> None:
    """Compare the tensors of a file with those of a model, in the model's order.

    Args:
        own: the model's tensors by their names in the file; may be on the meta device.
        given: those of the file.
        name: of the model in errors.
        where: name of the file in errors.
        fix: what to do about a difference.

    Raises InputError that names the first tensor, by its name, that differs.
    """
    for key, wanted in kinds_of(own).items():
        kind = given.get(key)
        if kind is None:
            raise InputError(f"{where} lacks the tensor '{key}', which {name} has", fix)
        if kind.floating != wanted.floating:
            what = f"tensor '{key}' in {where} has type {kind.dtype}, {name} expects {wanted.dtype}"
            raise InputError(what, "take the weights before quantization" if wanted.floating else fix)
        if kind.shape != wanted.shape:
            raise InputError(f"tensor '{key}' in {where} has shape {kind.shape}, {name} expects {wanted.shape}", fix)
    more = next((key for key in given if key not in own), None)
    if more is not None:
        raise InputError(f"{where} has the tensor '{more}', which {name} does not have", fix)
