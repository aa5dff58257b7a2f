"""Modules that are not built here: the user's own, by import path, and those of RobustBench."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from torch import nn

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.bundled import bundled_classes
from stages.errors import MissingError, UsageError
from stages.exchange.foreign import Line, anchors_of_file, foreign_classifier, no_groups, require_classes
from stages.exchange.model_request import ModelRequest
from stages.models.classifier import Classifier
from stages.models.own_parts import fingerprint, load_backbone
from stages.text import first_line

ROBUSTBENCH = "robustbench:"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_IMAGE_SIZES = {"cifar10": 32, "cifar100": 32, "imagenet": 224}
_INSTALL = {
    "robustbench": "pip install git+https://github.com/RobustBench/robustbench",
    # of setuptools until version 80; a package that robustbench uses still imports it
    "pkg_resources": "newer versions of setuptools lack pkg_resources: pip install 'setuptools<81'",
}
_NORMS = {"linf": "Linf", "l2": "L2", "corruptions": "corruptions"}


def open_module(path: str, request: ModelRequest, line: Line | None = None) -> tuple[Classifier, dict[str, Any]]:
    """The module that the user's `package.module:factory` returns, as a classifier, and its lineage.

    It takes float images (N, 3, H, W) in [0, 1], and gives embeddings (N, D) for anchors of width D, or the logits (N, C) of C
    class names, a closed set. Its width is checked with the images that it gets.

    Args:
        path: a function or class that returns the module when it is called without arguments. It is imported and run.
        request: anchors or class names.
        line: called with what is being loaded.

    Raises UsageError and MissingError, see `load_backbone`, and UsageError without classes.
    """
    require_classes(request, path)
    if line is not None:
        line(f"importing {path}")
    module = load_backbone(path, option="MODEL").eval()
    sha256 = fingerprint(module)["weights"]
    about = {"kind": "module"}
    model = {"kind": "module", "sha256": sha256, "inputs": {}}
    if request.anchors is not None:
        anchors, lineage = anchors_of_file(request)
        return foreign_classifier(module, anchors, path, sha256, about), {"model": model, "anchors": lineage}
    names, _ = request.read_names() or ([], "")
    return foreign_classifier(module, closed_set(names), path, sha256, about, closed=True), {"model": model}


def open_robustbench(spec: str, request: ModelRequest, line: Line | None = None) -> tuple[Classifier, dict[str, Any]]:
    """A model of RobustBench (Croce et al., NeurIPS 2021) as a classifier of its closed set, and its lineage.

    robustbench downloads and opens its own weights.

    Args:
        spec: robustbench:MODEL (of CIFAR-10, L-inf) or robustbench:DATASET/NORM/MODEL.
        request: class names, where the data has other ones.
        line: called with what is being loaded.

    Raises MissingError without robustbench or the weights, UsageError for an unknown model.
    """
    dataset, norm, name = _parts(spec)
    try:
        load_model = import_module("robustbench.utils").load_model
    except ImportError as error:
        missing = str(error.name or "robustbench")
        fix = _INSTALL.get(missing, f"install {missing}")
        what = f"{spec} needs the package robustbench, which cannot be imported ({first_line(error)})"
        raise MissingError(what, fix) from error
    if line is not None:
        line(f"loading {name} with robustbench")
    try:
        module = load_model(model_name=name, dataset=dataset, threat_model=norm)
    except KeyError as error:
        raise UsageError(
            f"robustbench has no model '{name}' of {dataset}, {norm}", "see the list at https://robustbench.github.io"
        ) from error
    except Exception as error:  # whatever it, its download or its weights raise
        what = f"robustbench does not load {name}: {first_line(error)}"
        raise MissingError(what, "it downloads weights on first use: connect to the network once") from error
    if not isinstance(module, nn.Module):
        raise UsageError(f"robustbench gives a {type(module).__name__} for {name}, expected a torch.nn.Module")
    given = request.read_names()
    sha256 = fingerprint(module)["weights"]
    about = {"kind": "robustbench", "dataset": dataset, "norm": norm}
    classes = closed_set(class_names(dataset) if given is None else given[0])
    size = _IMAGE_SIZES[dataset]
    classifier = foreign_classifier(module, classes, spec, sha256, about, image_size=size, closed=True)
    return classifier, {"model": {"kind": "robustbench", "sha256": sha256, "inputs": {}}}


def _parts(spec: str) -> tuple[str, str, str]:
    """Data set, threat model and name of robustbench:[DATASET/NORM/]MODEL, as robustbench spells them. Raises UsageError."""
    *where, name = spec.removeprefix(ROBUSTBENCH).split("/")
    dataset, norm = (one.lower() for one in where) if len(where) == 2 else ("cifar10", "linf")
    if len(where) not in (0, 2) or not name or dataset not in _IMAGE_SIZES or norm not in _NORMS:
        raise UsageError(
            f"'{spec}' is not a model of RobustBench",
            f"write {ROBUSTBENCH}MODEL, or {ROBUSTBENCH}DATASET/NORM/MODEL: DATASET one of {', '.join(_IMAGE_SIZES)}, "
            f"NORM one of {', '.join(_NORMS.values())}",
        )
    return dataset, _NORMS[norm], name


def closed_set(names: list[str]) -> AnchorSet:
    """Names for the outputs of a classifier: rows of the identity, which pick columns of its logits."""
    return AnchorSet(np.eye(len(names), dtype=np.float32), tuple(names), no_groups(len(names)), {"source": "closed set"})


def class_names(dataset: str) -> list[str]:
    """The names of the outputs of models for 'cifar10', 'cifar100' or 'imagenet', in their order."""
    if dataset == "cifar10":
        return list(CIFAR10)
    if dataset == "cifar100":
        return sorted(bundled_classes("cifar-fs")[0])  # CIFAR-100 numbers its classes alphabetically
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    names = list(IMAGENET_CLASSNAMES)
    names[744], names[836] = "projectile", "sunglass"  # two synsets of 'missile' and of 'sunglasses'
    return names
