"""Adversarial querying, and the linear classifier of the seen classes: steps, runs, epochs scored by episodes, bad input."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.data.episode_shape import HEADS, EpisodeShape
from stages.errors import InputError, UsageError
from stages.models import heads
from stages.models.classifier import Classifier
from stages.models.few_shot import few_shot
from stages.training.few_shot_selection import FewShotSelection, plan_few_shot_selection
from stages.training.loop import Trainer
from stages.training.objectives import AdversarialQuerying, LinearClassifier
from stages.training.settings import TrainSettings
from stages.training.task import Task
from stages.world import World
from tests.stages.training.plain_few_shot import PlainFewShot
from tests.stages.training.synthetic import made_up_anchors, made_up_images, quick, small_model
from tests.stages.training.test_loop import BATCH_NORM_FREE, larger_trainer
from tests.stages.training.test_run import loaded, trained

STEPS = 10
AQ: dict[str, Any] = {"ways": 3, "shots": 2, "queries": 3, "episodes_per_step": 2, "batch_size": 128, "objective": "aq"}
KINDS: dict[str, dict[str, Any]] = {
    "protonet": {**AQ, "head": "protonet"},
    "r2d2": {**AQ, "head": "r2d2"},
    "linear": {"objective": "at-linear"},
}
ANCHORS = torch.from_numpy(made_up_anchors().vectors)


def trainer(name: str, dtype: torch.dtype, **changes: Any) -> Trainer:
    settings = quick(**{"epochs": 10, "lr": 0.02, "augment": False, **KINDS[name], **changes})
    return Trainer(small_model().to(dtype), ANCHORS.to(dtype), made_up_images(), settings, "cpu")


def plain(ours: Trainer) -> PlainFewShot:
    return PlainFewShot(ours.model, ours.scored_head, made_up_images(), ours.settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", KINDS)
def test_in_float64_training_loses_what_the_obvious_program_loses(name: str) -> None:
    ours = trainer(name, torch.float64)
    expected = list(plain(ours).losses(STEPS))
    found: list[float] = []
    while len(found) < STEPS:
        found += [float(done.loss) for done in ours.steps()]
    assert found[:STEPS] == pytest.approx(expected, abs=1e-9)
    assert max(found) - min(found) > 1e-3


@pytest.mark.parametrize("name", KINDS)
def test_in_float32_each_step_loses_what_the_obvious_program_loses(name: str) -> None:
    ours, found, expected = trainer(name, torch.float32), [], []
    while len(found) < STEPS:
        for _ in range(ours.steps_per_epoch):
            expected.append(float(plain(ours).loss(ours.step).detach()))
            found.append(float(next(iter(ours.steps())).loss))
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_support_stays_clean_and_the_attack_does_not_move_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[torch.Tensor] = []
    outer = AdversarialQuerying.outer

    def watched(self: AdversarialQuerying, embed: Any, x: torch.Tensor, x_adv: torch.Tensor, labels: torch.Tensor) -> Any:
        shown.append((x_adv - x).abs().flatten(1).amax(1).view(2, 3, 5))
        return outer(self, embed, x, x_adv, labels)

    monkeypatch.setattr(AdversarialQuerying, "outer", watched)
    next(iter(trainer("r2d2", torch.float32).steps()))
    assert float(shown[0][:, :, :2].max()) == 0
    assert float(shown[0][:, :, 2:].min()) > 0.5 * 8 / 255


def test_an_epoch_covers_the_images_once_or_has_the_given_steps() -> None:
    assert trainer("protonet", torch.float32).steps_per_epoch == 2  # 48 images in batches of 2 * 3 * 5
    longer = trainer("protonet", torch.float32, steps_per_epoch=3)
    assert [done.number for done in longer.steps()] == [1, 2, 3]
    assert longer.images_done == 90


@pytest.mark.parametrize("name", KINDS)
def test_interrupted_and_resumed_it_ends_with_the_same_bytes(name: str, tmp_path: Path) -> None:
    settings = quick(**KINDS[name], ema=0.9, awp=0.005)

    def stop(_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    trained(tmp_path / "whole", settings)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts", settings, on_epoch=stop, save_every=0)
    trained(tmp_path / "parts", settings, resume=True)
    for file in ("model.st", "last.st", "metrics.jsonl"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()


def test_the_checkpoint_has_the_learnt_head_and_says_that_the_projection_is_not_trained(tmp_path: Path) -> None:
    trained(tmp_path, quick(**KINDS["r2d2"]))
    found = loaded(tmp_path / "model.st")
    assert set(found.origin.head) == {"log_ridge", "scale", "shift"}
    assert not found.origin.anchored
    assert found.calibration is None
    recorded = found.origin.training
    assert {name: recorded["settings"][name] for name in ("head", "ways", "shots", "queries", "episodes_per_step")} == {
        **{name: AQ[name] for name in ("ways", "shots", "queries", "episodes_per_step")},
        "head": "r2d2",
    }
    assert recorded["settings"]["batch_size"] == 30
    assert recorded["selection"]["head"] == "r2d2"
    assert few_shot(found, "r2d2").embedding.head.scale == float(found.origin.head["scale"])  # type: ignore[union-attr]


class Mine(AdversarialQuerying):
    """An episodic objective of the user's own."""


