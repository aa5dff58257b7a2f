from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from stages.classes import ClassGroups
from stages.data.image_set import ImageSet
from stages.errors import InputError
from stages.models.classifier import Classifier, predict
from stages.training.selection import HELD_OUT, MAX_IMAGES, Score, Selection, images_per_class, plan_selection
from stages.training.settings import TrainSettings
from stages.training.task import Task
from stages.world import World
from tests.stages.training.synthetic import NAMES, made_up_anchors, made_up_images, quick, small_model


def keys(images: ImageSet) -> set[bytes]:
    """What tells an image from all others."""
    return {image.numpy().tobytes() for image in images.images}


def test_held_out_images_are_not_trained_on() -> None:
    images = made_up_images(per_class=40)
    training, selection = plan_selection(images, made_up_anchors(), seed=0)
    assert selection.source == "held-out images of the seen classes"
    assert keys(training).isdisjoint(keys(selection.images))
    assert keys(training) | keys(selection.images) == keys(images)
    assert selection.images.counts() == [8] * 6  # a fifth of 40, as 5 % would be 12 images in all
    assert training.counts() == [32] * 6


def test_the_draw_follows_from_the_seed() -> None:
    images = made_up_images(per_class=40)
    one, again, other = (plan_selection(images, made_up_anchors(), seed=seed)[1] for seed in (1, 1, 2))
    assert one.images.sha256() == again.images.sha256()
    assert one.images.sha256() != other.images.sha256()


def test_validation_classes_judge_where_there_are_any() -> None:
    images, anchors = made_up_images(), made_up_anchors(seen=3, val=2)
    training, selection = plan_selection(images, anchors, seed=0)
    assert selection.source == "validation classes"
    assert training.classes == NAMES[:3]
    assert selection.images.classes == NAMES[3:5]
    assert len(selection.images) == 16
    assert selection.held_out is not None
    assert selection.held_out.classes == NAMES[:3]
    assert (len(training), selection.held_out.counts()) == (21, [1] * 3)  # a fifth of 8
    assert keys(training).isdisjoint(keys(selection.held_out))
    assert keys(training) | keys(selection.held_out) | keys(selection.images) == keys(images.take(range(40)))
    torch.testing.assert_close(selection.anchors, torch.from_numpy(anchors.vectors[3:5]))


def test_no_images_of_seen_classes_are_held_out_where_no_bias_is_wanted() -> None:
    training, selection = plan_selection(made_up_images(), made_up_anchors(seen=3, val=2), seed=0, seen_bias=False)
    assert (len(training), selection.held_out) == (24, None)
    found = selection.calibration(small_model(), made_up_anchors(seen=3, val=2), quick())
    assert found is not None
    assert (found.bias, found.no_bias) == (None, "no images of the seen classes were held out")


def test_without_validation_classes_the_temperature_is_of_held_out_images_and_there_is_no_bias() -> None:
    _, selection = plan_selection(made_up_images(per_class=40), made_up_anchors(), seed=0)
    found = selection.calibration(small_model(), made_up_anchors(), quick())
    assert found is not None
    assert (found.source, found.images, found.classes) == ("held-out images of the seen classes", 48, 6)
    assert (found.bias, found.no_bias) == (None, "there are no validation classes")


def test_a_single_validation_class_calibrates_nothing() -> None:
    _, selection = plan_selection(made_up_images(), made_up_anchors(seen=3, val=1), seed=0)
    assert selection.calibration(small_model(), made_up_anchors(seen=3, val=1), quick()) is None


def test_novel_classes_are_never_looked_at() -> None:
    images = made_up_images()
    novel = keys(images.restricted_to(NAMES[4:], names_from="the test"))
    for anchors in (made_up_anchors(seen=4), made_up_anchors(seen=3, val=1)):
        training, selection = plan_selection(images, anchors, seed=0)
        held_out = set() if selection.held_out is None else keys(selection.held_out)
        assert novel.isdisjoint(keys(training) | keys(selection.images) | held_out)


