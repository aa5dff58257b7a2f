"""Interpolation between the weights of two models of one architecture (Wortsman et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from stages.errors import InputError, UsageError
from stages.files.artifacts import Artifact
from stages.models.checkpoint import LEARNT, image_hashes_of, learnt_of, trained_classes_of, weights_of
from stages.models.clip_tower import PREFIX, tower_has_weights
from stages.models.embedding import EmbeddingModel
from stages.models.initialise import family_of
from stages.models.own_parts import fingerprint

FIRST, SECOND = "first", "second"
_SAME = "give two models of the same architecture, one trained from the other or both from the same weights"
_NORMALISATION = ("mean", "std")
_OF_THE_RUN = ("identity", "name", "selection")
_HEAD = {
    "classes": "the classes",
    "groups": "which classes are seen, validation and novel",
    "origin": "the text encoder or its templates",
    "expansion": "the expansion",
}


class Blend:
    """The models w A + (1 - w) B, for any weight w in [0, 1]; exactly A at 1 and B at 0.

    What was learnt besides the embedding model, such as the scale of R2-D2, is interpolated too.
    Parameters and the running statistics of batch norm are interpolated alike. Of integers, such as the number of batches, the
    model of the larger weight keeps its own.

    Args:
        first: A, a checkpoint.
        second: B, a checkpoint of the same architecture, or the name clip:NAME/TAG of the tower that A was trained from.
        anchors_of: the model whose anchors and temperature are kept: 'first', 'second', or None if both have the same, as a
            tower always has.

    Raises:
        InputError: two architectures or few-shot heads, other pixel statistics, or weights that are not finite; anchors or
            temperatures that differ, without `anchors_of`.
        UsageError: a name without weights.
        MissingError: weights that cannot be downloaded.
    """

    def __init__(self, first: Artifact, second: Artifact | str, anchors_of: str | None = None) -> None:
        self._first = first
        self._other, self._tower = (_tower(first, second), second) if isinstance(second, str) else (second, "")
        _require_same_architecture(first, self._other)
        self._a, self._b = learnt_of(first), learnt_of(self._other)
        _require_same_tensors(self._a, self._b, first.where, self._other.where)
        found = list(_head_differences(first, self._other))
        if found and anchors_of is None:
            raise InputError(
                f"{first.where} and {self._other.where} differ in {', '.join(found)}",
                "choose whose anchors and temperature to keep: --anchors-of first, or second",
            )
        self._kept = self._other if anchors_of == SECOND and not self._tower else first  # a tower has those of the first

    @property
    def notes(self) -> list[str]:
        """What the user should know of every blend."""
        notes = []
        if any(one.params.get("calibration") is not None for one in (self._first, self._other)):
            notes.append("the calibration is dropped: it was fitted for other weights; `laat calibrate` fits one")
        if any(name.endswith("running_mean") for name in self._a):
            notes.append("running statistics of batch norm are interpolated, not measured with the new weights")
        unseen = sorted(self._trained_on() - trained_classes_of(self._kept))
        if unseen:
            notes.append(f"the other model was trained on classes that are not seen ones here: {', '.join(unseen)}")
        return notes

    def at(self, weight: float) -> Artifact:
        """The blend w A + (1 - w) B as a checkpoint. Raises UsageError for a weight outside [0, 1]."""
        if not 0 <= weight <= 1:
            raise UsageError(f"--weight {weight:g} is not between 0 and 1", "1 is the first model, 0 the second")
        blended = {name: _between(weight, a, self._b[name]) for name, a in self._a.items()}
        params = {name: value for name, value in self._kept.params.items() if name != "calibration"}
        params |= {"architecture": self._first.params["architecture"], "training": self._training(weight)}
        tensors = {name: value for name, value in self._kept.tensors.items() if not name.startswith("images.")}
        inputs = {"model": self._first.lineage()} | ({} if self._tower else {"other": self._other.lineage()})
        return Artifact("model", {**tensors, **blended, **self._images()}, params, inputs)

    def _training(self, weight: float) -> dict[str, Any]:
        """That of the model whose anchors are kept, without what belongs to its own weights."""
        kept = {name: value for name, value in self._kept.params["training"].items() if name not in _OF_THE_RUN}
        second, rest = self._kept is self._other, self._first if self._kept is self._other else self._other
        blend: dict[str, Any] = {"weight": weight, **({"anchors_of": SECOND} if second else {})}
        objective = rest.params["training"]["settings"].get("objective")
        blend |= {"other": objective} if objective else {}
        if self._tower:
            blend |= {"tower": self._other.params["architecture"]["backbone"], "tower_sha256": self._other.sha256}
        imported = [one.params["training"].get("imported") for one in (self._kept, self._first, self._other)]
        unknown = [one for one in imported if one is not None and not one["groups_known"]]
        return {**kept, **({"imported": unknown[0]} if unknown else {}), "blend": blend}

    def _images(self) -> dict[str, np.ndarray]:
        """The hashes of the images of both; none if those of a trained model are unknown."""
        trained = [one for one in (self._first, self._other) if one.params["training"].get("data")]
        found = [image_hashes_of(one) for one in trained]
        if not all(found):
            return {}
        uses = dict.fromkeys(use for one in found for use in one)
        return {f"images.{use}": np.unique(np.concatenate([one[use] for one in found if use in one])) for use in uses}

    def _trained_on(self) -> set[str]:
        return trained_classes_of(self._first) | trained_classes_of(self._other)


def _between(weight: float, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if weight in (0, 1) or a.dtype.kind != "f":
        return a if weight >= 0.5 else b
    exact = b.astype(np.float64)
    return (exact + weight * (a.astype(np.float64) - exact)).astype(a.dtype)


def _tower(first: Artifact, name: str) -> Artifact:
    """The tower as it is before training, with the anchors of `first`, no training and no few-shot head."""
    if not name.startswith(PREFIX) or not tower_has_weights(name):
        raise UsageError(f"'{name}' names no weights", "give a checkpoint, or clip:NAME/TAG as --backbone takes it")
    architecture = first.params["architecture"]
    width, weights = architecture["width"], weights_of(first)
    statistics = {which: weights[which].flatten().tolist() for which in _NORMALISATION if which in weights}
    if len(statistics) < len(_NORMALISATION) or architecture.get("tower") is None:
        raise InputError(f"{first.where} is no CLIP tower, and '{name}' is one", "give two checkpoints")
    made = EmbeddingModel(name, width, architecture["image_size"], **statistics)
    if made.projection.in_features != width:
        raise InputError(
            f"{name} has width {made.projection.in_features}, {first.where} has {width}: the tower has no projection to it",
            "give a tower of the anchors' width, or two checkpoints",
        )
    packed = {f"weights.{key}": value.detach().numpy() for key, value in made.state_dict().items()}
    head = {key: value for key, value in first.tensors.items() if not key.startswith((*LEARNT, "images."))}
    kept = {key: first.params[key] for key in ("classes", "groups", *_HEAD) if key in first.params}
    training = {"settings": {"tau": first.params["training"]["settings"]["tau"]}}
    params = {**kept, "architecture": made.architecture, "training": training}
    return replace(Artifact("model", {**head, **packed}, params), where=f"'{name}'", sha256=fingerprint(made)["weights"])


def _require_same_architecture(first: Artifact, second: Artifact) -> None:
    one, other = first.params["architecture"], second.params["architecture"]
    if family_of(one) != family_of(other):
        raise InputError(
            f"{first.where} has {_name(one)}, {second.where} has {_name(other)}{_same_name(one, other)}",
            _SAME,
        )
    for what in ("width", "image_size"):
        if one[what] != other[what]:
            raise InputError(
                f"{first.where} has {what.replace('_', ' ')} {one[what]}, {second.where} {other[what]}",
                _SAME,
            )


def _name(architecture: Mapping[str, Any]) -> str:
    return str(architecture.get("backbone") or architecture.get("module"))


def _same_name(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return " with other settings" if _name(one) == _name(other) else ""


def _require_same_tensors(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], first: str, second: str) -> None:
    for name in sorted(a.keys() | b.keys()):
        one, other = (f"{weights[name].dtype} {weights[name].shape}" if name in weights else "missing" for weights in (a, b))
        own = name.removeprefix("weights.")
        if one != other:
            raise InputError(
                f"'{own}' is {one} in {first} and {other} in {second}",
                "give two models of the same architecture and with the same few-shot head",
            )
        for weights, where in ((a, first), (b, second)):
            if not np.isfinite(weights[name]).all():
                raise InputError(f"'{own}' in {where} is not finite", "train it again")
        if own in _NORMALISATION and not np.array_equal(a[name], b[name]):
            raise InputError(
                f"{first} and {second} normalize pixels by another {own}",
                "train one from the other with --init, which keeps it",
            )


def _head_differences(first: Artifact, second: Artifact) -> Iterator[str]:
    """What is not the same of the anchors and the temperature, in words."""
    for key, words in _HEAD.items():
        if first.params.get(key) != second.params.get(key) or not _same_tensors(first, second, f"{key}."):
            yield words
    if not np.array_equal(first.tensors["vectors"], second.tensors["vectors"]):
        yield "the anchors"
    one, other = (artifact.params["training"]["settings"]["tau"] for artifact in (first, second))
    if one != other:
        yield f"the temperature ({one:g} and {other:g})"


def _same_tensors(first: Artifact, second: Artifact, prefix: str) -> bool:
    """Whether the tensors whose names begin with `prefix` are the same."""
    one, other = ({name: value for name, value in one.tensors.items() if name.startswith(prefix)} for one in (first, second))
    return one.keys() == other.keys() and all(np.array_equal(value, other[name]) for name, value in one.items())
