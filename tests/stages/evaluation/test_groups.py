from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from torch import nn

from stages.anchors.anchor_set import AnchorSet
from stages.classes import ClassGroups
from stages.errors import InputError
from stages.evaluation.groups import UNKNOWN, ClassChoice, choose_classes, leak_notes, seen_and_novel
from stages.models.classifier import Classifier
from stages.models.origin import Origin

NAMES = ("ant", "bee", "cat", "dog", "emu", "fox")


def anchors(names: tuple[str, ...] = NAMES, groups: ClassGroups | None = None) -> AnchorSet:
    rows = np.eye(len(names), 8, dtype=np.float32)
    return AnchorSet(rows, names, groups or ClassGroups((0, 2), (1,), tuple(range(3, len(names)))))


def test_the_candidates_of_gzsl_are_seen_then_novel() -> None:
    choice = seen_and_novel(anchors())
    assert list(choice.classes) == ["ant", "cat", "dog", "emu", "fox"]
    assert (choice.name, choice.seen) == ("seen+novel", 2)
    assert choose_classes(anchors(), None).seen == 0


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        (ClassGroups(tuple(range(6))), "no novel classes, and --protocol gzsl needs seen and novel"),
        (ClassGroups((), (), tuple(range(6))), "no seen classes"),
    ],
)
def test_gzsl_needs_both_sides(groups: ClassGroups, text: str) -> None:
    with pytest.raises(InputError, match=text):
        seen_and_novel(anchors(groups=groups))


HASHES = np.arange(10, 70, 10)  # one image of each class
OTHERS = {"trained": np.array([99])}
TRAINED = {"trained": np.array([10, 30, 99]), "selected": np.array([20])}


def notes(
    own: AnchorSet,
    spec: str | None = None,
    trained: AnchorSet | None = None,
    images: Mapping[str, np.ndarray] = OTHERS,
) -> list[str]:
    choice = seen_and_novel(own) if spec == "gzsl" else choose_classes(own, spec)
    labels = np.arange(len(choice.classes))
    hashes = np.array([HASHES[NAMES.index(name)] if name in NAMES else -1 for name in choice.classes])
    origin = Origin({"settings": {}}, images=images)
    return leak_notes(Classifier(nn.Identity(), own, origin=origin, trained=trained), choice, hashes, labels)


def test_novel_classes_leak_nothing() -> None:
    assert notes(anchors(), images=TRAINED) == []


def test_classes_and_images_that_were_met_are_said() -> None:
    classes = ["all: 2 of 6 classes were trained on", "all: 1 of 6 classes were used to select the epoch"]
    assert notes(anchors(), "all") == classes
    assert notes(anchors(), "all", images=TRAINED) == [
        *classes,
        "all: 2 of 6 evaluated images were trained on",
        "all: 1 of 6 evaluated images were used to select the epoch",
    ]


def test_images_of_novel_classes_that_were_trained_on_under_another_name_are_found() -> None:
    assert notes(anchors(), images={"trained": np.array([40, 60])}) == ["novel: 2 of 3 evaluated images were trained on"]


def test_a_checkpoint_that_does_not_know_its_images_says_so_where_it_matters() -> None:
    assert notes(anchors(), "seen", images={}) == ["seen: 2 of 2 classes were trained on", f"seen: {UNKNOWN}"]
    assert notes(anchors(), images={}) == []


def test_that_seen_classes_were_trained_on_is_no_leak_of_gzsl_but_their_images_are() -> None:
    left_out = "seen+novel: the 1 validation classes are not candidates"
    assert notes(anchors(), "gzsl") == [left_out]
    assert notes(anchors(), "gzsl", images={"trained": np.array([10, 40, 50])}) == [
        left_out,
        "seen+novel: 1 of 2 evaluated images of seen classes were trained on: S is not on held-out images",
        "seen+novel: 2 of 3 evaluated images of novel classes were trained on",
    ]


def test_other_anchors_are_judged_by_the_names_that_were_trained_on() -> None:
    given = anchors(("Ant", "owl", "bee", "rat"), ClassGroups.from_counts(4, None))
    assert notes(given, "all", trained=anchors()) == [
        "all: 1 of 4 classes were trained on",
        "all: 1 of 4 classes were used to select the epoch",
    ]
    fresh = anchors(("owl", "rat"), ClassGroups.from_counts(2, None))
    assert notes(fresh, "all", trained=anchors()) == []


def test_gzsl_on_other_anchors_says_which_side_is_not_what_it_is_called() -> None:
    given = anchors(("owl", "cat", "ant", "bee"), ClassGroups.from_counts(4, 2))
    assert notes(given, "gzsl", trained=anchors()) == [
        "seen+novel: 1 of the 2 seen classes were not trained on",
        "seen+novel: 1 of the 2 novel classes were trained on",
        "seen+novel: 1 of the 2 novel classes were used to select the epoch",
    ]


@pytest.mark.parametrize("classes", [(), ("cat",)])
def test_a_single_candidate_is_refused(classes: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="a single candidate is always right; choose a group of at least 2 classes"):
        ClassChoice("novel", classes)