def test_episodes_are_recorded_of_any_episodic_objective() -> None:
    expected = {"batch_size": 320, "head": "protonet", "ways": 5, "shots": 1, "queries": 15, "episodes_per_step": 4}
    named = quick(objective=f"{__name__}:Mine")
    for settings, objective in ((named, None), (quick(), Mine), (quick(), Mine(ANCHORS, 1.0))):
        task = Task(made_up_anchors(), made_up_images(), settings, {}, None, None, None, None, objective)
        assert expected.items() <= task.identity["settings"].items()


@pytest.mark.parametrize("name", KINDS)
def test_without_batch_norm_micro_batches_of_whole_episodes_give_the_gradient_of_the_whole_batch(name: str) -> None:
    few = {"shots": 1, "queries": 2} if name in HEADS else {}
    whole, split = (larger_trainer(BATCH_NORM_FREE, **{**KINDS[name], **few, "accumulate": count}) for count in (1, 2))
    for one, other in zip(whole.steps(), split.steps(), strict=True):
        assert float(one.loss) == pytest.approx(float(other.loss), abs=1e-9)
    for value, other in zip(whole.model.parameters(), split.model.parameters(), strict=True):
        torch.testing.assert_close(value, other, rtol=0, atol=1e-8)


def selection(anchors: Any, images: Any = None, objective: Any = AdversarialQuerying, **changes: Any) -> FewShotSelection:
    return plan_few_shot_selection(images or made_up_images(), anchors, quick(**{**AQ, **changes}), objective)[1]


def test_epochs_are_scored_on_episodes_of_validation_classes() -> None:
    found = selection(made_up_anchors(seen=3, val=3))
    assert found.describe() == ("the best epoch is selected on 66 episodes, 3-way 2-shot: validation classes", "")
    assert (found.judgements, found.shape) == (990, EpisodeShape(3, 2, 5))
    assert found.images.classes == made_up_anchors().classes[3:]
    of_linear = selection(made_up_anchors(seen=3, val=3), objective=LinearClassifier)
    assert (of_linear.few_shot_head, of_linear.shape) == ("protonet", EpisodeShape(3, 5, 3))


def test_without_validation_classes_images_of_the_seen_classes_are_held_out() -> None:
    images = made_up_images(per_class=20)
    training, found = plan_few_shot_selection(images, made_up_anchors(), quick(**AQ), AdversarialQuerying)
    assert (len(training), len(found.images), found.shape) == (120 - 24, 24, EpisodeShape(3, 2, 2))
    assert found.source == "held-out images of the seen classes"


def test_the_score_is_that_of_each_episode_by_itself_and_of_any_number_of_processes() -> None:
    found, model = selection(made_up_anchors(seen=3, val=3), shots=1), small_model().eval()
    settings = quick(**AQ)
    score = found.score(model, settings, "cpu")
    shares = [found.score(model, settings, "cpu", world=World(rank, 2)) for rank in range(2)]
    assert sum(one.clean for one in shares) == pytest.approx(score.clean)
    assert sum(one.robust or 0 for one in shares) == pytest.approx(score.robust)
    right = 0
    for classes, support, query in zip(*vars(found.episodes).values(), strict=True):
        with torch.no_grad():
            means = [model.features(found.images.images[own].float() / 255).mean(0) for own in support]
            for way in range(len(classes)):
                shown = model.features(found.images.images[query[way]].float() / 255)
                far = torch.stack([(shown - mean).square().sum(1) for mean in means], 1)
                right += int((far.argmin(1) == way).sum())
    assert score.clean == right / found.judgements
    assert score.robust is not None
    assert score.robust < score.clean


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(UsageError, match="--ways 7 is more than the 6 classes to choose from"):
        trainer("protonet", torch.float32, ways=7)
    with pytest.raises(
        UsageError, match=r"class 'red' has 8 images, an episode needs 2 shots \+ 7 queries; also too small: 'g"
    ):
        trainer("protonet", torch.float32, queries=7)
    with pytest.raises(UsageError, match="--ways is for batches of episodes, and --objective laat has none"):
        quick(ways=5)
    with pytest.raises(UsageError, match=r"--steps-per-epoch is for .* leave it out, or use --objective aq$"):
        quick(steps_per_epoch=5)
    with pytest.raises(UsageError, match="--batch-size 64 has no meaning with --objective aq"):
        TrainSettings(objective="aq", batch_size=64)
    with pytest.raises(UsageError, match="--accumulate 5 splits a batch of 4 episodes"):
        TrainSettings(objective="aq", accumulate=5)
    with pytest.raises(UsageError, match="unknown --head 'svm'"):
        TrainSettings(objective="aq", head="svm")
    with pytest.raises(InputError, match="a single validation class"):
        selection(made_up_anchors(seen=5, val=1))
    with pytest.raises(
        InputError,
        match=r"class 'red' has 8 images, of which a fifth, 1, can be held out: .* need 2 shots .*; give fewer shots, ",
    ):
        selection(made_up_anchors())
    with pytest.raises(InputError, match=r"need 5 shots and a query; give more images of that class"):  # without --shots
        selection(made_up_anchors(), objective=LinearClassifier)
    with pytest.raises(InputError, match="the model has no head r2d2"):
        few_shot(Classifier(small_model(), ANCHORS), "r2d2")


def test_the_names_of_heads_are_those_of_the_heads() -> None:
    assert (*heads.HEADS,) == HEADS
