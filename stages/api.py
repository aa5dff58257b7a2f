"""The Python API: load, attack, evaluate and train, with the defaults of the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stages.anchors.anchor_set import KIND as ANCHORS
from stages.anchors.anchor_set import AnchorSet
from stages.attacks.perturb import attack_images
from stages.attacks.samples import check_labels
from stages.attacks.spec import AttackPlan, check_fits, parse_attack, parse_attacks
from stages.attacks.suites import DEFAULT_SUITE, find_suite
from stages.conditions import ModelUnderAttack
from stages.data.image_set import ImageSet
from stages.data.load import load_images
from stages.data.request import ImageRequest
from stages.devices import resolve_device
from stages.errors import UsageError
from stages.evaluation.clean_passes import require_same_passes
from stages.evaluation.evaluate import Evaluation, evaluate_classifiers
from stages.evaluation.groups import ClassChoice, seen_and_novel
from stages.evaluation.protocol import Protocol
from stages.evaluation.sample import Sample
from stages.evaluation.task import Task
from stages.exchange.model_request import ModelRequest
from stages.exchange.open_model import open_model
from stages.files import artifacts
from stages.models.classifier import GROUPS, Classifier, Progress
from stages.models.image_size import require_size
from stages.models.require import require_anchored, require_classifier
from stages.models.wrapped import check_grid, reading_of
from stages.models.wrapped import resize_inside as resize_inside_of
from stages.pixels import check_pixels
from stages.threat import ThreatModel
from stages.training.folder import finished_run
from stages.training.objectives import Objective
from stages.training.options import RunOptions
from stages.training.reports import EpochReport, RunResult
from stages.training.run import train_run
from stages.training.settings import TrainSettings

Eps = str | float | Fraction


def load(
    model: str | Path,
    *,
    classes: str | Path | None = None,
    names: Sequence[str] | None = None,
    anchors: str | Path | None = None,
    template: Sequence[str] | None = None,
    templates: str | Path | None = None,
    architecture: str | None = None,
    backbone: str | None = None,
    module: nn.Module | str | None = None,
    device: str = "auto",
) -> Classifier:
    """A model as a classifier, in eval mode.

    Its logits are those without a calibration: `predict` and `Classifier.probabilities` use the temperature and the bias of a
    checkpoint that has them, and the bias can change which class is first.

    Args:
        model: as MODEL on the command line: a checkpoint such as run/model.st, or 'demo', the bundled one.
        classes: class names: a file with one per line, or 'shapes', 'cifar-fs' or 'fc100'.
        names: the class names themselves.
        anchors: an anchors file, instead of names.
        template, templates: prompts, as `--template` and `--templates`.
        architecture: of bare weights, as `--architecture`.
        backbone: import path of the backbone that a checkpoint was trained with (`package.module:factory`). Loading a file
            never imports code by itself.
        module: for a checkpoint of your own code: the module that was trained, or as `backbone`.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises InputError, UsageError and MissingError, see `stages.exchange.open_model.open_model`.
    """
    request = ModelRequest(
        None if classes is None else str(classes),
        None if names is None else tuple(names),
        None if anchors is None else Path(anchors),
        None if template is None else list(template),
        None if templates is None else str(templates),
        architecture,
        module if isinstance(module, str) else backbone,
    )
    own = module if isinstance(module, nn.Module) else None
    return open_model(str(model), request, device=resolve_device(device), module=own).classifier


def attack(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    attack: str = "pgd-20",
    *,
    eps: Eps | None = None,
    norm: str = "linf",
    seed: int = 0,
    batch_size: int = 256,
    early_stop: bool = True,
    eot: int = 1,
    resize_inside: str | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Adversarial images.

    Args:
        classifier: its train/eval modes are restored.
        images: (N, 3, H, W), float in [0, 1] or uint8.
        labels: (N,) int64, positions in `classifier.classes`.
        attack: fgsm, pgd-N, margin-pgd-N, apgd-ce, square … as for `laat attack --attack`.
        eps: radius in pixel units, for example "8/255"; None is 8/255 in L-inf and 128/255 in L2.
        norm: "linf" or "l2".
        seed: of random starts.
        batch_size: images in one forward pass.
        early_stop: True returns images that are misclassified when clean unchanged, and stops at the first misclassified
            iterate; False runs every step on every image.
        eot: for a randomised model, random draws that its logits are averaged over (expectation over transformation).
        resize_inside: bilinear, bicubic, … (see `--resize-inside`): perturb images in their own size, resized in the attack.
        progress: called with (images done, images in total, attack).

    Returns:
        (N, 3, H, W) float32 in [0, 1], on the device of `images`.

    Raises UsageError for an unknown attack, norm or eps, or a randomised model without `eot`; InputError for other pixels or
    labels.
    """
    spec, threat, under = parse_attack(attack), ThreatModel(eps, norm), ModelUnderAttack(eot, resize_inside)
    spec.check_fits(threat, len(require_anchored(require_classifier(classifier)).classes))
    check_labels(images, labels, len(classifier.classes))
    check_pixels(images)
    classifier = resize_inside_of(classifier, under.resize_inside)
    check_grid({"": classifier}, (images.shape[2], images.shape[3]))
    require_same_passes({"": classifier}, images, eot)
    plan = AttackPlan(spec, threat, seed=seed, batch_size=batch_size, early_stop=early_stop, eot=eot)
    x_adv, _, _ = attack_images(classifier, images, labels, plan, progress=progress)
    return x_adv.to(images.device)


