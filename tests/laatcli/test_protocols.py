"""The protocols of `laat eval`: sweeps of shots, seen and novel together, other data, a quick look; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.laatcli.conftest import NAMES, QUICK, SEEN, Pipeline, class_folders
from tests.laatcli.shell import check_refusal, refused, run

EPISODES = ("--protocol", "episodes", "--ways", 2, "--queries", 3, "--episodes", 6)


def evaluated(pipeline: Pipeline, cwd: Path, *args: object) -> dict[str, Any]:
    done = run("eval", pipeline.model, "--data", pipeline.photos, *args, "--no-checks", "--json", "--force", cwd=cwd)
    assert done.code == 0, done.stderr
    return json.loads(done.stdout)


def test_a_sweep_of_shots_with_blending(pipeline: Pipeline, tmp_path: Path) -> None:
    args = (*EPISODES, "--shots", "0,1,3", "--blend", 2, "--attack", "fgsm")
    report = evaluated(pipeline, tmp_path, *args, "--plot", "sweep.png")
    assert [row["protocol"] for row in report["results"]] == ["0-shot", "1-shot", "3-shot"]
    assert (report["protocol"]["shots"], report["protocol"]["blend"]) == ([0, 1, 3], 2.0)
    assert (tmp_path / "sweep.png").exists()
    shown = run("eval", pipeline.model, "--data", pipeline.photos, *args, "--no-checks", cwd=tmp_path)
    assert all(f"{shots}-shot" in shown.stdout for shots in (0, 1, 3))
    plain = evaluated(pipeline, tmp_path, *EPISODES, "--shots", "0,1,3", "--attack", "fgsm")
    assert plain["results"][0] == report["results"][0]
    assert plain["results"][1] != report["results"][1]


def test_seen_and_novel_together(pipeline: Pipeline, tmp_path: Path) -> None:
    args = ("--protocol", "gzsl", "--attack", "fgsm", "--attack", "margin-pgd-3", "--no-checks", "--plot", "curves.png")
    done = run("eval", pipeline.model, "--data", pipeline.photos, *args, cwd=tmp_path)
    assert done.code == 0, done.stderr
    for text in ("S (seen)", "U (novel)", "AUSUC", "4 seen and 2 novel classes are candidates together", "at bias 0"):
        assert text in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    (row,) = report["results"]
    assert (row["group"], row["classes"], row["images"]) == ("seen+novel", 6, 36)
    assert not any("held-out" in note for note in report["notes"])  # the test split was not trained on
    curve = row["gzsl"]["curves"]["worst"]
    assert curve["novel"] == sorted(curve["novel"])
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size[0] > 500
    trained = evaluated(pipeline, tmp_path, "--split", "train", "--protocol", "gzsl", "--attack", "none")
    assert any("S is not on held-out images" in note for note in trained["notes"])


def test_a_quick_look_is_drawn_by_its_seed_and_said(pipeline: Pipeline, tmp_path: Path) -> None:
    args = ("--classes-from", "all", "--attack", "fgsm", "--max-per-class", 3, "--max-images", 12)
    report = evaluated(pipeline, tmp_path, *args)
    assert report["results"][0]["images"] == 12
    assert report["sample"] == {"max_images": 12, "max_per_class": 3, "seed": 0, "images": 12, "of": 36}
    assert report["notes"][0] == "a subset: 12 of 36 images, sampled with seed 0"
    again = evaluated(pipeline, tmp_path, *args, "--batch-size", 5)
    assert again["data"]["sha256"] == report["data"]["sha256"]
    other = evaluated(pipeline, tmp_path, *args, "--seed", 1)
    assert other["data"]["sha256"] != report["data"]["sha256"]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose anchors come from the bundled encoder, expanded; and photos of other classes."""
    folder = tmp_path_factory.mktemp("named") / "here"
    photos = class_folders(folder / "photos", 4)
    (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    (folder / "other.txt").write_text("purple ring\nRed_Circle\ncyan heart\n")
    class_folders(folder / "other", 5, names=("purple ring", "red circle", "cyan heart"), first=20)
    for line in (
        ("anchors", "--classes", "classes.txt", "--model", "demo", "--seen", SEEN),
        ("expand", "anchors.st"),
        ("train", "--data", photos, "--anchors", "expanded.st", *QUICK, "--out", "run"),
    ):
        done = run(*line, cwd=folder)
        assert done.code == 0, done.stderr
    return folder


def test_another_data_set_by_its_names(named: Path) -> None:
    args = (
        "eval",
        "run/model.st",
        "--data",
        "other",
        "--split",
        "train",
        "--classes",
        "other.txt",
        "--attack",
        "fgsm",
        "--json",
    )
    done = run(*args, "-o", "other.json", cwd=named)
    assert done.code == 0, done.stderr
    report = json.loads(done.stdout)
    (row,) = report["results"]
    assert (row["group"], row["classes"], row["images"]) == ("all", 3, 15)
    assert (
        "3 classes named after training, moved by its own fitted expansion; trained classes are recognized by name"
        in report["notes"]
    )
    assert "all: 1 of 3 classes were trained on" in report["notes"]
    # the same as encoding the names by hand
    made = run("anchors", "--classes", "other.txt", "--model", "demo", "-o", "other.st", cwd=named)
    assert made.code == 0, made.stderr
    by_hand = run(*args[:6], "--anchors", "other.st", "--classes-from", "all", *args[8:], "-o", "by-hand.json", cwd=named)
    assert by_hand.code == 0, by_hand.stderr
    assert json.loads(by_hand.stdout)["results"] == report["results"]


def test_anchors_of_another_encoder_are_refused_naming_both(named: Path) -> None:
    made = run("anchors", "--classes", "other.txt", "--source", "random", "--dim", 64, "-o", "random.st", cwd=named)
    assert made.code == 0, made.stderr
    args = ("eval", "run/model.st", "--data", "other", "--anchors", "random.st")
    width = json.loads(run("inspect", "expanded.st", "--json", cwd=named).stdout)
    says = ["another encoder than the checkpoint's", "'random' there and 'text' here"]
    refused(named, *args, code=3, says=says if "64" in json.dumps(width) else ["width 64"])


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ((*EPISODES, "--shots", "many"), 2, ["--shots 'many' is not a list of whole numbers", "0,1,5"]),
        ((*EPISODES, "--shots", "0,,1"), 2, ["not a list of whole numbers"]),
        ((*EPISODES, "--shots", "1,5,1"), 2, ["names 1 twice"]),
        ((*EPISODES, "--shots", "0,-1"), 2, ["--shots -1 is too few"]),
        ((*EPISODES, "--shots", "0,1,50"), 2, ["has 6 images, an episode needs 50 shots + 3 queries"]),
        (("--protocol", "episodes", "--episodes", "0"), 2, ["--episodes is 0", "at least 1"]),
        (("--shots", "0,1"), 2, ["--shots 0,1 is for episodes", "--protocol episodes"]),
        ((*EPISODES, "--blend", "2"), 2, ["--blend needs support images"]),
        ((*EPISODES, "--support-embeddings", "raw"), 2, ["--support-embeddings needs support images"]),
        ((*EPISODES, "--shots", "1", "--blend", "-2"), 2, ["--blend is -2"]),
        ((*EPISODES, "--shots", "1", "--blend", "nan"), 2, ["--blend is nan"]),
        (("--protocol", "some-way"), 2, ["unknown --protocol 'some-way'", "all-way, episodes, gzsl"]),
        (("--protocol", "gzsl", "--classes-from", "novel"), 2, ["takes all seen and novel classes", "--classes-from"]),
        (("--max-images", "0"), 2, ["--max-images is 0"]),
        (("--max-images", "1"), 2, ["--max-images 1 leaves some of the 2 classes without an image"]),
        (("--max-per-class", "-3"), 2, ["--max-per-class is -3"]),
        (("--classes", "names.txt"), 3, ["come from random, which cannot encode names", "those of a text encoder for others"]),
        (("--classes", "gone.txt"), 3, ["'gone.txt' does not exist"]),
        (("--classes", "names.txt", "--anchors", "anchors.st"), 2, ["given twice, by --classes and by --anchors"]),
    ],
)
def test_what_is_refused(pipeline: Pipeline, tmp_path: Path, args: tuple[object, ...], code: int, says: list[str]) -> None:
    (tmp_path / "names.txt").write_text("red ring\nblue ring\n")
    (tmp_path / "anchors.st").write_bytes((pipeline.folder / "anchors.st").read_bytes())
    refused(tmp_path, "eval", pipeline.model, "--data", pipeline.photos, *args, code=code, says=says)


