"""The name of a run: recorded in its checkpoints, and what reports call the model."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from stages.errors import UsageError
from stages.evaluation.models import model_entry
from stages.exchange.open_model import open_models
from tests.stages.training.synthetic import quick
from tests.stages.training.test_run import attempted, loaded, trained


def test_the_name_is_recorded_and_does_not_decide_the_weights(tmp_path: Path) -> None:
    trained(tmp_path / "plain")
    trained(tmp_path / "named", name="laat, seed 0")
    one, two = (loaded(tmp_path / folder / "model.st") for folder in ("plain", "named"))
    assert "name" not in one.origin.training
    assert dict(two.origin.training) == {**one.origin.training, "name": "laat, seed 0"}
    assert one.embedding.projection.weight.equal(two.embedding.projection.weight)


def test_a_resumed_run_keeps_its_name_or_takes_a_new_one(tmp_path: Path) -> None:
    def stop(_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    trained(tmp_path / "whole", name="first")
    for given, expected in ((None, "first"), ("second", "second")):
        folder = tmp_path / expected
        with pytest.raises(KeyboardInterrupt):
            trained(folder, name="first", on_epoch=stop, save_every=0)
        trained(folder, name=given, resume=True)
        assert loaded(folder / "last.st").origin.training["name"] == expected
    for file in ("model.st", "last.st", "metrics.jsonl"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_finished_run_keeps_its_name_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    trained(tmp_path, name="first")
    for name in (None, "first"):
        assert attempted(tmp_path, name=name, on_warning=said.append) is None
    assert not said
    assert attempted(tmp_path, name="second", on_warning=said.append) is None
    assert len(said) == 1
    assert "keeps the name 'first'" in said[0]
    for name in ("", "  ", "a\nb", " a"):
        with pytest.raises(UsageError, match="the run's name is"):
            attempted(tmp_path / "other", name=name)
    assert not (tmp_path / "other").exists()


def test_reports_call_a_model_by_the_name_of_its_run_where_it_is_unique(tmp_path: Path) -> None:
    for folder, name in (("a", "same"), ("b", "same"), ("c", "other")):
        trained(tmp_path / folder, quick(epochs=1), name=name)
    files = [str(tmp_path / folder / "model.st") for folder in "abc"]
    last = str(tmp_path / "c/last.st")

    def names(*specs: str) -> list[str]:
        return [one.name for one in open_models(specs)]

    assert names(*files) == ["a", "b", "other"]
    assert names(files[0]) == ["same"]
    assert names(files[2], last) == ["other", "other/last"]


def test_a_report_records_how_its_models_were_trained(tmp_path: Path) -> None:
    settings = quick(seed=3, objective="at", epochs=1, momentum=0.5)
    trained(tmp_path, settings, name="at-3")
    classifier = loaded(tmp_path / "model.st")
    found = model_entry("at-3", classifier.over(classifier.classes[:2])).training
    assert found is not None
    record = found.to_record()
    expected = {
        **{"anchors": "random", "objective": "at", "seed": 3, "name": "at-3", "images": 28, "classes": 4, "momentum": 0.5},
        **{"backbone": settings.backbone, "eps": "8/255", "data": "made up"},
    }
    assert {name: record.get(name) for name in expected} == expected
    assert settings.to_record().keys() <= record.keys()
    # the anchors that it was trained on, not those that it is evaluated with
    assert record["anchors_sha256"] == model_entry("", classifier).training.anchors_sha256  # type: ignore[union-attr]
