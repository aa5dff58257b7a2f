"""What is evaluated on what: the inputs of an evaluation, and its identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from stages.attacks.autoattack import check_size
from stages.attacks.spec import AttackSpec, EnsembleSpec, library_versions
from stages.conditions import (
    NOT_RESIZED,
    WHITE_BOX,
    Conditions,
    Knowledge,
    ModelUnderAttack,
    resized_inside,
    resized_outside,
)
from stages.data.episodes import Episodes, check_episodes
from stages.data.image_set import ImageSet, restricted_labels
from stages.errors import UsageError
from stages.evaluation.groups import ClassChoice
from stages.evaluation.protocol import CLASS_MEANS, Protocol
from stages.evaluation.replay import OTHER_EPISODES, Replay
from stages.evaluation.sample import Sample, sample_note, subset_of
from stages.identity import CODE, digest_of, versions
from stages.imports import code_of
from stages.models.classifier import Classifier
from stages.models.embedding import EmbeddingModel
from stages.models.few_shot import few_shot
from stages.models.own_parts import fingerprint
from stages.models.require import require_anchored
from stages.models.wrapped import check_grid, resize_of
from stages.reports.parquet import SCHEMA_VERSION
from stages.threat import ThreatModel
from stages.world import World

UPPER_BOUND = (
    "gzsl: the attacks were run at bias 0, with every step on every sample for the curve, and not at each bias: "
    "away from bias 0 the robust seen-unseen curve and its area are upper bounds"
)


@dataclass(frozen=True)
class Task:
    """The inputs of an evaluation.

    Attributes:
        classifiers: name in the report -> classifier; all with the classes of the groups.
        choices: the groups of classes.
        whole: the images of all groups.
        protocol, attacks, threat, seed: see `score.evaluate`.
        suite: label of the attacks, if they are a suite.
        shots: a sweep over several numbers of shots, each a row with the same queries; empty uses those of `protocol`.
        sample: evaluate a subset of the images.
        calibration_error: whether to note the expected calibration error on clean images; not for episodes.
        checks: whether to check each result under attack (see `checks.run_checks`).
        eot: random draws that randomised models are averaged over, see `stages.models.wrapped.MeanOfDraws`.
        batch_size: see `score.evaluate`.
        replay: use these episodes instead of sampling them; `protocol` and `shots` are those of the file.
    """

    classifiers: Mapping[str, Classifier]
    choices: Sequence[ClassChoice]
    whole: ImageSet
    protocol: Protocol
    attacks: Sequence[AttackSpec]
    threat: ThreatModel
    seed: int = 0
    suite: str | None = None
    shots: Sequence[int] = ()
    sample: Sample = field(default_factory=Sample)
    checks: bool = False
    calibration_error: bool = False
    replay: Replay | None = None
    eot: int = 1
    batch_size: int = 256

    @cached_property
    def images(self) -> ImageSet:
        """The images of the sample. Raises UsageError for a sample that leaves out a class."""
        return subset_of(self.whole, self.sample)

    @cached_property
    def data_sha256(self) -> str:
        """Of the images of the sample."""
        return self.images.sha256()

    @property
    def swept(self) -> list[Protocol]:
        """The protocols of the rows: one, or one for each number of shots."""
        return [replace(self.protocol, shots=count) for count in self.shots] or [self.protocol]

    @property
    def checked(self) -> bool:
        """Whether there is something to check."""
        return self.checks and bool(self.attacks)

    @cached_property
    def identity(self) -> dict[str, dict[str, Any]]:
        """Everything that determines the report, JSON-able; see `stages.identity`."""
        settings: dict[str, Any] = {"attack": [spec.name for spec in self.attacks]}
        if self.attacks:
            settings |= {"suite": self.suite, **self.threat.to_record()}
        protocol = self.protocol.to_record()
        settings |= {"protocol": protocol.pop("name"), **protocol, "seed": self.seed, "checks": self.checked}
        if self.shots:
            settings |= {"shots": list(self.shots), **self.protocol.heads}
        if self.calibration_error:
            settings["calibration_error"] = True
        if self.sample.asked:
            settings |= {"max_images": self.sample.images, "max_per_class": self.sample.per_class}
        settings |= how_attacked(next(iter(self.classifiers.values())), self.eot, self.batch_size)
        replayed = {"replayed episodes": self.replay.sha256} if self.replay is not None and self.replayed else {}
        return {
            "models": {name: one.origin.digest for name, one in self.classifiers.items()},
            "inputs": {
                "anchors": anchors_digest(self.classifiers),
                "data": self.data_sha256,
                "list of images": digest_of(self.images.source_rows.names()),
                "classes": digest_of([[choice.name, choice.seen, *choice.classes] for choice in self.choices]),
                **replayed,
            },
            "settings": {"classes_from": [choice.name for choice in self.choices], **settings},
            "versions": report_versions(self.attacks),
            **own_code(self.classifiers.values()),
        }

    @cached_property
    def hashes(self) -> np.ndarray:
        """(N,) int64, of the images of the sample, see `stages.data.image_hashes`."""
        return self.images.hashes()

    @cached_property
    def replayed(self) -> dict[tuple[str, int], Episodes]:
        """The episodes from a file that differ from those of the seed, by group and number of shots."""
        found: dict[tuple[str, int], Episodes] = {}
        if self.replay is None:
            return found
        for choice in self.choices:
            group = self.images.restricted_to(choice.classes, names_from="the checkpoint")
            for one in self.swept:
                given = self.replay.episodes(choice.name, group, one, self.kept(choice)[0].cpu().numpy())
                if given is not None:
                    found[choice.name, one.shots] = given
        return found

    @property
    def notes(self) -> list[str]:
        """What the report says about the way of evaluating."""
        notes = [sample_note(self.sample, len(self.images), len(self.whole))] if self.sample.asked else []
        if self.protocol.name == "gzsl" and self.attacks:
            notes.append(UPPER_BOUND)
        if self.eot > 1:
            notes.append(eot_note(self.eot))
        return [*notes, OTHER_EPISODES] if self.replayed else notes

    @property
    def sample_record(self) -> dict[str, Any] | None:
        """The entry 'sample' of the report."""
        if not self.sample.asked:
            return None
        return {**self.sample.to_record(), "images": len(self.images), "of": len(self.whole)}

    def agree(self, world: World) -> None:
        """Raise InputError unless all processes have the same inputs."""
        same = {**self.identity, "batch size": self.batch_size, "torch": torch.__version__}
        world.agree(digest_of(same), "evaluation: options, images or checkpoints")

    def check(self) -> None:
        """Raise UsageError or InputError for a protocol or attack that does not fit the images."""
        for name, model in self.classifiers.items():
            self._check_heads(name, model)
            if model.closed and self.protocol.name == "episodes" and any(protocol.shots for protocol in self.swept):
                raise UsageError(
                    f"{name} is a classifier of fixed classes, without embeddings of support images", "give --shots 0"
                )
        if self.eot > 1 and self.protocol.support_embeddings == "raw":
            raise UsageError(
                "--support-embeddings raw: with --eot, embeddings are means of normalized ones",
                "give --support-embeddings unit",
            )
        check_grid(self.classifiers, self.whole.size)
        for spec in self.attacks:
            if isinstance(spec, EnsembleSpec):
                check_size(spec, self.threat, *self.images.size)
        for choice in self.choices if self.protocol.name == "episodes" else ():
            _, labels = self.kept(choice)
            for one in self.swept:
                check_episodes(labels, choice.classes, **one.numbers)
        if self.replay is not None:
            self.replay.check([choice.name for choice in self.choices], self.data_sha256)

    def _check_heads(self, name: str, model: Classifier) -> None:
        """Raise where the model has not the heads of the protocol."""
        head, shots = self.protocol.head, [one.shots for one in self.swept if self.protocol.name == "episodes"] or [0]
        if head != CLASS_MEANS and any(shots):
            few_shot(model, head, name)
        if not all(shots) or head == CLASS_MEANS:
            require_anchored(model, name)

    def kept(self, choice: ClassChoice) -> tuple[torch.Tensor, torch.Tensor]:
        """The positions of the images of a group, ascending, and their labels in it. Raises InputError."""
        found = self.images
        return restricted_labels(
            found.labels, found.classes, choice.classes, names_from="the checkpoint", provenance=found.provenance
        )


def eot_note(draws: int, *, attacked_here: bool = True) -> str:
    """How a randomised model decides and, unless the images are saved ones, is attacked."""
    how = ", and attacks follow the gradient of the loss at these mean logits, with new draws in every step"
    return (
        f"--eot {draws}: every decision, clean or attacked, is by the mean logits of {draws} random draws"
        f"{how if attacked_here else ''}; figures depend on the batch size"
    )


def how_attacked(classifier: Classifier, eot: int, batch_size: int) -> dict[str, Any]:
    """The settings of `ModelUnderAttack` for an identity, as far as they differ from the defaults.

    With random draws the batch size is one: the draws of an image depend on its place in the batch.
    """
    resize = resize_of(classifier)
    under = ModelUnderAttack(eot, None if resize is None else resize.how)
    return {**under.to_settings(), **({"batch_size": batch_size} if eot > 1 else {})}


def conditions_of(
    classifiers: Mapping[str, Classifier], grid: tuple[int, int], data: Mapping[str, Any], knowledge: Knowledge = WHITE_BOX
) -> Conditions:
    """What the threat model is applied to: images of height and width `grid` with the provenance record `data`.

    Raises as `check_grid`.
    """
    check_grid(classifiers, grid)
    resizes = {name: resize_of(one) for name, one in classifiers.items()}
    inside = resized_inside({name: NOT_RESIZED if one is None else one.does(grid) for name, one in resizes.items()})
    return Conditions(grid, resized_outside(data), inside, knowledge)


def anchors_digest(classifiers: Mapping[str, Classifier]) -> str:
    """Digest of the anchors of all classifiers and their classes, whatever their names and order."""
    return digest_of(sorted({digest_of(list(one.classes), one.anchor_set.vectors) for one in classifiers.values()}))


def attacked_digest(classifier: Classifier) -> str | None:
    """Digest of what an attack on the classifier uses: architecture, code, weights, resizing inside, scale and anchors.

    What it does not use is left out: a calibration, and other classes that the classifier knows. None for a module of which
    neither architecture nor name is known: its weights alone do not tell whether a defence is switched on.
    """
    parts = [one for one in classifier.embedding.modules() if isinstance(one, EmbeddingModel)]
    built = parts[0].architecture if parts else classifier.origin.foreign.get("name")
    if built is None:
        return None
    resize = resize_of(classifier)
    about = {
        "architecture": built,
        "resize_inside": None if resize is None else [resize.side, resize.how],
        "scale": classifier.logit_scale,
        **fingerprint(classifier.embedding),
        **own_code([classifier]),
    }
    return digest_of(about, classifier.anchor_set.vectors)


def own_code(classifiers: Iterable[Classifier]) -> dict[str, dict[str, str]]:
    """The part of the identity with the code of the user's own backbones; {} without any."""
    paths = [str(getattr(one.embedding, "backbone_name", "")) for one in classifiers]
    paths += [str(one.origin.foreign["name"]) for one in classifiers if one.origin.foreign.get("kind") == "module"]
    found = code_of(*paths)
    return {CODE: found} if found else {}


def report_versions(attacks: Sequence[AttackSpec] = ()) -> dict[str, Any]:
    """The part 'versions' of the identity of a report."""
    return versions(**{"report schema": SCHEMA_VERSION}, **library_versions(attacks))