def test_labels_and_anchors_keep_together_when_groups_are_mixed() -> None:
    anchors = replace(made_up_anchors(), groups=ClassGroups((1, 4), (0, 5), (2, 3)))
    images = made_up_images(tuple(reversed(NAMES)))
    training, selection = plan_selection(images, anchors, seed=0, seen_bias=False)
    assert training.classes == (NAMES[1], NAMES[4])
    for found, names in ((training, (NAMES[1], NAMES[4])), (selection.images, (NAMES[0], NAMES[5]))):
        for label, name in enumerate(names):
            expected = keys(images.restricted_to((name,), names_from="the test"))
            assert keys(found.take((found.labels == label).nonzero()[:, 0])) == expected
    torch.testing.assert_close(selection.anchors, torch.from_numpy(anchors.vectors[[0, 5]]))


def test_small_and_uneven_classes() -> None:
    images = made_up_images(NAMES[:3], per_class=6)
    uneven = images.take([0, *range(6, 18)])  # one red, six of each other
    training, selection = plan_selection(uneven, made_up_anchors(NAMES[:3]), seed=0)
    assert selection.images.counts() == [0, 1, 1]
    assert training.counts() == [1, 5, 5]


@pytest.mark.parametrize(
    ("counts", "share", "each"),
    [
        # 5 % of the smallest class make 100 images or more: as it always was
        ([500] * 64, HELD_OUT, [15] * 64),
        ([200] * 48, HELD_OUT, [10] * 48),
        ([400, 500, 600, 700, 800], HELD_OUT, [20] * 5),
        ([30] * 2000, HELD_OUT, [1] * 2000),
        # fewer: as many of each class as make 100, but no more than a fifth of it
        ([100] * 8, HELD_OUT, [13] * 8),
        ([9] + [1000] * 7, HELD_OUT, [1] + [13] * 7),
        ([20] * 8, HELD_OUT, [4] * 8),
        ([1, 2, 4, 0, 10], HELD_OUT, [0, 1, 1, 0, 2]),
        # classes that are not trained on give what they have
        ([600] * 16, 1.0, [62] * 16),
        ([2] + [600] * 15, 1.0, [2] + [7] * 15),
        ([3] * 4, 1.0, [3] * 4),
        ([0, 0], HELD_OUT, [0, 0]),
    ],
)
def test_how_many_images_select_the_epoch(counts: list[int], share: float, each: list[int]) -> None:
    assert images_per_class(torch.tensor(counts), share) == each


def test_few_images_are_told() -> None:
    for per_class, few in ((8, True), (100, False)):
        _, selection = plan_selection(made_up_images(per_class=per_class), made_up_anchors(), seed=0)
        note, warning = selection.describe()
        assert f"is selected on {len(selection.images)} images: held-out images of the seen classes" in note
        assert ("only 6 images select the best epoch" in warning) == few == bool(warning)


def test_a_single_validation_class_is_warned_of() -> None:
    images = made_up_images(per_class=200)
    one = replace(
        plan_selection(images, made_up_anchors(), seed=0)[1],
        images=images.restricted_to([images.classes[0]], names_from="test"),
    )
    assert "a single validation class is always right" in one.describe()[1]


def test_runs_that_held_out_other_images_are_told_apart() -> None:
    inputs = {"inputs": {}, "init": None, "resize": None, "model": None, "backbone": None, "objective": None}
    for per_class, steps, told in ((100, 3, True), (400, 3, False), (400, 2, True)):  # two steps were scored by two
        task = Task(made_up_anchors(), made_up_images(per_class=per_class), settings=quick(steps=steps), **inputs)
        assert ("selection" in task.identity) == told


def test_one_image_a_class_is_refused() -> None:
    with pytest.raises(InputError, match="one training image per class"):
        plan_selection(made_up_images(per_class=1), made_up_anchors(), seed=0)
    # but enough where validation classes judge
    training, selection = plan_selection(made_up_images(per_class=1), made_up_anchors(seen=4, val=2), seed=0)
    assert (len(training), len(selection.images)) == (4, 2)


