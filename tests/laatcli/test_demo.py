"""`laat demo` runs the whole pipeline as command lines that a user could type."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import typer.testing
from PIL import Image

from laatcli.app import app
from laatcli.commands import demo
from stages.attacks.adversarial import AdversarialSet, write_correct_images
from stages.threat import ThreatModel


def test_the_lines_are_the_pipeline(tmp_path: Path) -> None:
    lines = demo.commands(tmp_path / "out", 3, 1, "cpu")
    assert [number for number, *_ in lines] == [1, 2, 3, 3, 3, 4, 5, 6]
    commands = [shlex.split(line)[1] for *_, line in lines]
    assert commands == ["anchors", "expand", "train", "train", "train", "attack", "eval", "predict"]
    assert len([line for *_, line in lines if "--objective clean" in line]) == 1


def test_every_line_parses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line after the first needs a file that an earlier line writes: without it, it exits with 3, not with 2."""
    monkeypatch.chdir(tmp_path)
    runner = typer.testing.CliRunner()
    for *_, line in demo.commands(Path("demo"), 1, 0, "auto")[1:]:
        done = runner.invoke(app, shlex.split(line)[1:])
        assert done.exit_code == 3, f"{line}\n{done.output}"
        assert "does not exist" in done.output


def test_the_demo_prints_each_line_and_ends_with_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def pretend(_: object, line: str, *__: object) -> None:
        ran.append(line)
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out/report.json").write_text(json.dumps({"results": []}))

    monkeypatch.setattr(demo, "_run", pretend)
    monkeypatch.setattr(demo, "write_pictures", lambda out: None)
    done = typer.testing.CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert len(ran) == 8
    for line in ran:
        assert f"$ {line}" in done.output
    for number in range(1, 7):
        assert f"[{number}/6]" in done.output


def test_the_pictures_are_of_images_that_were_right(tmp_path: Path) -> None:
    """One each of the classes with a correct image: of class 0 the second, of class 1 none, of class 2 the first."""
    levels = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(3, 1).repeat(4, 2).repeat(4, 3)
    labels, clean = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([1, 0, 0, 2, 2])
    images = torch.from_numpy(levels)
    saved = AdversarialSet(
        images / 255, images, labels, clean, clean, ("red circle", "b", "c"), "novel", ThreatModel("8/255"), {}, {}
    )
    write_correct_images(saved, tmp_path / "pictures", 6)
    found = {str(path.relative_to(tmp_path)): np.asarray(Image.open(path)).max() for path in tmp_path.rglob("*.png")}
    assert found == {"pictures/red_circle/00001.png": 1, "pictures/c/00003.png": 3}