def test_saved_images_are_scored_as_they_are(pipeline: Pipeline, tmp_path: Path) -> None:
    saved = ("eval", pipeline.model, "--adversarial", pipeline.folder / "adversarial.st")
    for args in (("--max-images", 5), ("--protocol", "gzsl"), ("--eps", "1/255"), ("--data", "nowhere")):
        says = f"{args[0]} cannot be combined with --adversarial, whose file says what was attacked and how"
        refused(tmp_path, *saved, *args, code=2, says=[says])


def test_nothing_is_written_twice_or_over_what_is_read(pipeline: Pipeline, tmp_path: Path) -> None:
    for name in ("model.st", "adversarial.st"):
        source = pipeline.model if name == "model.st" else pipeline.folder / name
        (tmp_path / name).write_bytes(source.read_bytes())
    evaluate = ("eval", "model.st", "--data", pipeline.photos)
    for args, says in (
        ((*evaluate, "-o", "model.st"), "--output would replace 'model.st', which MODEL reads"),
        ((*evaluate, "-o", "a.json", "--plot", "a.json"), "--output and --plot name the same file"),
        ((*evaluate, "-o", "a.json", "--plot", "a.rows.parquet"), "--rows and --plot name the same file"),
        (("eval", "model.st", "--adversarial", "adversarial.st", "-o", "adversarial.st"), "which --adversarial reads"),
        (("attack", "model.st", "--data", pipeline.photos, "-o", "model.st"), "which MODEL reads"),
    ):
        check_refusal(run(*args, cwd=tmp_path), 2, says)
    assert (tmp_path / "model.st").read_bytes() == pipeline.model.read_bytes()


