"""Runs of one setting are found by what their checkpoints record, and averaged over their seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.expanded import expand_anchors
from stages.errors import UsageError
from stages.files import artifacts
from stages.reports import curves
from stages.reports.curves import plot_mean_curves
from stages.reports.run_groups import curves_by_setting, setting_names
from tests.stages.reports.test_curves import lines, marks, run_folder
from tests.stages.reports.test_plots import anchors


def trained_folder(folder: Path, used: AnchorSet, seed: int, *, epochs: int = 5, robust: float = 0.4, **changes: Any) -> Path:
    """A run folder with metrics and the record of a checkpoint, without weights."""
    run_folder(folder, epochs=epochs, train_robust=robust)
    artifact = used.to_artifact()
    settings = {"objective": "cos", "tau": 1.0, "backbone": "conv4-8", "epochs": 5, "seed": seed, **changes}
    training = {"settings": settings, "data": {"source": "shapes", "sha256": "ab" * 32}, "images": 100}
    shape = {"backbone": "conv4-8", "width": used.vectors.shape[1], "image_size": 16}
    params = {**artifact.params, "architecture": shape, "training": training}
    artifacts.write(artifacts.Artifact("model", artifact.tensors, params), folder / "model.st")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two seeds with raw anchors, three with expanded ones."""
    moved = expand_anchors(anchors())[0]
    raw = [trained_folder(tmp_path / f"raw-{seed}", anchors(), seed, robust=0.2 + 0.2 * seed) for seed in range(2)]
    return raw + [trained_folder(tmp_path / f"expanded-{seed}", moved, seed) for seed in range(3)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    figures: list[Any] = []
    monkeypatch.setattr(curves, "save_figure", lambda figure, size, path: figures.append(figure))
    return figures


def test_runs_that_differ_in_their_seed_alone_are_one_setting(runs: list[Path]) -> None:
    found, notes = curves_by_setting([runs[2], runs[0], *runs[3:], runs[1]])
    assert [(one.name, len(one.runs)) for one in found] == [("cos, expanded anchors", 3), ("cos, raw anchors", 2)]
    assert notes == []


def test_the_mean_and_a_band_of_one_standard_deviation_are_drawn(runs: list[Path], drawn: list[Any]) -> None:
    plot_mean_curves(curves_by_setting(runs)[0], Path("unused.png"))
    _, training, selection = drawn[0].axes
    (robust,) = (
        line for line in lines(training) if line.get_color() == lines(training)[1].get_color() and not line.is_dashed()
    )
    np.testing.assert_allclose(robust.get_ydata(), 30)  # of 20 and 40 %
    heights = training.collections[1].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (pytest.approx(30 - 10 * 2**0.5), pytest.approx(30 + 10 * 2**0.5))
    assert marks(selection) == []  # each run has a best epoch of its own
    keys, settings = drawn[0].legends
    assert [text.get_text() for text in keys.get_texts()] == ["clean", "robust (attacked)", "± 1 standard deviation over seeds"]
    assert [text.get_text() for text in settings.get_texts()] == [
        "cos, raw anchors: 2 seeds, 60.0 ± 0.0 % / 30.0 ± 0.0 %",
        "cos, expanded anchors: 3 seeds, 60.0 ± 0.0 % / 30.0 ± 0.0 %",
    ]


def test_a_band_at_a_single_epoch_is_a_bar(tmp_path: Path, drawn: list[Any]) -> None:
    runs = [trained_folder(tmp_path / f"{seed}", anchors(), seed, epochs=1, robust=0.2 + 0.2 * seed) for seed in range(2)]
    plot_mean_curves(curves_by_setting(runs)[0], Path("unused.png"))
    bars = [one for one in drawn[0].axes[1].collections if len(one.get_paths()[0].vertices) == 2]
    heights = bars[-1].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (pytest.approx(30 - 10 * 2**0.5), pytest.approx(30 + 10 * 2**0.5))


def test_the_mean_ends_where_the_shortest_run_does(runs: list[Path], tmp_path: Path) -> None:
    short = trained_folder(tmp_path / "short", anchors(), 7, epochs=3)
    (one,), notes = curves_by_setting([runs[0], short])
    assert one.of("loss").shape == (2, 3)
    assert notes == [f"cos, raw anchors: the mean ends at epoch 3, and '{runs[0]}' at a later one"]


def test_a_run_without_a_checkpoint_is_drawn_alone(runs: list[Path], tmp_path: Path) -> None:
    bare = run_folder(tmp_path / "bare")
    found, (note,) = curves_by_setting([bare, *runs[:2]])
    assert [(one.name, len(one.runs)) for one in found] == [("cos, raw anchors", 2), ("bare", 1)]
    assert note == f"'{bare}' has no model.st that says how it was trained: it is drawn alone"


def test_the_same_run_twice_is_refused(runs: list[Path], tmp_path: Path) -> None:
    copy = trained_folder(tmp_path / "copy", anchors(), 1)
    with pytest.raises(UsageError, match=r"raw-1' and '.*copy' are the same run: one setting, seed 1"):
        curves_by_setting([*runs[:2], copy])


def test_settings_are_called_by_all_in_which_they_differ(tmp_path: Path) -> None:
    settings = [{"objective": "cos", "anchors": "raw", "lr": lr, "clip_norm": clip} for lr, clip in ((0.1, None), (0.2, 1.0))]
    assert setting_names(settings[:1]) == ["cos, raw anchors"]
    assert setting_names(settings) == ["cos, raw anchors, no clip norm, lr 0.1", "cos, raw anchors, clip norm 1.0, lr 0.2"]
    # digests are no names, unless nothing else tells two settings apart
    alike = [{**settings[0], "anchors_sha256": letter * 64} for letter in "ab"]
    assert setting_names(alike) == ["cos, raw anchors, anchors sha256 aaaaaaaa", "cos, raw anchors, anchors sha256 bbbbbbbb"]
    other = replace(anchors(), origin={"source": "random", "seed": 1})
    random = [trained_folder(tmp_path / name, one, 0) for name, one in (("a", other), ("b", expand_anchors(other)[0]))]
    assert [one.name for one in curves_by_setting(random)[0]] == ["cos, random anchors", "cos, expanded random anchors"]
