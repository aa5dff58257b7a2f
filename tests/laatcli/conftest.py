"""One small pipeline, run once a worker through the installed command, for the tests to look at."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.laatcli.shell import Done, run

NAMES = ("red circle", "blue star", "green ring", "yellow heart", "cyan cross", "red star")
SEEN = 4
# the smallest training that goes through everything
QUICK = ("--epochs", 1, "--steps", 1, "--backbone", "conv4-8", "--batch-size", 16)


def draw_picture(at: int, number: int, size: int = 16) -> Image.Image:
    """A noisy picture of class `at`, the same every time."""
    draw = np.random.default_rng((at, number))
    colour = np.random.default_rng(at).integers(40, 216, 3)
    return Image.fromarray((colour + draw.integers(-40, 40, (size, size, 3))).clip(0, 255).astype(np.uint8))


def class_folders(root: Path, count: int, *, names: tuple[str, ...] = NAMES, first: int = 0, size: int = 16) -> Path:
    """`count` pictures a class in folders named with underscores, as people do."""
    for at, name in enumerate(names):
        folder = root / name.replace(" ", "_")
        folder.mkdir(parents=True)
        for number in range(first, first + count):
            draw_picture(at, number, size).save(folder / f"{number:02}.png")
    return root


@dataclass(frozen=True)
class Pipeline:
    """A folder with classes.txt, photos/{train,test}, and every artifact; `said` is what each command printed with --json."""

    folder: Path
    said: dict[str, Done]

    @property
    def photos(self) -> Path:
        return self.folder / "photos"

    @property
    def model(self) -> Path:
        return self.folder / "run/model.st"

    def record(self, command: str) -> dict[str, Any]:
        return json.loads(self.said[command].stdout)


def run_pipeline(folder: Path, photos: Path, *more: object) -> dict[str, Done]:
    """All five commands on `photos`, with `more` options behind each."""
    (folder / "classes.txt").write_text("# made up\n" + "\n".join(NAMES) + "\n")
    data = ("--data", photos)
    lines: dict[str, tuple[object, ...]] = {
        "anchors": ("--classes", "classes.txt", "--source", "random", "--dim", 16, "--seen", SEEN),
        "expand": ("anchors.st",),
        "train": (*data, *QUICK),
        "attack": ("run/model.st", *data, "--attack", "pgd-2"),
        "eval": ("run/model.st", *data, "--attack", "fgsm", "--attack", "pgd-2"),
    }
    said = {}
    for command, args in lines.items():
        said[command] = run(command, *args, *more, cwd=folder)
        assert said[command].code == 0, said[command].stderr
    return said


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("pipeline") / "here"
    class_folders(folder / "photos/train", 8)
    class_folders(folder / "photos/test", 6, first=8)
    return Pipeline(folder, run_pipeline(folder, folder / "photos", "--json"))


@pytest.fixture
def untrained(pipeline: Pipeline, tmp_path: Path) -> Path:
    """A folder of its own with anchors and photos, and no run yet."""
    folder = tmp_path / "here"
    folder.mkdir()
    shutil.copy(pipeline.folder / "expanded.st", folder)
    shutil.copytree(pipeline.photos, folder / "photos")
    return folder
