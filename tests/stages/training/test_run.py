from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.devices import bf16_units
from stages.errors import ComputeError
from stages.files import artifacts
from stages.models.checkpoint import read_checkpoint
from stages.models.classifier import Classifier
from stages.training.options import RunOptions
from stages.training.reports import EpochReport, RunResult, collapse
from stages.training.run import train_run
from stages.training.selection import Score, Selection, plan_selection
from stages.training.settings import TrainSettings
from stages.training.sums import Figures
from tests.stages.training.synthetic import NAMES, made_up_anchors, made_up_images, quick

INPUTS = {"anchors": {"kind": "anchors", "sha256": "a" * 64, "inputs": {}}}


def trained(folder: Path, settings: TrainSettings | None = None, **others: Any) -> RunResult:
    result = attempted(folder, settings, **others)
    assert result is not None
    return result


def attempted(folder: Path, settings: TrainSettings | None = None, **others: Any) -> RunResult | None:
    """As `train_run`; what it does not know are fields of RunOptions."""
    anchors = others.pop("anchors", made_up_anchors(seen=4, val=2))
    images = others.pop("images", made_up_images())
    own = {name: others.pop(name) for name in ("resize", "init", "name", "objective") if name in others}
    inputs = others.pop("inputs", INPUTS)
    return train_run(anchors, images, settings or quick(), folder, inputs=inputs, **own, options=RunOptions(**others))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def loaded(path: Path) -> Classifier:
    return read_checkpoint(artifacts.read(path, "model"), f"'{path}'")


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def scored(monkeypatch: pytest.MonkeyPatch, *scores: Score) -> list[torch.Tensor]:
    """Epochs get these scores; returns the weights that were there when each was given."""
    seen: list[torch.Tensor] = []
    left = iter(scores)

    def score(self: Selection, model: torch.nn.Module, *_: Any, **__: Any) -> Score:
        seen.append(model.projection.weight.detach().clone())  # type: ignore[union-attr,operator]
        return next(left)

    monkeypatch.setattr(Selection, "score", score)
    return seen


def test_the_best_epoch_and_the_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the third ties with the second: the later stays
    scores = [Score(0.9, 0.2), Score(0.5, 0.4), Score(0.5, 0.4), Score(0.8, 0.3)]
    weights = scored(monkeypatch, *scores)
    result = trained(tmp_path / "run", quick(epochs=4))
    assert names(tmp_path / "run") == ["last.st", "metrics.jsonl", "model.st"]
    assert (result.best_epoch, result.score) == (3, scores[2])
    best, last = loaded(tmp_path / "run" / "model.st"), loaded(tmp_path / "run" / "last.st")
    assert torch.equal(best.embedding.projection.weight, weights[2])
    assert torch.equal(last.embedding.projection.weight, weights[3])
    assert not torch.equal(weights[1], weights[2])
    assert (best.origin.training["selection"]["epoch"], last.origin.training["selection"]["epoch"]) == (3, 4)
    assert result.sha256 == best.origin.sha256


def test_the_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored(monkeypatch, Score(0.9, 0.2), Score(0.5, 0.4), Score(0.8, 0.3))
    told: list[EpochReport] = []
    trained(tmp_path, quick(epochs=3), on_epoch=told.append)
    found = rows(tmp_path)
    assert [(row["epoch"], row["selection_clean"], row["selection_robust"], row["best_so_far"]) for row in found] == [
        (1, 0.9, 0.2, True),
        (2, 0.5, 0.4, True),
        (3, 0.8, 0.3, False),
    ]
    for row, report in zip(found, told, strict=True):
        assert (row["loss"], row["train_clean"], row["train_robust"]) == (
            report.figures.loss,
            report.figures.clean_accuracy,
            report.figures.robust_accuracy,
        )


# images that the score counts, robust accuracies on them and in training, earlier epochs first
@pytest.mark.parametrize(
    ("images", "scores", "training", "found"),
    [
        (1000, (0.18, 0.02), (0.30, 0.55), True),
        (1000, (0.18, 0.13, 0.02), (0.30, 0.35, 0.40), True),  # the best epoch is compared with
        (1000, (0.18, 0.02), (0.30, 0.20), False),  # diverged: the inner attack sees it too
        (1000, (0.18, 0.10), (0.30, 0.55), False),
        (100, (0.10, 0.04), (0.30, 0.55), False),  # within chance
        (100, (0.0, 0.0), (0.30, 0.55), False),
        (100, (0.3,), (0.30,), False),
        (100, (None, None), (None, None), False),
    ],
)
def test_catastrophic_overfitting(
    images: int, scores: tuple[float | None, ...], training: tuple[float | None, ...], found: bool
) -> None:
    epochs = [(Figures(1.0, None, train), Score(0.5, robust)) for train, robust in zip(training, scores, strict=True)]
    before = [EpochReport(at, *one, best=True) for at, one in enumerate(epochs[:-1], 1)]
    said = collapse(before, *epochs[-1], images)
    assert bool(said) == found
    if found:
        assert "since epoch 1: robust accuracy from 18.0 to 2.0 % on the selection images and from 30.0 to" in said
        assert "use --inner pgd with more --steps" in said  # n-fgsm takes a single step