def test_what_is_run_unless_told_otherwise_is_a_suite(pipeline: Pipeline, tmp_path: Path) -> None:
    args = ("--eps", "2/255", "--no-checks")
    report = evaluated(pipeline, tmp_path, *args)
    assert report["suite"] == "quick v1"
    assert report == evaluated(pipeline, tmp_path, *args, "--suite", "quick")


def test_gzsl_on_a_checkpoint_without_novel_classes_and_data_without_its_classes(pipeline: Pipeline, tmp_path: Path) -> None:
    seen = "\n".join(NAMES[:SEEN])
    (tmp_path / "seen.txt").write_text(seen)
    made = run("anchors", "--classes", "seen.txt", "--source", "random", "--dim", 16, "-o", "seen.st", cwd=tmp_path)
    assert made.code == 0, made.stderr
    args = ("eval", pipeline.model, "--data", pipeline.photos, "--anchors", "seen.st", "--protocol", "gzsl")
    refused(tmp_path, *args, code=3, says=["the checkpoint has no novel classes", "--protocol gzsl"])
    class_folders(tmp_path / "few", 6, names=NAMES[:3])
    says = ["classes of the anchors are not in the data 'few'", "nearest"]
    refused(tmp_path, "eval", pipeline.model, "--data", "few", "--protocol", "gzsl", code=3, says=says)
