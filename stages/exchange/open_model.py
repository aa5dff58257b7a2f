"""Any MODEL as a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from torch import nn

from stages.anchors.anchor_set import KIND as ANCHORS
from stages.anchors.anchor_set import AnchorSet
from stages.anchors.parts import encoders_of
from stages.classes import fold
from stages.clip_weights import model_folder
from stages.errors import InputError, MissingError, UsageError
from stages.exchange.bare_weights import is_bare, open_weights
from stages.exchange.foreign import Line, lineage_of
from stages.exchange.hub import PREFIX as HUB
from stages.exchange.hub import Repository, checkpoint_in
from stages.exchange.model_request import DEMO, ModelRequest
from stages.exchange.own_module import ROBUSTBENCH, open_module, open_robustbench
from stages.exchange.zero_shot import open_zero_shot
from stages.files import artifacts
from stages.files.reading import STDIO
from stages.imports import is_import_path
from stages.models.checkpoint import KIND, read_checkpoint
from stages.models.classifier import Classifier
from stages.models.clip_tower import OPTIONS, PREFIX, recorded_tower
from stages.models.embedding import place
from stages.models.new_anchors import no_encoder
from stages.text import as_text

FOLDER = "local-dir:"
FORMS = "a checkpoint such as run/model.st, demo, clip:NAME/TAG, local-dir:PATH, hf-hub:ORG/NAME, package.module:factory"
CHECKPOINT, ZERO_SHOT, WEIGHTS, MODULE, ROBUST = "checkpoint", "clip", "weights", "module", "robustbench"
# the options of `ModelRequest` that each kind of model uses
_USED = {
    CHECKPOINT: ("classes", "names", "anchors", "backbone"),
    ZERO_SHOT: ("classes", "names", "anchors", "template", "templates"),
    WEIGHTS: ("classes", "names", "anchors", "template", "templates", "architecture"),
    MODULE: ("classes", "names", "anchors"),
    ROBUST: ("classes", "names"),
}
_WORDS = {
    CHECKPOINT: "a checkpoint",
    ZERO_SHOT: "a CLIP model",
    WEIGHTS: "bare weights",
    MODULE: "your own module",
    ROBUST: "a model of RobustBench",
}


@dataclass(frozen=True)
class Opened:
    """An opened model.

    Attributes:
        classifier: in eval mode.
        lineage: of the model, and of its anchors if they are from elsewhere: name -> kind, SHA-256, inputs.
        name: what reports call it.
    """

    classifier: Classifier
    lineage: dict[str, Any]
    name: str


def open_model(
    spec: str,
    request: ModelRequest | None = None,
    *,
    device: str = "cpu",
    progress: Line | None = None,
    module: nn.Module | None = None,
) -> Opened:
    """Open a model of any kind.

    Args:
        spec: a checkpoint; 'demo', the bundled one; clip:NAME/TAG, local-dir:PATH or hf-hub:ORG/NAME, a CLIP model as a
            zero-shot classifier (a repository with a model.st is a checkpoint); a safetensors file of bare weights;
            package.module:factory, the user's own module; robustbench:MODEL or robustbench:DATASET/NORM/MODEL.
        request: its classes and architecture.
        device: torch device.
        progress: called with a line on what is being loaded, for what takes long.
        module: the module that a checkpoint of custom code was trained with.

    Raises UsageError for options that the kind of model does not use; UsageError, InputError and MissingError of each kind.
    """
    return open_models([spec], request, device=device, progress=progress, module=module)[0]


def open_models(
    specs: Sequence[str],
    request: ModelRequest | None = None,
    *,
    names: Sequence[str] = (),
    device: str = "cpu",
    progress: Line | None = None,
    module: nn.Module | None = None,
) -> list[Opened]:
    """Open several models for one table; as `open_model`.

    A CLIP model for which no classes are given gets `names`, those of the images, or else those of the first checkpoint.
    """
    request = request or ModelRequest()
    found = [_kind_of(spec, progress) for spec in specs]
    kinds = [kind for kind, _ in found]
    _refuse_unused(request, kinds, module)
    named = report_names(specs)
    opened: dict[int, Opened] = {}
    for at in sorted(range(len(specs)), key=lambda at: kinds[at] != CHECKPOINT):
        asked = request
        lent = names or next((opened[one].classifier.classes for one in opened if kinds[one] == CHECKPOINT), ())
        if kinds[at] == ZERO_SHOT and request.group is None and request.anchors is None and lent:
            asked = replace(request, names=lent)
        classifier, lineage = _open(kinds[at], found[at][1], named[at], _only(asked, kinds[at]), progress, module)
        place(classifier, device)
        opened[at] = Opened(classifier, lineage, named[at])
    names = _run_names([opened[at].classifier for at in range(len(specs))], specs, named)
    return [replace(opened[at], name=name) for at, name in enumerate(names)]


def _run_names(classifiers: Sequence[Classifier], specs: Sequence[str], named: Sequence[str]) -> list[str]:
    """The names of the runs (see `laat train --name`) where they are unique, otherwise those in `named`, of the files."""

    def recorded(classifier: Classifier, spec: str) -> str | None:
        name = classifier.origin.training.get("name")
        return f"{name}/last" if name and Path(spec).name == "last.st" else name

    runs = [recorded(one, spec) for one, spec in zip(classifiers, specs, strict=True)]
    found = [run if run and runs.count(run) == 1 else name for run, name in zip(runs, named, strict=True)]
    return found if len({*found}) == len(found) else list(named)


def report_names(specs: Sequence[str]) -> list[str]:
    """What reports call models of runs without a name, without local paths: a checkpoint by its run folder, a file by its name.

    Where these are not unique, files get their folder too, and otherwise numbers.
    """

    def name(spec: str, *, folder: bool) -> str:
        if spec.startswith(FOLDER):
            return FOLDER + Path(spec.removeprefix(FOLDER)).name
        if spec.startswith(PREFIX):
            return recorded_tower(spec)
        if not _is_file(spec):
            return spec
        path = Path(spec)
        if folder:
            return f"{path.resolve().parent.name}/{path.stem}"
        return path.resolve().parent.name if path.name == "model.st" else path.stem

    for folder in (False, True):
        names = [as_text(name(spec, folder=folder)) for spec in specs]
        if len(set(names)) == len(specs):
            return names
    return [str(at + 1) for at in range(len(specs))]


def _is_file(spec: str) -> bool:
    """Whether a MODEL is meant as a file."""
    if Path(spec).is_file():
        return True
    return not (spec == DEMO or spec.startswith((PREFIX, FOLDER, HUB, ROBUSTBENCH)) or is_import_path(spec))


def _kind_of(spec: str, line: Line | None) -> tuple[str, str]:
    """The kind of a model, and where it is: for a bundled or downloaded checkpoint its file. Raises MissingError."""
    if spec == DEMO:
        return CHECKPOINT, str(demo_checkpoint())
    if spec.startswith(ROBUSTBENCH):
        return ROBUST, spec
    if spec.startswith((PREFIX, FOLDER)):
        return ZERO_SHOT, spec
    if spec.startswith(HUB):
        path = checkpoint_in(Repository.parse(spec), line)
        return (ZERO_SHOT, spec) if path is None else (CHECKPOINT, str(path))
    if not _is_file(spec):
        return MODULE, spec
    return (WEIGHTS if is_bare(Path(spec)) else CHECKPOINT), spec


def _refuse_unused(request: ModelRequest, kinds: Sequence[str], module: nn.Module | None) -> None:
    """Raise UsageError for an option, or a module, that none of the models uses."""
    given = {option: f"--{option}" for option in _USED[WEIGHTS] + ("backbone",) if getattr(request, option) is not None}
    if module is not None:
        given["backbone"] = "module"
    for option, shown in given.items():
        if not any(option in _USED[kind] for kind in kinds):
            words = " and ".join(dict.fromkeys(_WORDS[kind] for kind in kinds))
            raise UsageError(f"{shown} means nothing for {words}", "leave it out")


def check_there(spec: str) -> None:
    """Raise InputError for a MODEL on this machine that is no file, or no model folder. Nothing is loaded."""
    own = spec.removeprefix(PREFIX)
    if own.startswith(FOLDER):
        model_folder(own, OPTIONS)
    elif _is_file(spec) and not Path(spec).is_file():
        raise InputError(f"'{spec}' does not exist or is no file", f"check the path; a MODEL is {FORMS}")


def used_of(request: ModelRequest, spec: str) -> ModelRequest:
    """The request with the options that the MODEL `spec` uses: others, which mean nothing for it, are left out."""
    return _only(request, _kind_of(spec, None)[0])


def _only(request: ModelRequest, kind: str) -> ModelRequest:
    """The request with the options that a kind of model uses."""
    return ModelRequest(**{option: getattr(request, option) for option in _USED[kind]})


def _open(
    kind: str, spec: str, name: str, request: ModelRequest, line: Line | None, module: nn.Module | None
) -> tuple[Classifier, dict[str, Any]]:
    if kind == CHECKPOINT:
        return _open_checkpoint(spec, request, line, module)
    if kind == ZERO_SHOT:
        return open_zero_shot(spec, name, request, line)
    if kind == WEIGHTS:
        return open_weights(Path(spec), name, request, line)
    return open_module(spec, request, line) if kind == MODULE else open_robustbench(spec, request, line)


def demo_checkpoint() -> Path:
    """The bundled checkpoint. Raises MissingError where the installation has none."""
    path = Path(str(resources.files("stages.exchange").joinpath("demo/model.st")))
    if not path.is_file():
        fix = "train one with `laat demo`: demo/run/model.st"
        raise MissingError("this installation has no bundled checkpoint 'demo'", fix)
    return path


def _open_checkpoint(
    path: str, request: ModelRequest, line: Line | None, module: nn.Module | None
) -> tuple[Classifier, dict[str, Any]]:
    _refuse_no_file(path)
    artifact = artifacts.read(path, KIND)
    lineage: dict[str, Any] = {"model": artifact.lineage()}
    anchors = None if request.anchors is None else artifacts.read(request.anchors, ANCHORS)
    classifier = read_checkpoint(artifact, f"'{path}'", request.backbone if module is None else module)
    if anchors is not None:
        where = f"'{request.anchors}'"
        classifier = classifier.over(AnchorSet.from_artifact(anchors, where), where=where)
        lineage["anchors"] = anchors.lineage()
    elif (given := request.read_names()) is not None:
        names, where = given
        origin, new = classifier.trained.origin, {*map(fold, names)} - {*map(fold, classifier.known.classes)}
        if line is not None and new and no_encoder(origin) is None:
            line(f"loading {encoders_of(origin)}")
        classifier = classifier.over(names, where=where)
        lineage["anchors"] = lineage_of(classifier.anchor_set)
    return classifier, lineage


def _refuse_no_file(path: str) -> None:
    """Raise InputError for what looks like the name of a model, not of a file."""
    if path != STDIO and not Path(path).suffix and not Path(path).exists() and "/" not in path:
        raise InputError(f"'{path}' is neither a file nor a kind of model", f"MODEL is {FORMS}")
