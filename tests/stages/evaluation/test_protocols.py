"""The protocols over whole checkpoints: sweeps of shots, blending, seen and novel together, a quick look."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from stages.anchors.anchor_set import AnchorSet
from stages.attacks.spec import parse_attacks
from stages.classes import ClassGroups
from stages.data.image_set import DataProvenance, ImageSet
from stages.errors import InputError, UsageError
from stages.evaluation.evaluate import Evaluation, evaluate_classifiers
from stages.evaluation.groups import choose_classes, seen_and_novel
from stages.evaluation.protocol import Protocol
from stages.evaluation.sample import Sample
from stages.evaluation.task import Task
from stages.models.classifier import Classifier
from stages.models.embedding import EmbeddingModel
from stages.models.origin import Origin
from stages.reports.report import report_bytes
from stages.reports.results import ALIKE_NOTE
from stages.threat import ThreatModel
from tests.stages.evaluation.models import Channels, Group, coloured, evaluate

NAMES = ("ant", "bee", "cat", "dog", "emu")
THREAT = ThreatModel(Fraction(2, 255))
EPISODES = Protocol("episodes", ways=2, queries=3, episodes=10)


@pytest.fixture(scope="module")
def checkpoint() -> Classifier:
    model = EmbeddingModel("conv4-8", 6, 16, mean=(0.5,) * 3, std=(0.2,) * 3, seed=1)
    vectors = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    anchors = AnchorSet(vectors, NAMES, ClassGroups.from_counts(5, 2, 1), {"source": "random"})
    training = {"settings": {"tau": 0.5}, "data": {"source": "pets", "splits": ["train"], "divided": ""}}
    return Classifier(model, anchors, logit_scale=2, image_size=16, origin=Origin(training)).eval()


@pytest.fixture(scope="module")
def images() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(5).repeat(12)
    pixels = torch.randint(0, 80, (60, 3, 16, 16), generator=generator)
    pixels += torch.randint(0, 170, (5, 3, 1, 1), generator=generator)[labels]
    return ImageSet(pixels.to(torch.uint8), labels, NAMES, DataProvenance("pets", ("test",)))


def score(checkpoint: Classifier, images: ImageSet, protocol: Protocol, *attacks: str, **more: Any) -> Evaluation:
    own = checkpoint.anchor_set
    choice = seen_and_novel(own) if protocol.name == "gzsl" else choose_classes(own, more.pop("group", "all"))
    how = {name: more.pop(name) for name in ("progress", "chunks") if name in more}
    task = Task({"run": checkpoint}, [choice], images, protocol, parse_attacks(attacks), THREAT, **more)
    found = evaluate_classifiers(task, **how)
    assert report_bytes(found.report)
    return found


def test_a_sweep_of_shots_has_a_row_each_on_the_same_queries(checkpoint: Classifier, images: ImageSet) -> None:
    swept = score(checkpoint, images, EPISODES, "fgsm", shots=(0, 1, 5))
    assert [row.protocol for row in swept.report.results] == ["0-shot", "1-shot", "5-shot"]
    assert swept.report.protocol.shots == [0, 1, 5]
    first = swept.rows[0].result.rows
    assert first is not None
    for row, shots in zip(swept.rows, (0, 1, 5), strict=True):
        rows = row.result.rows
        assert rows is not None
        assert np.array_equal(rows.image, first.image)
        assert np.array_equal(rows.label, first.label)
        # each row is what that number of shots gives alone
        alone = score(checkpoint, images, replace(EPISODES, shots=shots), "fgsm").rows[0].result
        assert alone.clean == row.result.clean
        assert alone.worst == row.result.worst
    assert len({row.result.clean.accuracy for row in swept.rows}) > 1


def test_blending_changes_few_shot_rows_and_not_zero_shot_ones(checkpoint: Classifier, images: ImageSet) -> None:
    plain, blended = (score(checkpoint, images, replace(EPISODES, blend=blend), "fgsm", shots=(0, 1)) for blend in (0.0, 2.0))
    assert plain.rows[0].result.clean == blended.rows[0].result.clean
    assert plain.rows[1].result.clean != blended.rows[1].result.clean
    assert blended.report.protocol.blend == 2.0
    # with all the weight on the name, images no longer count
    heavy = score(checkpoint, images, replace(EPISODES, blend=1e7, shots=1)).rows[0].result
    assert heavy.clean == score(checkpoint, images, EPISODES).rows[0].result.clean


def test_raw_support_embeddings_are_recorded(checkpoint: Classifier, images: ImageSet) -> None:
    raw = replace(EPISODES, blend=2.0, shots=2, support_embeddings="raw")
    plain, found = (score(checkpoint, images, one, "fgsm") for one in (replace(raw, support_embeddings="unit"), raw))
    assert found.report.protocol.support_embeddings == "raw"
    assert plain.report.protocol.support_embeddings is None
    assert plain.rows[0].result.clean != found.rows[0].result.clean


def test_numbers_that_fit_no_group_are_refused_before_anything_is_scored(checkpoint: Classifier, images: ImageSet) -> None:
    shown: list[str] = []
    for protocol, shots, text in (
        (EPISODES, (0, 1, 10), "class 'ant' has 12 images, an episode needs 10 shots"),
        (replace(EPISODES, queries=13), (), "class 'ant' has 12 images, an episode needs 13 queries"),
        (EPISODES, (0, -1), "--shots -1 is too few"),
    ):
        with pytest.raises(UsageError, match=text):
            score(checkpoint, images, protocol, shots=shots, progress=lambda *_: shown.append("scored"))
    assert shown == []
    with pytest.raises(UsageError, match="--blend is -1; choose at least 0"):
        Protocol("episodes", blend=-1)


def test_episodes_that_are_all_alike_are_said_to_be(checkpoint: Classifier, images: ImageSet) -> None:
    # all classes with all their images in every episode
    alone = score(checkpoint, images, replace(EPISODES, ways=len(images.classes), queries=12)).report
    assert ALIKE_NOTE in alone.notes
    assert alone.results[0].clean.low < 1
    assert ALIKE_NOTE not in score(checkpoint, images, EPISODES).report.notes


def test_clean_images_are_embedded_once_for_all_numbers_of_shots(
    checkpoint: Classifier, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.evaluation.evaluate.require_same_passes", lambda *_: None)  # its passes do not count
    passed: list[int] = []
    hook = checkpoint.embedding.register_forward_pre_hook(lambda _, given: passed.append(len(given[0])))
    try:
        swept = score(checkpoint, images, EPISODES, shots=(0, 1, 5, 2))
    finally:
        hook.remove()
    used = [np.union1d(row.result.rows.image, row.result.rows.support) for row in swept.rows if row.result.rows is not None]
    assert len(used) == 4
    padding = 16 * len(passed)  # small batches are filled up
    assert sum(passed) <= len(images) + padding < sum(map(len, used))


def test_seen_and_novel_together(checkpoint: Classifier, images: ImageSet) -> None:
    found = score(checkpoint, images, Protocol("gzsl"), "fgsm", "margin-pgd-2")
    (row,) = found.report.results
    assert (row.group, row.protocol, row.classes, row.ways) == ("seen+novel", "gzsl", 4, 4)
    gzsl = row.gzsl
    assert gzsl is not None
    assert (gzsl.seen_classes, gzsl.novel_classes) == (2, 2)
    assert set(gzsl.attacks) == {"fgsm", "margin-pgd-2"}
    for part in (gzsl.clean, *gzsl.attacks.values(), gzsl.worst):
        seen, novel = part.S.accuracy, part.U.accuracy
        assert part.H.accuracy == pytest.approx(2 * seen * novel / (seen + novel) if seen + novel else 0)
    notes = found.report.notes
    assert any("the attacks were run at bias 0" in note and "upper bounds" in note for note in notes)
    assert "seen+novel: the 1 validation classes are not candidates" in notes
    assert not any("held-out" in note for note in notes)
    # as many images a class: the plain share is the mean over classes
    both = (gzsl.clean.S.accuracy + gzsl.clean.U.accuracy) / 2
    assert row.clean.accuracy == pytest.approx(both)


def test_gzsl_on_the_training_images_is_noted(checkpoint: Classifier, images: ImageSet) -> None:
    origin = replace(checkpoint.origin, images={"trained": np.unique(images.hashes())})
    trained = Classifier(checkpoint.embedding, checkpoint.anchor_set, logit_scale=2, image_size=16, origin=origin)
    notes = score(trained, images, Protocol("gzsl")).report.notes
    assert any(
        "24 of 24 evaluated images of seen classes were trained on: S is not on held-out images" in note for note in notes
    )
    assert not any("upper bound" in note for note in notes)  # nothing was attacked


def test_a_quick_look_is_said_and_the_same_whatever_else_is_asked(checkpoint: Classifier, images: ImageSet) -> None:
    sample = Sample(per_class=4, seed=3)
    found = score(checkpoint, images, Protocol(), "fgsm", sample=sample)
    report = found.report
    assert report.to_record()["sample"] == {"max_images": None, "max_per_class": 4, "seed": 3, "images": 20, "of": 60}
    assert "a subset: 20 of 60 images, sampled with seed 3" in report.notes
    assert report.results[0].images == 20
    other = score(checkpoint, images, Protocol("gzsl"), seed=9, sample=sample).report
    assert other.data.sha256 == report.data.sha256
    whole = score(checkpoint, images, Protocol(), "fgsm").report
    assert whole.sample is None
    assert whole.data.sha256 != report.data.sha256
    with pytest.raises(UsageError, match="class 'ant' has 4 images, an episode needs 2 shots"):
        score(checkpoint, images, replace(EPISODES, shots=2), sample=sample)


def test_gzsl_of_a_group_that_has_not_both_sides_is_refused() -> None:
    pictures, labels = coloured([(200, 0, 0), (0, 200, 0), (0, 0, 200)]), torch.arange(3)
    with pytest.raises(InputError, match="gzsl needs seen classes, then novel ones"):
        evaluate(Channels(), Group(("r", "g", "b"), torch.eye(3), pictures, labels, 3), Protocol("gzsl"))
    with pytest.raises(InputError, match="class 'b' has no image, and gzsl is a mean over classes"):
        evaluate(Channels(), Group(("r", "g", "b"), torch.eye(3), pictures[:2], labels[:2], 1), Protocol("gzsl"))


@pytest.mark.parametrize(("source", "noted"), [("random", False), ("features", True)])
def test_classes_named_later_are_said_and_what_cannot_be_known_of_them(
    checkpoint: Classifier, images: ImageSet, source: str, noted: bool
) -> None:
    own = replace(checkpoint.anchor_set, origin={"source": source})
    later = replace(own, groups=ClassGroups.from_counts(5, None))  # as `laat anchors` makes them: all seen
    given = Classifier(checkpoint.embedding, own, image_size=16, origin=checkpoint.origin).over(later)
    notes = score(given, images, Protocol()).report.notes
    assert notes[0].startswith("5 classes named after training; trained classes are recognized by name")
    assert ("imported features of an unknown encoder" in notes[0]) == noted
    # by their names, not by the groups of the file
    assert "all: 2 of 5 classes were trained on" in notes
    assert "all: 1 of 5 classes were used to select the epoch" in notes
