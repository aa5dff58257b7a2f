"""A run folder over time: interrupted, resumed, damaged, finished."""

from __future__ import annotations

import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.data.image_set import ImageSet
from stages.errors import InputError, UsageError
from stages.files import artifacts
from stages.training.selection import Score, Selection
from tests.stages.training.synthetic import NAMES, made_up_anchors, made_up_images, quick
from tests.stages.training.test_run import EVERYTHING, INPUTS, attempted, loaded, names, rows, trained


@pytest.mark.parametrize(
    "changes",
    [
        EVERYTHING,
        {**EVERYTHING, "objective": "trades", "attack_precision": "bf16"},
        {"objective": "clean", "schedule": "one-cycle"},
    ],
)
def test_stopped_after_any_step_it_goes_on_exactly(changes: dict[str, Any], tmp_path: Path) -> None:
    settings = quick(**changes)
    trained(tmp_path / "whole", settings)
    stops = 0

    def stop(_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    for _ in range(100):
        try:
            # on_step comes at most every so often; on_epoch comes with every epoch
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("stages.training.run._REPORT_EVERY_SECONDS", 0.0)
                attempted(tmp_path / "parts", settings, resume=True, on_step=stop)
        except KeyboardInterrupt:
            stops += 1
        else:
            break
    assert stops >= 2
    for file in ("model.st", "last.st", "metrics.jsonl"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()


def test_stopped_while_an_epoch_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path / "whole")
    score, calls = Selection.score, []

    def interrupted(self: Selection, *args: Any, **others: Any) -> Score:
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return score(self, *args, **others)

    monkeypatch.setattr(Selection, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts")
    assert len(rows(tmp_path / "parts")) == 1
    trained(tmp_path / "parts", resume=True)
    for file in ("model.st", "last.st", "metrics.jsonl"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()


def test_another_run_does_not_go_on_from_this_state(tmp_path: Path) -> None:
    def stop(_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, on_epoch=stop, save_every=0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    changed: list[tuple[dict[str, Any], str]] = [
        ({"settings": quick(lr=0.1, momentum=0.5)}, "--lr was 0.05 and is 0.1; --momentum was 0.9 and is 0.5"),
        ({"images": made_up_images(seed=1)}, "the data was "),
        ({"inputs": {"anchors": {**INPUTS["anchors"], "sha256": "b" * 64}}}, "the anchors were aaaaaaaaaaaa… and are bbbb"),
        ({"inputs": {**INPUTS, "init": INPUTS["anchors"]}}, "the init was not given and is aaaa"),
    ]
    for others, says in changed:
        with pytest.raises(UsageError, match=says):
            attempted(tmp_path, resume=True, **others)
    with pytest.raises(UsageError, match=r"has an unfinished run \(1 epoch done\)"):
        attempted(tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_force_with_resume_replaces_another_run_alone(tmp_path: Path) -> None:
    def stop(_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", on_epoch=stop, save_every=0)
    epochs: list[Any] = []
    trained(tmp_path / "run", resume=True, force=True, on_epoch=epochs.append)
    assert [one.epoch for one in epochs] == [2]  # it went on
    assert (tmp_path / "whole/last.st").read_bytes() == (tmp_path / "run/last.st").read_bytes()
    assert attempted(tmp_path / "run", resume=True, force=True) is None  # up to date
    other = quick(lr=0.01)
    with pytest.raises(KeyboardInterrupt):  # replaced, and stopped
        trained(tmp_path / "run", other, resume=True, force=True, on_epoch=stop, save_every=0)
    assert len(rows(tmp_path / "run")) == 1
    assert trained(tmp_path / "run", resume=True, force=True).best_epoch in (1, 2)  # unfinished, and of another run
    assert names(tmp_path / "run") == ["last.st", "metrics.jsonl", "model.st"]
    assert (tmp_path / "whole/last.st").read_bytes() == (tmp_path / "run/last.st").read_bytes()


def test_a_damaged_state_is_told(tmp_path: Path) -> None:
    def stop(_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, on_epoch=stop, save_every=0)
    state = tmp_path / "state.st"
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"state\.st.*damaged"):
        attempted(tmp_path, resume=True)
    state.write_bytes(whole)
    sound = artifacts.read(state)
    momentum = next(name for name in sound.tensors if name.startswith("momentum."))
    for params, tensors, says in (
        ({"step": 10**6}, {}, "has 1 finished epochs and 1000000 steps"),
        ({"reports": []}, {}, "finished epochs and"),
        ({}, {momentum: sound.tensors[momentum].astype("int32")}, "momentum.* is torch.int32"),
        ({}, {momentum: sound.tensors[momentum][None]}, "momentum.* is torch.float32"),
    ):
        forged = replace(sound, params={**sound.params, **params}, tensors={**sound.tensors, **tensors})
        artifacts.write(forged, state)
        with pytest.raises(InputError, match=says):
            attempted(tmp_path, resume=True)
    state.write_bytes(whole)
    (tmp_path / "model.st").unlink()
    with pytest.raises(InputError, match=r"model\.st', the best epoch of the unfinished run, is missing"):
        attempted(tmp_path, resume=True)
    assert trained(tmp_path, force=True).best_epoch in (1, 2)
    assert names(tmp_path) == ["last.st", "metrics.jsonl", "model.st"]


def test_a_run_of_few_steps_of_an_earlier_version_is_told_why_it_cannot_go_on(tmp_path: Path) -> None:
    def stop(_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, quick(steps=2), on_epoch=stop, save_every=0)
    with pytest.raises(UsageError, match=r"parameters: --steps was 2 and is 3; choose"):
        attempted(tmp_path, quick(steps=3), resume=True)
    state = artifacts.read(tmp_path / "state.st")
    identity = state.params["identity"]
    older = {**identity, "selection": {key: value for key, value in identity["selection"].items() if key != "attack"}}
    artifacts.write(replace(state, params={**state.params, "identity": older}), tmp_path / "state.st")
    with pytest.raises(
        UsageError, match=r"the attack that scores epochs was pgd-2 \(of an earlier version\) and is pgd-7; choose"
    ):
        attempted(tmp_path, quick(steps=2), resume=True)
    with pytest.raises(UsageError, match=r"parameters: --steps was 2 and is 1; choose"):
        attempted(tmp_path, quick(steps=1), resume=True)


def test_half_written_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    for name in (".model.st.abc.part", ".state.st.xyz.part"):
        (tmp_path / name).write_bytes(b"half")
    trained(tmp_path)
    assert names(tmp_path) == ["last.st", "metrics.jsonl", "model.st"]


def test_a_run_starts_from_a_checkpoint(tmp_path: Path) -> None:
    trained(tmp_path / "first")
    first = artifacts.read(tmp_path / "first/model.st", "model")
    inputs = {**INPUTS, "init": first.lineage()}
    trained(tmp_path / "second", quick(lr=1e-12, weight_decay=0.0), init=first, inputs=inputs)
    one, two = (loaded(tmp_path / name / "model.st") for name in ("first", "second"))
    torch.testing.assert_close(one.embedding.projection.weight, two.embedding.projection.weight, rtol=0, atol=1e-6)
    assert two.origin.inputs["init"]["sha256"] == first.sha256


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
    trained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for resume in (False, True):
        assert attempted(tmp_path, resume=resume) is None
    for other in (quick(epochs=3), quick(lr=0.04), quick(seed=1), quick(objective="at")):
        with pytest.raises(UsageError, match="already has a run"):
            attempted(tmp_path, other)
    with pytest.raises(UsageError, match=r"--lr was 0.05 and is 0.04"):
        attempted(tmp_path, quick(lr=0.04), resume=True)
    with pytest.raises(UsageError, match="already has a run"):
        attempted(tmp_path, images=made_up_images(seed=1))
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("broken", ["last.st", "metrics.jsonl"])
def test_a_run_with_a_file_missing_is_not_finished(broken: str, tmp_path: Path) -> None:
    trained(tmp_path)
    (tmp_path / broken).unlink()
    with pytest.raises(UsageError, match="already has a run"):
        attempted(tmp_path)


def test_an_image_tower_is_recorded_without_its_path(tmp_path: Path) -> None:
    demo = Path(__file__).parents[3] / "stages/anchors/demo_clip"
    folder = tmp_path / "somewhere/my-clip"
    shutil.copytree(demo, folder)
    images = made_up_images(per_class=3)
    larger = ImageSet(images.images.repeat(1, 1, 2, 2), images.labels, images.classes, images.provenance)
    settings = quick(backbone=f"clip:local-dir:{folder}", epochs=1, steps=1)
    trained(tmp_path / "run", settings, images=larger)
    shutil.rmtree(folder)
    found = loaded(tmp_path / "run/model.st")
    assert found.origin.training["settings"]["backbone"] == found.embedding.backbone_name == "clip:local-dir:my-clip"
    for path in (tmp_path / "run").iterdir():
        assert b"somewhere" not in path.read_bytes()
