"""Checkpoints of the program of Li et al., CVPR 2024: `{"model_state_dict": …, "optimizer_state_dict": …, "epoch": …}`.

The state dict is that of the backbone alone, or of a Sequential of backbone (`0.`) and linear layer (`1.weight`). In Conv4 each
block lists its layers twice, by name (`C`, `BN`) and by number (`trunk.0`, `trunk.1`), and the convolutions have biases.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from stages.errors import InputError, UsageError
from stages.exchange.foreign_file import ForeignFile
from stages.exchange.foreign_weights import ForeignWeights, as_weights, group_of, guess, ignored_of
from stages.exchange.import_request import NORMALIZATIONS
from stages.models.embedding import EmbeddingModel
from stages.models.fit import kinds_of, require_fit
from stages.text import counted
from stages.uninitialised import Uninitialised

_KEY = "model_state_dict"
_LINEAR = "1.weight"
_ARCHITECTURES = re.compile(r"conv4-\d+|resnet12")


def read_laat(file: ForeignFile, width: int, image_size: int, normalization: str, architecture: str | None) -> ForeignWeights:
    """The weights of an `EmbeddingModel` from a checkpoint of the published program.

    Args:
        file: the checkpoint.
        width: D of the anchors.
        image_size: side of the images.
        normalization: one of `NORMALIZATIONS`.
        architecture: conv4-WIDTH or resnet12; None recognizes it.

    Raises:
        UsageError: another architecture.
        InputError: another layout, naming the first tensor that differs, or another width.
    """
    where = f"'{file.name}'"
    given = group_of(file, _KEY, "the published LAAT program", where)
    linear = any(name.startswith("0.") for name in given)
    projection = given.pop(_LINEAR, None) if linear else None
    named, architecture = architecture, _checked(architecture, file, given, where)
    aliases = _without_aliases(given, where)
    expected = _expected(architecture, width, image_size, "0." if linear else "")
    biases = {name: given.pop(name) for name in [*given] if name.endswith(".C.bias")}
    fix = "leave --architecture out, to have it recognized" if named else "open a variant as your own package.module:factory"
    own = dict(expected.values())
    own |= {name: own[_norm_of(name)] for name in biases if _norm_of(name) in own}
    require_fit(own, kinds_of({**given, **biases}), name=architecture, where=where, fix=fix)
    state = {name: as_weights(given[source], source, where) for name, (source, _) in expected.items()}
    for name, bias in biases.items():
        at = next(ours for ours, (source, _) in expected.items() if source == _norm_of(name))
        # the norm subtracts the mean from what the convolution gives, bias included
        state[at] = (state[at].double() - as_weights(bias, name, where).double()).float()
    features = next(len(one) for name, (_, one) in reversed(expected.items()) if name.endswith("norm.weight"))
    changes = [f"{counted(len(biases), 'bias', 'biases')} of convolutions folded into the running means"] if biases else []
    if projection is None:
        state["projection.weight"] = _identity(features, width, where)
        changes.append("no linear layer: the features are the embeddings")
    else:
        if projection.ndim != 2 or tuple(projection.shape) != (width, features):
            raise InputError(
                f"the linear layer '{_LINEAR}' in {where} has shape {tuple(projection.shape)}, expected ({width}, {features}): "
                f"width of the anchors, features of {architecture}",
                "give the anchors that it was trained with",
            )
        state["projection.weight"] = as_weights(projection, _LINEAR, where)
    for name, values in zip(("mean", "std"), NORMALIZATIONS[normalization], strict=True):
        state[name] = torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)
    taken = [*own, *([] if projection is None else [_LINEAR])]
    ignored = ignored_of(file, _KEY, *([] if _KEY in file.groups else [""]))
    return ForeignWeights(architecture, state, tuple(taken), tuple(changes), {**aliases, **ignored})


def _checked(architecture: str | None, file: ForeignFile, given: Mapping[str, Tensor], where: str) -> str:
    """The architecture, from the names and shapes if it is None."""
    if architecture is not None:
        if not _ARCHITECTURES.fullmatch(architecture):
            raise UsageError(
                f"--architecture {architecture} is none of the published LAAT program", "choose conv4-512, conv4-64 or resnet12"
            )
        return architecture
    names = {name.removeprefix("0.") for name in given}
    first = given.get("0.trunk.0.C.weight", given.get("trunk.0.C.weight"))
    if first is not None and 0 < len(first) < 2**16:
        return f"conv4-{len(first)}"
    if "layer1.0.downsample.0.weight" in names and "layer1.0.conv3.weight" in names and "conv1.weight" not in names:
        return "resnet12"
    shown = next(iter(given), "no tensor")
    raise InputError(f"{where} is no checkpoint of the published LAAT program: its first tensor is '{shown}'", guess(file))


def _expected(architecture: str, width: int, image_size: int, prefix: str) -> dict[str, tuple[str, Tensor]]:
    """Name in our model -> name in the file, and our tensor without its values, of the backbone."""
    with torch.device("meta"), Uninitialised():
        model = EmbeddingModel(architecture, width, image_size, mean=(0, 0, 0), std=(1, 1, 1))
    found = {}
    for name, tensor in model.backbone.state_dict().items():
        parts = name.split(".")
        block, rest = int(parts[1]), parts[2:]
        match rest:
            case ["conv", last]:
                source = f"trunk.{block}.C.{last}"
            case ["norm", last]:
                source = f"trunk.{block}.BN.{last}"
            case ["convs", at, kind, last]:
                source = f"layer{block + 1}.0.{'conv' if kind == 'conv' else 'bn'}{int(at) + 1}.{last}"
            case [_, kind, last]:
                source = f"layer{block + 1}.0.downsample.{0 if kind == 'conv' else 1}.{last}"
        found[f"backbone.{name}"] = (f"{prefix}{source}", tensor)
    return found


def _norm_of(bias: str) -> str:
    return bias.removesuffix("C.bias") + "BN.running_mean"


def _without_aliases(given: dict[str, Tensor], where: str) -> dict[str, int]:
    """Take the second names of Conv4's layers out of `given`, and count them. Raises InputError if their values differ."""
    count = 0
    for name in [*given]:
        found = re.fullmatch(r"((?:0\.)?trunk\.\d+\.)trunk\.([01])\.(.*)", name)
        if found is None:
            continue
        other = f"{found[1]}{'C' if found[2] == '0' else 'BN'}.{found[3]}"
        if other in given and not torch.equal(given[name], given[other]):
            raise InputError(f"tensors '{name}' and '{other}' in {where} differ, and are the same layer", "take another copy")
        if other in given:
            del given[name]
            count += 1
    return {"second names of the same layers": count} if count else {}


def _identity(features: int, width: int, where: str) -> Tensor:
    if features != width:
        raise InputError(
            f"{where} has no linear layer, so its embeddings have width {features}, and the anchors have width {width}",
            "give the anchors that it was trained with",
        )
    return torch.eye(width)
