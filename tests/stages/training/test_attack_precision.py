"""The inner attack in bfloat16 under an outer step in float32."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stages.devices import bf16_units
from stages.errors import UsageError
from stages.files import artifacts
from stages.training.advice import precision_note
from stages.training.objectives import OBJECTIVES
from stages.training.settings import TrainSettings
from tests.stages.training.synthetic import quick
from tests.stages.training.test_loop import IMAGES, attacked, epoch, trainer
from tests.stages.training.test_run import attempted, loaded, trained

EPS = 8 / 255


@pytest.mark.parametrize("changes", [{}, {"objective": "trades", "steps": 3}, {"objective": "pmg-aft", "tau": 0.5}])
def test_the_attack_is_that_of_a_run_in_bf16(changes: dict[str, Any]) -> None:
    x, labels = IMAGES.images[::3].float() / 255, IMAGES.labels[::3]
    found = {}
    for own in ({}, {"precision": "bf16"}, {"attack_precision": "bf16"}, {"precision": "bf16", "attack_precision": "float32"}):
        found[tuple(own.items())] = attacked(trainer(**changes, **own), x, labels)
    exact, half, mixed, other = found.values()
    assert torch.equal(mixed, half)
    assert torch.equal(other, exact)
    assert not torch.equal(mixed, exact)
    assert mixed.dtype == torch.float32
    assert (mixed - x).abs().max() <= EPS + 6e-8  # float32's own rounding: bfloat16's is 4e-3
    assert mixed.min() >= 0
    assert mixed.max() <= 1
    # pixels in bfloat16 would leave no more than 256 values
    assert len(mixed.unique()) > 1000


def test_the_outer_step_keeps_its_precision() -> None:
    loop = trainer(attack_precision="bf16", augment=False)
    seen: set[tuple[bool, torch.dtype]] = set()

    def note(layer: nn.Module, _: Any, out: Tensor) -> None:
        seen.add((layer.training, out.dtype))

    for layer in loop.model.backbone.blocks:  # type: ignore[union-attr]
        layer.register_forward_hook(note)
    assert epoch(loop).loss == pytest.approx(epoch(trainer(augment=False)).loss, abs=0.02)
    assert seen == {(False, torch.bfloat16), (True, torch.float32)}


def test_what_auto_is() -> None:
    plain, gpu, units = {"has_bf16": False}, {"has_bf16": True}, {"has_bf16": False, "bf16_units": True}
    for given, device, attacks, outer, inner in (
        ({}, plain, True, "float32", "float32"),
        ({}, gpu, True, "bf16", "bf16"),
        ({}, units, True, "float32", "bf16"),
        ({}, units, False, "float32", "float32"),
        ({"precision": "float32"}, gpu, True, "float32", "float32"),
        ({"precision": "float32"}, units, True, "float32", "float32"),
        ({"precision": "bf16"}, plain, True, "bf16", "bf16"),
        ({"attack_precision": "bf16"}, plain, True, "float32", "bf16"),
        ({"attack_precision": "float32"}, gpu, True, "bf16", "float32"),
        ({"attack_precision": "float32"}, units, True, "float32", "float32"),
        ({"attack_precision": "bf16"}, plain, False, "float32", "float32"),
    ):
        found = quick(**given).with_precision(**device, attacks=attacks)
        assert (found.precision, found.attack_precision) == (outer, inner)


@pytest.mark.parametrize("units", ["", "avx512_bf16"])
def test_a_run_takes_what_the_cpu_has(units: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.training.run.bf16_units", lambda _: units)
    trained(tmp_path / "run", quick(epochs=1))
    settings = loaded(tmp_path / "run" / "model.st").origin.training["settings"]
    assert (settings["precision"], settings["attack_precision"]) == ("float32", "bf16" if units else "float32")


def test_without_an_attack_it_has_no_meaning(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--attack-precision has no meaning with --objective clean, which has no attack"):
        quick(objective="clean", attack_precision="bf16")
    with pytest.raises(UsageError, match="--attack-precision has no meaning"):
        attempted(tmp_path, quick(attack_precision="bf16"), objective=OBJECTIVES["clean"])
    resolved = quick(objective="clean", precision="bf16").with_precision(has_bf16=True, attacks=False)
    assert replace(resolved, seed=1).attack_precision == "bf16"


def test_it_is_recorded_and_another_one_is_refused(tmp_path: Path) -> None:
    trained(tmp_path / "half", quick(attack_precision="bf16", epochs=1))
    settings = loaded(tmp_path / "half" / "model.st").origin.training["settings"]
    assert (settings["precision"], settings["attack_precision"]) == ("float32", "bf16")
    assert attempted(tmp_path / "half", quick(attack_precision="bf16", epochs=1)) is None
    with pytest.raises(UsageError, match="--attack-precision was bf16 and is float32; choose another folder"):
        attempted(tmp_path / "half", quick(attack_precision="float32", epochs=1))


@pytest.mark.parametrize("outer", ["float32", "bf16"])
def test_a_run_that_did_not_record_it_goes_on_as_it_began(outer: str, tmp_path: Path) -> None:
    def stop(_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    trained(tmp_path / "whole", quick(precision=outer))
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", quick(precision=outer), on_epoch=stop, save_every=0)
    state = artifacts.read(tmp_path / "run" / "state.st")
    identity = state.params["identity"]
    before = {name: value for name, value in identity["settings"].items() if name != "attack_precision"}
    older = replace(state, params={**state.params, "identity": {**identity, "settings": before}})
    artifacts.write(older, tmp_path / "run" / "state.st")
    other = {"float32": "bf16", "bf16": "float32"}[outer]
    says = f"--attack-precision was {outer} and is {other}; resume it with --attack-precision {outer}, choose another folder"
    with pytest.raises(UsageError, match=says):
        attempted(tmp_path / "run", quick(precision=outer, attack_precision=other), resume=True)
    trained(tmp_path / "run", quick(precision=outer), resume=True)
    for file in ("model.st", "last.st", "metrics.jsonl"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "run" / file).read_bytes()


def test_a_note_on_attacks_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    def noted(units: bool, images: int = 60_000, device: str = "cpu", **given: Any) -> str:
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": units}, raising=False)
        asked = quick(steps=7, **given)
        return precision_note(asked, asked.with_precision(has_bf16=device == "cuda", bf16_units=units), images, device)

    assert noted(True).startswith("the inner attack is in bfloat16, which is faster on this CPU (avx512_bf16)")
    assert noted(False, attack_precision="bf16").endswith("use --attack-precision float32")
    assert noted(False, precision="bf16").endswith("use --precision float32")
    assert noted(False, precision="bf16", attack_precision="bf16").endswith(
        "use --precision float32 --attack-precision float32"
    )
    for given in ({"precision": "bf16"}, {"attack_precision": "bf16"}, {"attack_precision": "float32"}):
        assert not noted(True, **given)  # the user chose
    assert not noted(False)
    for units, given in ((True, {}), (False, {"attack_precision": "bf16"})):
        assert not noted(units, images=3_000, **given)  # a short run
        assert not noted(units, device="cuda", **given)


def test_a_long_run_shows_the_note_when_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.training.run.bf16_units", lambda _: "amx_bf16")
    monkeypatch.setattr("stages.training.advice.bf16_units", lambda _: "amx_bf16")
    monkeypatch.setattr("stages.training.advice._LONG_RUN", 28 * 2)  # of 28 images, an epoch with two steps

    def notes(settings: TrainSettings) -> list[str]:
        said: list[str] = []
        trained(tmp_path / settings.objective, settings, on_note=said.append)
        return [note for note in said if "--attack-precision float32" in note]

    assert len(notes(quick(epochs=1, objective="at"))) == 1
    assert notes(quick(epochs=1, objective="clean")) == []


def test_the_units_of_a_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for known, units in (
        ({"avx512_bf16": True, "amx_bf16": True}, "amx_bf16"),
        ({"avx512_bf16": True}, "avx512_bf16"),
        ({"avx512_f": True, "bf16": True}, ""),  # what ARM has was not measured
    ):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda known=known: known, raising=False)
        assert bf16_units("cpu") == units
        assert bf16_units("mps") == ""
    monkeypatch.delattr("torch.cpu.get_capabilities")  # of an older torch
    for text, units in (
        ("flags\t: fpu avx512f avx512_bf16 clwb\nbugs\t: amx_bf16\n", "avx512_bf16"),
        ("Features : bf16\n", ""),
    ):
        (tmp_path / "cpuinfo").write_text(f"processor : 0\n{text}")
        monkeypatch.setattr("stages.devices._CPU_INFO", tmp_path / "cpuinfo")
        assert bf16_units("cpu") == units
