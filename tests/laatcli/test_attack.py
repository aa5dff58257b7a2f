"""`laat attack` beyond its defaults: norms, restarts, 8 bits and pictures."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.laatcli.conftest import Pipeline
from tests.laatcli.inside import inside
from tests.laatcli.shell import check_refusal, run, tree


def attack(pipeline: Pipeline, cwd: Path, *args: object) -> dict[str, Any]:
    done = run("attack", pipeline.model, "--data", pipeline.photos, *args, "--json", cwd=cwd)
    assert done.code == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("eps", "shown", "radius"), [("3.0", "3", 3.0), (None, "128/255", 128 / 255)])
def test_l2(pipeline: Pipeline, tmp_path: Path, eps: str | None, shown: str, radius: float) -> None:
    more = () if eps is None else ("--eps", eps)
    record = attack(pipeline, tmp_path, "--norm", "l2", *more, "--attack", "pgd-2x2", "--full")
    assert {"clip": [0.0, 1.0], "eps": shown, "norm": "L2", "grid": [16, 16]}.items() <= record["threat"].items()
    assert record["attack"]["restarts"] == 2
    held = load_file(tmp_path / "adversarial.st")
    length = np.sqrt(((held["images"] - held["clean_images"] / np.float32(255)) ** 2).sum((1, 2, 3)))
    assert length.max() == pytest.approx(record["largest_perturbation"], rel=1e-5)
    assert 0.3 * radius < length.max() <= radius + 1e-4
    # the file says itself what it is allowed to be
    scored = run("eval", pipeline.model, "--adversarial", "adversarial.st", "--json", cwd=tmp_path)
    assert scored.code == 0, scored.stderr
    assert json.loads(scored.stdout)["results"][0]["worst"]["accuracy"] == pytest.approx(record["robust"]["accuracy"])


@pytest.mark.parametrize(("norm", "eps"), [("linf", "3/510"), ("linf", "8/255"), ("l2", "0.5")])
def test_quantized_images_are_levels_inside_the_ball_and_pictures_hold_the_same(
    pipeline: Pipeline, tmp_path: Path, norm: str, eps: str
) -> None:
    args = ("--classes-from", "all", "--attack", "pgd-3", "--norm", norm, "--eps", eps, "--png", "pics")
    exact = attack(pipeline, tmp_path, *args)
    pictures = tree(tmp_path / "pics")
    unrounded = load_file(tmp_path / "adversarial.st")
    rounded = attack(pipeline, tmp_path, *args, "--quantize", "--force")
    assert tree(tmp_path / "pics") == pictures
    assert {name.split("/")[0] for name in pictures} == {path.name for path in (pipeline.photos / "test").iterdir()}
    for key in ("clean", "robust", "robust_8bit"):
        assert exact[key] == rounded[key], key
    held = load_file(tmp_path / "adversarial.st")
    levels = held["images"] * 255
    assert np.abs(levels - levels.round()).max() < 1e-4
    assert not np.array_equal(unrounded["images"], held["images"])
    moved = levels.round().astype(np.int64) - held["clean_images"]
    if norm == "linf":
        assert Fraction(int(np.abs(moved).max()), 255) <= Fraction(eps)
    else:
        assert Fraction(int((moved**2).sum((1, 2, 3)).max()), 255**2) <= Fraction(eps) ** 2
    right = (held["clean_predictions"] == held["labels"]) & (held["attacked_predictions"] == held["labels"])
    assert rounded["robust_8bit"]["accuracy"] == pytest.approx(right.mean())
    # the pictures are the images, as any other program reads them
    read = run(
        *(
            "attack",
            pipeline.model,
            "--data",
            "pics",
            "--split",
            "train",
            "--classes-from",
            "all",
            "--eps",
            "0",
            "--json",
            "--force",
        ),
        cwd=tmp_path,
    )
    assert read.code == 0, read.stderr
    again = load_file(tmp_path / "adversarial.st")
    assert sorted(image.tobytes() for image in again["clean_images"]) == sorted(
        image.tobytes() for image in levels.round().astype(np.uint8)
    )


def test_the_table_shows_both_accuracies(pipeline: Pipeline, tmp_path: Path) -> None:
    line = ("attack", pipeline.model, "--data", pipeline.photos, "--attack", "fgsm", "--png", "pics")
    done = inside(tmp_path, *line)
    assert done.code == 0, done.stderr
    for text in ("robust, exact", "robust, after rounding to 8 bits", "pics: the images as 8-bit PNG"):
        assert text in done.stdout
    before = tree(tmp_path)
    assert inside(tmp_path, *line).code == 0, "as if the first process was killed after its work"
    assert tree(tmp_path) == before
    next((tmp_path / "pics").rglob("*.png")).unlink()
    check_refusal(inside(tmp_path, *line), 2, "'pics' is not empty")


def test_dlr_runs_with_four_classes(pipeline: Pipeline, tmp_path: Path) -> None:
    record = attack(pipeline, tmp_path, "--classes-from", "seen", "--attack", "dlr-pgd-3")
    assert record["ways"] == 4
    assert record["attack"]["loss"] == "dlr"


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--attack", "dlr-pgd-5"], 2, ["at least 4 candidate classes, and there are 2", "margin-pgd-20"]),
        (["--png", "pics"], 2, ["'pics' is not empty", "--force"]),
        (["--png", "pics", "--force"], 2, ["'pics' has other files than images", "notes.txt"]),
        (["--png", "pics/notes.txt"], 4, ["a file is in the way"]),
        (["--png", "new", "-o", "new/a.st"], 2, ["is in the folder of --png"]),
        (["--norm", "l1"], 2, ["unknown norm 'l1'", "linf, l2"]),
        (["--norm", "l2", "--attack", "cw-linf"], 2, ["cw-linf is an L-inf attack", "margin-pgd-N"]),
        (["--norm", "l2", "--eps", "-1"], 2, ["not a number of at least 0", "128/255"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals_leave_everything_as_it_was(
    pipeline: Pipeline, tmp_path: Path, args: list[str], code: int, says: list[str]
) -> None:
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics/notes.txt").write_text("the only copy")
    before = tree(tmp_path)
    check_refusal(run("attack", pipeline.model, "--data", pipeline.photos, *args, cwd=tmp_path), code, *says)
    assert tree(tmp_path) == before


def test_eval_in_l2_and_with_an_attack_that_does_not_fit(pipeline: Pipeline, tmp_path: Path) -> None:
    line = ("eval", pipeline.model, "--data", pipeline.photos)
    done = run(*line, "--norm", "L2", "--eps", "1.5", "--attack", "margin-pgd-2", "--json", cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert {"clip": [0.0, 1.0], "eps": "1.5", "norm": "L2"}.items() <= json.loads(done.stdout)["threat"].items()
    episodes = ("--protocol", "episodes", "--ways", 2, "--episodes", 2, "--queries", 2)
    for more in ((), episodes):
        refused = run(*line, "--attack", "dlr-pgd-2", *more, cwd=tmp_path)
        check_refusal(refused, 2, "at least 4 candidate classes, and there are 2")
