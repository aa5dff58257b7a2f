"""A classifier with a calibration fitted on images of validation classes, as a new checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.classes import fold
from stages.data.image_set import ImageSet, LabelledImages
from stages.errors import InputError, UsageError
from stages.evaluation.groups import ClassChoice, candidates
from stages.exchange.open_model import Opened
from stages.files.artifacts import Artifact
from stages.files.earlier import earlier_artifact, write_or_keep
from stages.models.calibrate import calibrate
from stages.models.checkpoint import checkpoint_of
from stages.models.classifier import Classifier, Progress
from stages.models.embedding import EmbeddingModel
from stages.statistics.calibration import Calibration

# class names -> their images, those of training rather than of test. Raises InputError where they are not in the data
Read = Callable[[Sequence[str]], LabelledImages]


@dataclass(frozen=True)
class Calibrated:
    """A new checkpoint, not written yet, its calibration, and what its user must know."""

    artifact: Artifact
    calibration: Calibration
    notes: list[str]


def validation_choice(classifier: Classifier, spec: str | None) -> ClassChoice:
    """The classes to fit on: `spec` as for `choose_classes`; None is the validation classes of a checkpoint, and otherwise all
    the classes that were given, which the user states to be for validation.

    Raises InputError for a checkpoint without validation classes, and what `candidates` raises.
    """
    if spec is None and not classifier.origin.foreign and not classifier.has_new_classes:
        if not classifier.groups.val:
            raise InputError(
                "the checkpoint has no validation classes, and novel classes are for evaluation",
                "name classes that no evaluation uses, by --classes FILE or --names, or choose with --classes-from",
            )
        spec = "val"
    return candidates([classifier], [spec or "all"])[0]


def calibrated(
    opened: Opened, choice: ClassChoice, read: Read, *, batch_size: int = 256, progress: Progress | None = None
) -> Calibrated:
    """Fit a calibration, and make a checkpoint that has it.

    The bias is fitted where the checkpoint has seen classes and says which images it was trained on: on images of seen classes
    that are not among them.

    Args:
        opened: the model.
        choice: the classes that the temperature is fitted on, see `validation_choice`.
        read: reads images.
        batch_size, progress: see `calibrate`.

    Raises:
        UsageError: a model that no checkpoint can hold.
        InputError: images that were all trained on.
    """
    classifier = opened.classifier
    check_storable(classifier, opened.name)
    images, known = _not_trained(classifier, read(choice.classes), f"the group '{choice.name}'")
    held_out, no_bias, how = _held_out(classifier, choice, read)
    found = calibrate(
        classifier,
        images,
        held_out,
        source=_source(classifier, choice),
        no_bias=no_bias,
        batch_size=batch_size,
        progress=progress,
    )
    used = [one.hashes() for one in (images, held_out) if one is not None]
    origin = classifier.origin
    hashes = {**origin.images, "calibrated": np.unique(np.concatenate(used))} if origin.images else {}
    training = origin.training or _of_foreign(classifier)
    size = classifier.image_size or images.size[0]
    made = checkpoint_of(
        classifier.embedding,
        classifier.trained,
        training,
        opened.lineage,
        image_size=size,
        images=hashes,
        calibration=found,
    )
    return Calibrated(made, found, [*known, *_novel_note(classifier, choice), *how])


def earlier_calibration(output: Path, lineage: Mapping[str, Any]) -> Artifact | None:
    """The earlier calibration of the model with this lineage at `output`, see `earlier_artifact`."""

    def is_one(found: Artifact) -> bool:
        return found.kind == "model" and "calibration" in found.params and found.inputs == lineage

    return earlier_artifact(output, "an earlier calibration of this model", is_one)


def write_calibrated(made: Artifact, output: Path, earlier: Artifact | None) -> tuple[Artifact, bool]:
    """Write a calibrated checkpoint, see `write_or_keep`."""
    return write_or_keep(made, output, earlier, "a calibration of this model with other images or parameters")


def check_storable(classifier: Classifier, name: str) -> None:
    """Raise UsageError for a model that is not an embedding model of ours: no checkpoint can hold it."""
    if classifier.closed or not isinstance(classifier.embedding, EmbeddingModel):
        what = f"{name} cannot be saved as a checkpoint: it is built by code of its own"
        raise UsageError(what, "calibrate a checkpoint or a CLIP model")


def _not_trained(classifier: Classifier, images: LabelledImages, what: str) -> tuple[ImageSet, list[str]]:
    """The images that were not trained on, in memory, and a note on the others. Raises InputError if there are none."""
    trained = classifier.origin.images.get("trained")
    if trained is None:
        return images.loaded(), []
    keep = ~np.isin(images.hashes(), trained)
    if not keep.any():
        raise InputError(f"all {len(images):,} images of {what} were trained on", "give other images with --data")
    left_out = int((~keep).sum())
    notes = [f"{left_out:,} of {len(images):,} images of {what} were trained on, and are left out"] if left_out else []
    return images.take(torch.from_numpy(np.flatnonzero(keep))).loaded(), notes


def _held_out(classifier: Classifier, choice: ClassChoice, read: Read) -> tuple[ImageSet | None, str, list[str]]:
    """Images of the seen classes that were not trained on; or None, why there are none, and what to do about it."""
    seen = classifier.known.names("seen")
    if classifier.origin.foreign:
        return None, "what the model was trained on is unknown", []
    if classifier.has_new_classes:
        return None, "classes named after training were given, and the seen classes are not among the candidates", []
    if {fold(name) for name in seen} & {fold(name) for name in choice.classes}:
        return None, "the temperature is fitted on seen classes", []
    if "trained" not in classifier.origin.images:
        return None, "the checkpoint does not record which images it was trained on", []
    try:
        return _not_trained(classifier, read(seen), "the seen classes")[0], "", []
    except InputError as error:
        fix = "for a bias train with --seen-bias, or give images of the seen classes that were not trained on with --data"
        return None, error.what, [fix]


def _source(classifier: Classifier, choice: ClassChoice) -> str:
    named = {"val": "validation classes", "novel": "novel classes, chosen by the user", "seen": "seen classes"}
    if classifier.origin.foreign or classifier.has_new_classes or choice.name not in named:
        return "classes that the user gave as validation"
    return named[choice.name]


def _novel_note(classifier: Classifier, choice: ClassChoice) -> list[str]:
    novel = {fold(name) for name in classifier.trained.names("novel")} if not classifier.origin.foreign else set()
    count = sum(fold(name) in novel for name in choice.classes)
    if not count:
        return []
    return [f"{count} of the {len(choice.classes)} classes are novel ones: figures on them are no longer of unseen classes"]


def _of_foreign(classifier: Classifier) -> dict[str, Any]:
    """What a checkpoint records of a model from elsewhere."""
    about = classifier.origin.foreign
    imported = {
        "layout": str(about["kind"]),
        "file": str(about["name"]),
        "sha256": classifier.origin.sha256,
        "changes": [],
        "ignored": {},
        "groups_known": False,
    }
    return {"settings": {"tau": 1 / classifier.logit_scale}, "imported": imported, "resize": classifier.image_size}
