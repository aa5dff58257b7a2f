from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages import artifacts
from stages.data.image_set import ImageSet
from stages.errors import ComputeError, InputError
from stages.models.checkpoint import Checkpoint
from stages.train import run as run_module
from stages.train.run import EpochReport, RunResult, finished_run, train_run
from stages.train.selection import Score, Selection
from stages.train.settings import TrainSettings
from tests.stages.train.synthetic import NAMES, made_up_anchors, made_up_images, quick

INPUTS = {"anchors": {"kind": "anchors", "sha256": "a" * 64, "inputs": {}}}


def trained(folder: Path, settings: TrainSettings | None = None, **others: Any) -> RunResult:
    anchors = others.pop("anchors", made_up_anchors(seen=4, val=2))
    images = others.pop("images", made_up_images())
    return train_run(anchors, images, settings or quick(), folder, inputs=INPUTS, **others)


def loaded(path: Path) -> Checkpoint:
    return Checkpoint.from_artifact(artifacts.read(path, "model"), f"'{path}'")


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def scored(monkeypatch: pytest.MonkeyPatch, *scores: Score) -> list[torch.Tensor]:
    """Epochs get these scores; returns the weights that were there when each was given."""
    seen: list[torch.Tensor] = []
    left = iter(scores)

    def score(self: Selection, model: torch.nn.Module, *_: Any) -> Score:
        seen.append(model.projection.weight.detach().clone())  # type: ignore[union-attr,operator]
        return next(left)

    monkeypatch.setattr(Selection, "score", score)
    return seen


def test_the_best_epoch_and_the_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the third ties with the second: the later stays
    scores = [Score(0.9, 0.2), Score(0.5, 0.4), Score(0.5, 0.4), Score(0.8, 0.3)]
    weights = scored(monkeypatch, *scores)
    result = trained(tmp_path / "run", quick(epochs=4))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["last.st", "metrics.jsonl", "model.st"]
    assert (result.best_epoch, result.score) == (3, scores[2])
    best, last = loaded(tmp_path / "run" / "model.st"), loaded(tmp_path / "run" / "last.st")
    assert torch.equal(best.model.projection.weight, weights[2])
    assert torch.equal(last.model.projection.weight, weights[3])
    assert not torch.equal(weights[1], weights[2])
    assert (best.training["selection"]["epoch"], last.training["selection"]["epoch"]) == (3, 4)
    assert result.sha256 == best.sha256


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


def test_a_clean_run_leaves_the_robust_figures_empty(tmp_path: Path) -> None:
    trained(tmp_path, quick(objective="clean"))
    assert [(row["train_robust"], row["selection_robust"]) for row in rows(tmp_path)] == [(None, None)] * 2


def test_what_the_checkpoint_records(tmp_path: Path) -> None:
    images, settings = made_up_images(), quick(seed=3)
    trained(tmp_path, settings, images=images, resize=16)
    found = loaded(tmp_path / "model.st")
    assert found.inputs == INPUTS
    assert found.training["settings"] == settings.to_record()
    assert found.training["data"] == {**images.provenance.to_record(), "sha256": images.sha256()}
    assert (found.training["images"], found.training["resize"]) == (32, 16)
    selection = found.training["selection"]
    assert (selection["source"], selection["images"], selection["classes"]) == ("validation classes", 16, 2)
    np.testing.assert_array_equal(found.anchors.vectors, made_up_anchors().vectors)
    # the normalisation is that of the training images, not of the validation classes
    mean, _ = images.restricted_to(NAMES[:4], names_from="the test").mean_std()
    np.testing.assert_allclose(found.model.mean.flatten(), mean, rtol=1e-6)


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


def test_a_failed_epoch_leaves_the_finished_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epoch = run_module.Trainer.epoch

    def fails_in_the_second(self: Any, number: int, report: Any = None) -> Any:
        if number == 2:
            raise ComputeError("the loss became non-finite in epoch 2", "lower --lr")
        return epoch(self, number, report)

    monkeypatch.setattr(run_module.Trainer, "epoch", fails_in_the_second)
    with pytest.raises(ComputeError, match="epoch 2"):
        trained(tmp_path)
    assert len(rows(tmp_path)) == 1
    assert loaded(tmp_path / "last.st").training["selection"]["epoch"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.st", "metrics.jsonl", "model.st"]


def test_a_run_that_blows_up_in_its_first_epoch_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ComputeError, match="non-finite in epoch 1"):
        trained(tmp_path / "run", quick(objective="clean", lr=1e38, batch_size=4))
    assert not (tmp_path / "run").exists()


def test_images_that_are_not_square_are_refused(tmp_path: Path) -> None:
    images = made_up_images()
    wide = ImageSet(images.images.repeat(1, 1, 1, 2), images.labels, images.classes, images.provenance)
    with pytest.raises(InputError, match="images are 32x16, expected square ones; add --resize 16"):
        trained(tmp_path, images=wide)


def test_classes_that_the_data_does_not_have(tmp_path: Path) -> None:
    anchors = replace(made_up_anchors(seen=4, val=2), classes=("purple", *NAMES[1:]))
    with pytest.raises(InputError, match="'purple'"):
        trained(tmp_path, anchors=anchors)


def test_a_finished_run_is_recognised(tmp_path: Path) -> None:
    images, settings = made_up_images(), quick()
    trained(tmp_path, settings, images=images)
    sha256 = INPUTS["anchors"]["sha256"]
    assert finished_run(tmp_path, str(sha256), images, settings)
    assert not finished_run(tmp_path, "b" * 64, images, settings)
    assert not finished_run(tmp_path, str(sha256), made_up_images(seed=1), settings)
    for other in (quick(epochs=3), quick(lr=0.04), quick(seed=1), quick(objective="at")):
        assert not finished_run(tmp_path, str(sha256), images, other)
    assert not finished_run(tmp_path / "none", str(sha256), images, settings)
    (tmp_path / "metrics.jsonl").write_text(json.dumps(rows(tmp_path)[0]) + "\n", encoding="utf-8")
    assert not finished_run(tmp_path, str(sha256), images, settings)


@pytest.mark.parametrize("broken", ["model.st", "last.st", "metrics.jsonl"])
def test_a_run_with_a_file_missing_is_not_finished(broken: str, tmp_path: Path) -> None:
    trained(tmp_path)
    (tmp_path / broken).unlink()
    assert not finished_run(tmp_path, "a" * 64, made_up_images(), quick())