def test_catastrophic_overfitting_is_told_once_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored(monkeypatch, *(Score(0.9, robust) for robust in (0.9, 0.1, 0.1)))
    told: list[str] = []
    trained(tmp_path, quick(epochs=3, lr=0.5, augment=False), on_warning=told.append)
    assert [row["collapsed"] for row in rows(tmp_path)] == [False, True, True]
    assert len([text for text in told if text.startswith("catastrophic overfitting since epoch 1")]) == 1


def test_a_run_that_is_scored_under_its_inner_attack_has_no_catastrophic_overfitting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, *(Score(0.9, robust) for robust in (0.9, 0.1)))
    trained(tmp_path, quick(epochs=2, lr=0.5, augment=False, steps=3))
    assert [row["collapsed"] for row in rows(tmp_path)] == [False, False]


def test_a_clean_run_leaves_the_robust_figures_empty(tmp_path: Path) -> None:
    trained(tmp_path, quick(objective="clean"))
    assert [(row["train_robust"], row["selection_robust"]) for row in rows(tmp_path)] == [(None, None)] * 2


def test_what_the_checkpoint_records(tmp_path: Path) -> None:
    images, settings = made_up_images(), quick(seed=3)
    trained(tmp_path, settings, images=images, resize=16)
    found = loaded(tmp_path / "model.st")
    assert found.origin.inputs == INPUTS
    here = settings.with_precision(has_bf16=False, bf16_units=bool(bf16_units("cpu")))
    assert found.origin.training["settings"] == here.to_record()
    assert found.origin.training["data"] == {**images.provenance.to_record(), "sha256": images.sha256()}
    assert (found.origin.training["images"], found.origin.training["resize"]) == (28, 16)  # one of each class is held out
    assert {use: len(own) for use, own in found.origin.images.items()} == {"trained": 28, "selected": 16, "calibrated": 4}
    selection = found.origin.training["selection"]
    assert (selection["source"], selection["images"], selection["classes"]) == ("validation classes", 16, 2)
    np.testing.assert_array_equal(found.anchor_set.vectors, made_up_anchors().vectors)
    # the normalisation is that of the training images, not of the validation classes or held-out images
    training, _ = plan_selection(images, made_up_anchors(seen=4, val=2), 3)
    mean, _ = training.mean_std()
    np.testing.assert_allclose(found.embedding.mean.flatten(), mean, rtol=1e-6)


def test_the_calibration_is_that_of_the_saved_weights(tmp_path: Path) -> None:
    images, anchors = made_up_images(), made_up_anchors(seen=4, val=2)
    trained(tmp_path, images=images)
    _, selection = plan_selection(images, anchors, 0)
    for name in ("model.st", "last.st"):
        found = loaded(tmp_path / name)
        assert found.calibration is not None
        assert found.calibration == selection.calibration(found.embedding, anchors, quick())
        assert (found.calibration.source, found.calibration.images) == ("validation classes", 16)


def test_a_constant_channel_is_trained_on_and_noted(tmp_path: Path) -> None:
    images = made_up_images()
    images.images[:, 1] = 90
    notes: list[str] = []
    result = trained(tmp_path, images=images, on_note=notes.append)
    assert np.isfinite(result.reports[-1].figures.loss)
    assert [note for note in notes if "the green channel of the training images is 90 of 255 everywhere" in note]
    np.testing.assert_allclose(loaded(tmp_path / "model.st").embedding.std.flatten()[1], 5 / 255, rtol=1e-6)


@pytest.mark.parametrize("objective", ["laat", "clean"])
def test_two_runs_write_the_same_bytes(objective: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        torch.rand(5)  # the global stream is elsewhere
        trained(tmp_path / name, quick(objective=objective))
    for file in ("model.st", "last.st", "metrics.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    for seed in (0, 1):
        trained(tmp_path / str(seed), quick(seed=seed))
    assert rows(tmp_path / "0")[0]["loss"] != rows(tmp_path / "1")[0]["loss"]


def test_no_path_of_the_machine_is_written(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    for path in (tmp_path / "run").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()


def test_test_data_and_novel_classes_do_not_reach_the_run(tmp_path: Path) -> None:
    anchors = made_up_anchors(seen=3, val=2)
    trained(tmp_path / "with", anchors=anchors)
    without = made_up_images().restricted_to(NAMES[:5], names_from="the test")
    trained(tmp_path / "without", anchors=anchors, images=without)
    assert rows(tmp_path / "with") == rows(tmp_path / "without")


def test_a_run_that_blows_up_leaves_the_last_good_state(tmp_path: Path) -> None:
    with pytest.raises(ComputeError, match="non-finite at step"):
        trained(tmp_path / "run", quick(objective="clean", lr=1e38, batch_size=4), save_every=0)
    for path in (tmp_path / "run").glob("*.st"):
        assert all(np.isfinite(value).all() for value in artifacts.read(path).tensors.values())


EVERYTHING = {"awp": 0.005, "ema": 0.9, "jitter": 0.4, "warm_up": 0.5, "clip_norm": 1.0, "accumulate": 2, "epochs": 3}
