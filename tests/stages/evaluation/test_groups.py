from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import nn

from stages.anchors.anchor_set import AnchorSet
from stages.classes import ClassGroups
from stages.errors import InputError
from stages.evaluation.groups import choose_classes, leak_notes, seen_and_novel
from stages.models.classifier import Classifier, Origin

NAMES = ("ant", "bee", "cat", "dog", "emu", "fox")
OTHER_DATA = {"source": "other", "splits": ["test"], "divided": ""}
SAME_DATA = {"source": "pets", "splits": ["train"], "divided": ""}
TRAINING = {"data": SAME_DATA}


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


def notes(
    own: AnchorSet, data: dict[str, Any], spec: str | None = None, trained: AnchorSet | None = None, training: Any = TRAINING
) -> list[str]:
    choice = seen_and_novel(own) if spec == "gzsl" else choose_classes(own, spec)
    origin = Origin({**training, "settings": {}})
    return leak_notes(Classifier(nn.Identity(), own, origin=origin, trained=trained), [choice], data)


def test_novel_classes_leak_nothing() -> None:
    assert notes(anchors(), SAME_DATA) == []


def test_classes_and_images_that_were_met_are_said() -> None:
    assert notes(anchors(), OTHER_DATA, "all") == [
        "all: 2 of 6 classes were trained on",
        "all: 1 of 6 classes were used to select the epoch",
    ]
    assert notes(anchors(), SAME_DATA, "seen")[1].startswith("seen: images of these classes were used in training")
    apart = SAME_DATA | {"divided": "test"}
    assert len(notes(anchors(), apart, "seen", training={"data": SAME_DATA | {"divided": "train"}})) == 1


def test_a_division_keeps_only_the_divided_classes_apart() -> None:
    training = {"data": SAME_DATA | {"divided": "train"}}
    data = SAME_DATA | {"divided": "test", "divided_classes": ["Ant", "cat"]}
    assert not any("images of these classes" in note for note in notes(anchors(), data, "seen", training=training))
    for spec in ("val", "all"):  # all images of the validation class bee
        assert notes(anchors(), data, spec, training=training)[-1].startswith(f"{spec}: images of these classes were used")
    assert notes(anchors(), data, "novel", training=training) == []
    assert not any("held-out" in note for note in notes(anchors(), data, "gzsl", training=training))


def test_that_seen_classes_were_trained_on_is_no_leak_of_gzsl_but_their_images_are() -> None:
    left_out = "seen+novel: the 1 validation classes are not candidates"
    assert notes(anchors(), OTHER_DATA, "gzsl") == [left_out]
    shown = notes(anchors(), SAME_DATA, "gzsl")
    assert shown[0].startswith("seen+novel: S is not on held-out images: those of the seen classes were used in training")
    assert shown[1:] == [left_out]


def test_other_anchors_are_judged_by_the_names_that_were_trained_on() -> None:
    given = anchors(("Ant", "owl", "bee", "rat"), ClassGroups.from_counts(4, None))
    assert notes(given, OTHER_DATA, "all", trained=anchors()) == [
        "all: 1 of 4 classes were trained on",
        "all: 1 of 4 classes were used to select the epoch",
    ]
    fresh = anchors(("owl", "rat"), ClassGroups.from_counts(2, None))
    assert notes(fresh, SAME_DATA, "all", trained=anchors()) == []


def test_gzsl_on_other_anchors_says_which_side_is_not_what_it_is_called() -> None:
    given = anchors(("owl", "cat", "ant", "bee"), ClassGroups.from_counts(4, 2))
    assert notes(given, OTHER_DATA, "gzsl", trained=anchors()) == [
        "seen+novel: 1 of the 2 seen classes were not trained on",
        "seen+novel: 1 of the 2 novel classes were trained on",
        "seen+novel: 1 of the 2 novel classes were used to select the epoch",
    ]
