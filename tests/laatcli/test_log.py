"""`laat train --log`: what a real run leaves in the tracker's own files."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from tests.laatcli.conftest import QUICK, Pipeline
from tests.laatcli.shell import refused, run, tree


def train(pipeline: Pipeline, folder: Path, *more: object, **env: str) -> dict[str, float]:
    """Train in `folder` and return the metrics of the only epoch."""
    line = ("train", "--anchors", pipeline.folder / "expanded.st", "--data", pipeline.photos, *QUICK, *more)
    done = run(*line, "--json", cwd=folder, **env)
    assert done.code == 0, done.stderr
    json.loads(done.stdout)  # nothing else is printed there
    return json.loads((folder / "run/metrics.jsonl").read_text())  # type: ignore[no-any-return]


def test_tensorboard_shows_the_metrics(pipeline: Pipeline, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    metrics = train(pipeline, tmp_path, "--log", "tensorboard")
    events = accumulator.EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    for name in ("loss", "train_clean", "train_robust", "selection_clean", "selection_robust"):
        ((step, value),) = [(event.step, event.value) for event in events.Scalars(name)]
        assert step == 1
        assert value == pytest.approx(metrics[name], rel=1e-6)


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="needs wandb")
def test_wandb_offline_keeps_the_metrics(pipeline: Pipeline, tmp_path: Path) -> None:
    train(pipeline, tmp_path, "--log", "wandb", WANDB_MODE="offline")
    (log,) = (tmp_path / "run/wandb").rglob("*.wandb")
    assert b"selection_robust" in log.read_bytes()


def test_a_log_changes_nothing_else(pipeline: Pipeline, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(pipeline, tmp_path, "--log", "tensorboard")
    logged = {name: data for name, data in tree(tmp_path / "run").items() if not name.startswith("tensorboard/")}
    assert logged == {name: data for name, data in tree(pipeline.folder / "run").items() if name != "curves.png"}


def test_an_unknown_log(tmp_path: Path) -> None:
    refused(tmp_path, "train", "--log", "tensorbord", code=2, says=["unknown --log 'tensorbord'", "'tensorboard'"])
