"""Whether weights fit a model, by names, shapes and types, before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stages.errors import InputError
from stages.uninitialised import Uninitialised


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


def require_fit(own: Mapping[str, Tensor], given: Mapping[str, Kind], *, name: str, where: str, fix: str) -> None:
    """Compare the tensors of a file with those of a model.

    Args:
        own: the model's tensors, may be on the meta device.
        given: those of the file.
        name: of the model in errors.
        where: name of the file in errors.
        fix: what to do about a difference.

    Raises InputError that names the first tensor, by its name, that differs.
    """
    odd = sorted(own.keys() ^ given.keys())
    if odd:
        place = "the file has none" if odd[0] in own else f"{name} has none"
        raise InputError(f"the weights in {where} do not fit {name}: '{odd[0]}' is missing in one of them ({place})", fix)
    for key in sorted(given):
        kind, wanted = given[key], own[key]
        if kind.shape != tuple(wanted.shape):
            raise InputError(f"weight '{key}' in {where} has shape {kind.shape}, {name} expects {tuple(wanted.shape)}", fix)
        if kind.floating != wanted.is_floating_point():
            raise InputError(f"weight '{key}' in {where} has type {kind.dtype}, {name} expects {wanted.dtype}", fix)
