"""Every command line of the README is run, in order, as it stands; so are the example scripts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CLASSES = ("red circle", "blue star", "green ring", "yellow heart", "cyan cross", "red star")
NEW = ("blue ring", "green heart")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def make_folder(folder: Path, names: tuple[str, ...], count: int) -> None:
    draw = np.random.default_rng(0)
    for at, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = draw.integers(0, 60, (40, 36, 3)) + np.array([200 if at & bit else 40 for bit in (1, 2, 4)])
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")


def shell(script: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", **more}
    return subprocess.run(
        ["sh", "-euxc", script], cwd=cwd, env=environment, capture_output=True, text=True, timeout=500, check=False
    )


def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    make_folder(tmp_path / "photos", CLASSES, 40)
    make_folder(tmp_path / "new-photos", NEW, 3)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    (tmp_path / "new-classes.txt").write_text("\n".join(NEW))
    # the README's own settings file stands in for the weights that only the network has
    (settings,) = blocks("toml")
    (tmp_path / "laat.toml").write_text(settings)
    scripts = [block for block in blocks("sh") if not block.startswith("make ")]
    assert len(scripts) >= 3
    for script in scripts:
        done = shell(script, tmp_path)
        assert done.returncode == 0, f"{script}\n{done.stderr}"
        assert "Traceback" not in done.stderr
    for name in ("expanded.st", "cosines.png", "run/model.st", "adversarial.st", "report.json", "accuracy.json", "new.json"):
        assert (tmp_path / name).stat().st_size > 0


def test_every_make_target_of_the_readme_exists() -> None:
    targets = re.findall(r"make (\w+)", "\n".join([*blocks("sh"), *re.findall(r"`(make \w+)`", README)]))
    assert {"demo", "test", "check", "bench"} <= set(targets)
    for target in set(targets):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_every_file_that_the_readme_names_exists() -> None:
    for name in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / name).is_file(), name


def test_quickstart_runs(tmp_path: Path) -> None:
    done = shell(str(ROOT / "examples/quickstart.sh"), tmp_path)
    assert done.returncode == 0, done.stderr
    read = [json.loads((tmp_path / f"quickstart/{name}.json").read_text()) for name in ("report", "stdout")]
    assert read[0] == read[1]


@pytest.mark.parametrize("script", ["run.sh", "report.sh"])
def test_cifar_fs_examples_need_their_data(script: str, tmp_path: Path) -> None:
    done = shell(f"{ROOT / 'examples/cifar_fs' / script} nowhere {tmp_path / 'features.npy'}", tmp_path)
    assert done.returncode == 3
    assert "features.npy' does not exist" in done.stderr


@pytest.mark.skipif(not (ROOT / "../shared/data/cifar100").is_dir(), reason="needs CIFAR-100")
def test_cifar_fs_anchors_of_the_example_match_the_data(tmp_path: Path) -> None:
    features = ROOT / "../shared/anchors/cifar-fs_clip-vit-b-16.safetensors"
    data = ROOT / "../shared/data/cifar100"
    script = f"""
laat anchors --classes cifar-fs --features {features} -o raw.st
laat expand raw.st -o expanded.st
laat train --anchors expanded.st --data {data} --split test --backbone conv4-4 --epochs 1 --batch-size 512 --steps 1
laat eval run/model.st --data {data} --split test --protocol episodes --queries 5 --episodes 20 --attack fgsm
"""
    done = shell(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "20 episodes of 5 ways" in done.stdout