def test_large_sets_are_judged_on_about_a_thousand_images() -> None:
    pixels = torch.zeros(6 * 700, 3, 1, 1, dtype=torch.uint8)
    images = made_up_images()
    large = ImageSet(pixels, torch.arange(6).repeat(700), NAMES, images.provenance)
    _, selection = plan_selection(large, made_up_anchors(seen=3, val=3), seed=0)
    assert len(selection.images) <= MAX_IMAGES
    assert selection.images.counts() == [MAX_IMAGES // 3] * 3


def test_scores_are_ordered_by_robust_then_clean_accuracy() -> None:
    scores = [Score(0.9, 0.1), Score(0.5, 0.3), Score(0.6, 0.3), Score(0.4, 0.4)]
    assert sorted(scores, key=lambda score: score.key) == scores
    assert Score(0.9, None).key > Score(0.8, None).key


def test_the_score_counts_right_answers() -> None:
    images = made_up_images()
    _, selection = plan_selection(images, made_up_anchors(seen=2, val=4), seed=0)
    model = small_model()
    with torch.no_grad():
        embeddings = model.eval()(selection.images.images.float() / 255)
        expected = ((embeddings @ selection.anchors.T).argmax(1) == selection.images.labels).float().mean()
    model.train()
    score = selection.score(model, quick(), "cpu")
    assert score.clean == pytest.approx(float(expected))
    assert score.robust is not None
    assert score.robust <= score.clean
    assert model.training
    whole = selection.score(model, quick(eps=Fraction(1, 2), steps=10), "cpu")
    assert whole.clean == score.clean
    assert whole.robust == 0


def test_scoring_changes_nothing() -> None:
    _, selection = plan_selection(made_up_images(), made_up_anchors(), seed=0)
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scores = [selection.score(model, quick(), "cpu") for _ in range(2)]
    assert scores[0] == scores[1]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_a_clean_run_is_judged_without_an_attack() -> None:
    _, selection = plan_selection(made_up_images(), made_up_anchors(), seed=0)
    score = selection.score(small_model(), quick(objective="clean", eps=Fraction(0)), "cpu", attack=False)
    assert score.robust is None
    assert score.clean == selection.score(small_model(), quick(), "cpu").clean


def test_predictions_do_not_hang_on_the_batch_size() -> None:
    images, anchors = made_up_images(), torch.from_numpy(made_up_anchors().vectors)
    classifier = Classifier(small_model(), anchors)
    found = [predict(classifier, images.images, batch_size=size) for size in (1, 7, 100)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("attack", [True, False])
def test_processes_share_the_work_and_come_to_the_same_score(attack: bool) -> None:
    _, selection = plan_selection(made_up_images(per_class=40), made_up_anchors(seen=2, val=4), seed=0)
    settings = quick(batch_size=64, eps=Fraction(1, 255), tau=0.1)
    alone = selection.score(small_model(), settings, "cpu", attack=attack)
    for size in (2, 3, 200):  # with 200 some have nothing to do
        counts = torch.zeros(2, dtype=torch.int64)
        for rank in range(size):
            counts += shared_counts(selection, settings, attack, World(rank, size))
        assert counts.tolist() == [alone.clean * 160, (alone.robust or 0) * 160]
    assert alone.robust is None or 0 < alone.robust < alone.clean


def shared_counts(selection: Selection, settings: TrainSettings, attack: bool, world: World) -> Tensor:
    """What one process adds to the sum."""
    added = []

    class Watched(World):
        def sum(self, tensors: Sequence[Tensor]) -> None:
            added.extend(tensor.clone() for tensor in tensors)

    selection.score(small_model(), settings, "cpu", attack=attack, world=Watched(world.rank, world.size))
    (counts,) = added
    return counts


@pytest.mark.parametrize("attack", [True, False])
def test_scoring_can_be_given_up(attack: bool) -> None:
    _, selection = plan_selection(made_up_images(per_class=40), made_up_anchors(seen=2, val=4), seed=0)
    asked = []

    def stop() -> None:
        asked.append(None)
        if len(asked) == 3:
            raise KeyboardInterrupt

    model = small_model()
    with pytest.raises(KeyboardInterrupt):
        selection.score(model, quick(), "cpu", attack=attack, stop=stop)
    assert len(asked) == 3
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
