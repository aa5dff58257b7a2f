"""The commands and Python lines of every documentation page are run, in the order of the page; so are the example scripts.

Blocks marked `sh` and `python` are run; indented blocks need data, a cluster or a choice and are not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.anchors.bundled import bundled_classes

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for folder in (".", "examples", "stages", "tests/benchmarks")
    for path in (ROOT / folder).glob("*.md" if folder == "." else "**/*.md")
    if path.name != "LOG.md"
)
README = ROOT / "README.md"
WEIGHTS = ROOT / "examples/cifar_fs/conv4-64.safetensors"
CLASSES = ("red circle", "blue star", "green ring", "yellow heart", "cyan cross", "red star")
NEW = ("blue ring", "green heart")
# what the text above the README's Python lines says of them
BATCH = "import torch\nimages, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 0, 1])\n"


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """The fenced blocks in one of the languages: (language, text), in the order of the page."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [(language, text) for language, text in found if language in languages]


def runnable(page: Path) -> list[tuple[str, str]]:
    return [block for block in blocks(page, "sh", "python") if not block[1].startswith("make ")]


def make_folder(folder: Path, names: tuple[str, ...], count: int) -> None:
    draw = np.random.default_rng(0)
    for at, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = draw.integers(0, 60, (40, 36, 3)) + np.array([200 if at & bit else 40 for bit in (1, 2, 4)])
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")


def run(command: list[str], cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        **more,
    }
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=500, check=False)


def run_blocks(page: Path, cwd: Path) -> None:
    for language, text in runnable(page):
        command = ["sh", "-euxc", text] if language == "sh" else [sys.executable, "-c", BATCH + text]
        done = run(command, cwd)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the README's commands were run: the other pages continue there."""
    folder = tmp_path_factory.mktemp("readme")
    make_folder(folder / "photos", CLASSES, 40)
    make_folder(folder / "new-photos", NEW, 3)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    (folder / "new-classes.txt").write_text("\n".join(NEW))
    for name in ("tests", "examples"):
        (folder / name).symlink_to(ROOT / name)
    # the settings file of a page replaces the default encoder, which needs a network; a smaller network trains faster
    ((_, settings),) = blocks(ROOT / "examples/own_images/README.md", "toml")
    (folder / "laat.toml").write_text(settings.replace("conv4-64", "conv4-8"))
    run_blocks(README, folder)
    return folder


def test_the_readme_runs(trained: Path) -> None:
    for name in ("expanded.st", "run/model.st", "adversarial.st", "report.json"):
        assert (trained / name).stat().st_size > 0


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != README and runnable(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_a_page_runs(page: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "page", symlinks=True)
    run_blocks(page, tmp_path / "page")


def test_the_guides_have_lines_to_run() -> None:
    for name in ("own_images", "benchmark", "cifar_fs", "cluster", "robust_evaluation", "serve"):
        assert runnable(ROOT / f"examples/{name}/README.md"), name
    for name in ("README.md", "stages/README.md", "tests/benchmarks/README.md"):
        assert runnable(ROOT / name), name


def test_every_make_target_that_is_named_exists() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    targets = set(re.findall(r"`make (\w+)`|^ *make (\w+)", text, flags=re.MULTILINE))
    names = {one or other for one, other in targets}
    assert {"demo", "test", "check", "bench"} <= names
    for target in names:
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_links_to_exists(page: Path) -> None:
    for name in re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / name).is_file(), name


def test_the_readme_stays_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_quickstart_runs_and_its_models_are_drawn(tmp_path: Path) -> None:
    done = run([str(ROOT / "examples/quickstart.sh")], tmp_path, BACKBONE="conv4-4")
    assert done.returncode == 0, done.stderr
    read = [json.loads((tmp_path / f"quickstart/{name}.json").read_text()) for name in ("report", "stdout")]
    assert read[0] == read[1]
    # the picture of the README, from a folder like that of `laat demo`
    names = ("undefended", "laat-raw", "laat-expanded")
    for name in names:
        shutil.copytree(tmp_path / "quickstart/run", tmp_path / "demo" / name)
    report = {"results": [{**read[0]["results"][0], "model": name} for name in names]}
    (tmp_path / "demo/report.json").write_text(json.dumps(report))
    done = run([sys.executable, str(ROOT / "examples/pictures/draw_demo.py"), "demo", "demo.png"], tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.size == (1560, 572)


@pytest.mark.parametrize("script", ["run.sh", "report.sh"])
def test_cifar_fs_scripts_refuse_missing_features(script: str, tmp_path: Path) -> None:
    done = run([str(ROOT / "examples/cifar_fs" / script), "nowhere", str(tmp_path / "features.npy")], tmp_path)
    assert done.returncode == 3
    assert "features.npy' does not exist" in done.stderr


@pytest.mark.skipif(not (ROOT / "../shared/data/cifar100").is_dir(), reason="needs CIFAR-100")
def test_cifar_fs_anchors_match_the_data(tmp_path: Path) -> None:
    features = ROOT / "../shared/anchors/cifar-fs_clip-vit-b-16.safetensors"
    data = ROOT / "../shared/data/cifar100"
    script = f"""
laat anchors --classes cifar-fs --features {features} -o raw.st
laat expand raw.st -o expanded.st
laat train --anchors expanded.st --data {data} --split test --backbone conv4-4 --epochs 1 --batch-size 512 --steps 1
laat eval run/model.st --data {data} --split test --protocol episodes --queries 5 --episodes 20 --attack fgsm
"""
    done = run(["sh", "-euxc", script], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "20 episodes of 5 ways" in done.stdout


def test_the_published_weights_answer(tmp_path: Path) -> None:
    script = f"""
laat anchors --classes cifar-fs --source random --dim 512 -o anchors.st --quiet
laat predict {WEIGHTS} {ROOT}/examples/demo_classifier/pictures --architecture conv4-64 --anchors anchors.st
"""
    done = run(["sh", "-euxc", script], tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6
    assert WEIGHTS.stat().st_size < 2_000_000


@pytest.mark.skipif(not (ROOT / "../shared/data/cifar100").is_dir(), reason="needs CIFAR-100")
def test_the_published_weights_recognise_novel_classes(tmp_path: Path) -> None:
    features = ROOT / "../shared/anchors/cifar-fs_clip-vit-b-16.safetensors"
    data = ROOT / "../shared/data/cifar100"
    names, groups = bundled_classes("cifar-fs")
    (tmp_path / "novel.txt").write_text("\n".join(names[at] for at in groups.novel))
    script = f"""
laat anchors --classes cifar-fs --features {features} -o raw.st
laat expand raw.st --method centre -o centre.st
laat eval {WEIGHTS} --architecture conv4-64 --anchors centre.st --data {data} --split test --classes-from novel.txt \
    --attack fgsm --no-checks
"""
    done = run(["sh", "-euxc", script], tmp_path)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads((tmp_path / "report.json").read_text())["results"]
    figures = [result["clean"]["accuracy"], result["attacks"]["fgsm"]["accuracy"]]
    assert figures == pytest.approx([0.184, 0.1155], abs=0.002)  # 2,000 images