def evaluate(
    classifier: Classifier,
    dataset: Any,
    *,
    suite: str | None = None,
    attacks: Sequence[str] | None = None,
    eps: Eps | None = None,
    norm: str = "linf",
    protocol: str | Protocol = "all-way",
    split: str | None = None,
    layout: str | None = None,
    resize: int | None = None,
    max_images: int | None = None,
    checks: bool = True,
    eot: int = 1,
    resize_inside: str | None = None,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Evaluation:
    """Clean and robust accuracy with 95 % intervals; the report that `laat eval` writes.

    Args:
        classifier: its classes are the candidates; with the protocol 'gzsl' its seen and novel classes.
        dataset: as for `--data`, a `datasets.Dataset` (the image files that its rows name may be anywhere), or a map-style
            torch Dataset of (image, label) with `classes`.
        suite: a named set of attacks (`laat suites`); None is 'quick', unless `attacks` are given.
        attacks: names of attacks instead of a suite; an empty list evaluates clean images only.
        eps, norm: the threat model, see `attack`.
        protocol: 'all-way', 'gzsl', or a `Protocol`, for example of episodes.
        split, layout, resize: as `--split`, `--layout` and `--resize`; resize None is as in training.
        max_images: maximum number of images, sampled evenly over the classes.
        checks: whether to check the robust accuracies for unreliable attacks.
        eot, resize_inside: see `attack`.
        seed: of random starts.
        batch_size: images in one forward pass.
        progress: called with (done, total, what).

    Returns:
        The report: print it, save it with `.save("report.json")`, or read `.report`.

    Raises UsageError, InputError and MissingError, as `laat eval`.
    """
    if suite is not None and attacks is not None:
        raise UsageError("suite and attacks are both given", "give one of them")
    named = find_suite(suite or DEFAULT_SUITE) if attacks is None else None
    specs, threat = parse_attacks(attacks or ()) if named is None else named.specs(), ThreatModel(eps, norm)
    under = ModelUnderAttack(eot, resize_inside)
    classifier = resize_inside_of(require_classifier(classifier), under.resize_inside)
    how = protocol if isinstance(protocol, Protocol) else Protocol(protocol)
    choice = seen_and_novel(classifier.known) if how.name == "gzsl" else ClassChoice(_group(classifier), classifier.classes)
    ways = how.ways if how.name == "episodes" else len(choice.classes)
    if named is None:
        check_fits(specs, threat, ways)
    else:
        named.check_fits(threat, ways)
    images = _images(ImageRequest(dataset, split=split, layout=layout, resize=resize), classifier, choice.classes)
    task = Task(
        {classifier.origin.training.get("name", "model"): classifier},
        [choice],
        images,
        how,
        specs,
        threat,
        seed=seed,
        suite=None if named is None else named.label,
        sample=Sample(max_images, seed=seed),
        checks=checks,
        eot=eot,
        batch_size=batch_size,
    )
    return evaluate_classifiers(task, device=str(classifier.device), progress=progress)


def train(
    model: nn.Module | str,
    anchors: AnchorSet | str | Path,
    dataset: Any,
    settings: TrainSettings | None = None,
    *,
    objective: Objective | type[Objective] | None = None,
    reference: nn.Module | None = None,
    name: str | None = None,
    out: str | Path = "run",
    split: str | None = None,
    layout: str | None = None,
    resize: int | None = None,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> RunResult:
    """Train against anchors and write the run folder, as `laat train` does.

    Args:
        model: a backbone's name (`laat train --backbone`), or your own module: images (N, 3, S, S) in [0, 1] -> embeddings
            (N, D), D the anchors' width. Its weights are trained in place.
        anchors: an `AnchorSet`, or a file that `laat anchors` or `laat expand` wrote.
        dataset: images of the seen and validation classes, see `evaluate`.
        settings: see `TrainSettings`; None is its defaults.
        objective, reference: your own objective, a class or an instance, and frozen model; None: as `laat train`.
        name: of the run in reports; None is that of the folder, and "model" in those of `evaluate`.
        out: the run folder: model.st (best epoch), last.st, metrics.jsonl.
        split, layout, resize: as `--split`, `--layout` and `--resize`.
        resume, force, device: as `--resume auto`, `--force` and `--device`.
        on_epoch: called after every epoch.

    Returns the finished run: `load(run.model)` loads its classifier, with `module=` for your own module.
    Raises UsageError, InputError, MissingError and ComputeError, as `laat train`.
    """
    settings = settings or TrainSettings()
    if isinstance(model, str):
        settings = replace(settings, backbone=model)
    if isinstance(anchors, AnchorSet):
        artifact = artifacts.from_bytes(artifacts.to_bytes(anchors.to_artifact()), where="the anchors")
    else:
        artifact = artifacts.read(anchors, ANCHORS)
        anchors = AnchorSet.from_artifact(artifact, f"'{anchors}'")
    classes = anchors.names("seen") + anchors.names("val")
    images = load_images(ImageRequest(dataset, split=split, layout=layout, resize=resize), side="train", classes=classes)
    options = RunOptions(device=resolve_device(device), resume=resume, force=force, on_epoch=on_epoch)
    found = train_run(
        anchors,
        images,
        settings,
        Path(out),
        inputs={"anchors": artifact.lineage()},
        resize=resize,
        name=name,
        options=options,
        model=None if isinstance(model, str) else model,
        objective=objective,
        reference=reference,
    )
    return found or finished_run(Path(out))


def _group(classifier: Classifier) -> str:
    """The group of all the classes, or 'all'."""
    if classifier.origin.foreign:
        return "all"
    count = len(classifier.classes)
    return next((name for name in GROUPS if len(classifier.groups.of(name)) == count), "all")


def _images(request: ImageRequest, classifier: Classifier, classes: Sequence[str]) -> ImageSet:
    images = load_images(
        request.as_in(reading_of(classifier)),
        side="test",
        classes=classes,
        classes_from="the classifier",
        divided=classifier.trained.names("seen"),
    )
    require_size(classifier, images.size, "the images", "give resize={}")
    return images
