"""Help, completion, pipes, inspect, doctor, interruption, and evaluations in their variants, through the installed command."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from stages import __version__
from tests.laatcli.conftest import NAMES, QUICK, Pipeline, class_folders, draw_picture
from tests.laatcli.inside import inside
from tests.laatcli.shell import LAAT, environment, run, shell

COMMANDS = (
    *("anchors", "merge", "expand", "train", "attack", "eval", "compare"),
    *("report", "inspect", "plot", "suites", "demo", "doctor"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples(tmp_path: Path, command: str) -> None:
    done = run(command, "--help", cwd=tmp_path)
    assert done.code == 0
    examples = [line for line in done.stdout.partition("Examples")[2].splitlines() if "laat " in line]
    assert len(examples) in (2, 3)
    assert all(f"laat {command}" in line for line in examples)
    for option in ("--json", "--quiet", "--debug"):
        assert option in done.stdout


def test_the_command_line_starts_without_torch(tmp_path: Path) -> None:
    script = (
        "import sys, laatcli.app; sys.exit(', '.join({'torch', 'datasets', 'matplotlib', 'open_clip'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_expand_and_inspect_need_no_torch(pipeline: Pipeline, tmp_path: Path) -> None:
    script = (
        "import sys\nsys.modules['torch'] = None\nfrom laatcli.app import app\n"
        f"app(['expand', r'{pipeline.folder / 'anchors.st'}'], standalone_mode=False)\n"
        "app(['inspect', 'expanded.st'], standalone_mode=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "expanded.st").read_bytes() == (pipeline.folder / "expanded.st").read_bytes()


def test_version_and_module(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path).stdout.strip() == f"laat {__version__}"
    done = shell(f"{sys.executable} -m laatcli --help", tmp_path)
    assert done.code == 0
    assert all(command in done.stdout for command in COMMANDS)


def test_completion_can_be_installed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    # a second command keeps bash there as the parent, which is how the shell is found out
    done = subprocess.run(
        ["bash", "-c", f"{LAAT} --install-completion; exit $?"],
        cwd=tmp_path,
        env=environment(home, SHELL="/bin/bash"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "laat" in "".join(path.read_text() for path in home.rglob("*") if path.is_file())


def test_pipes_give_the_same_bytes_as_files(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text((pipeline.folder / "classes.txt").read_text())
    make = "laat anchors --classes classes.txt --source random --dim 16 --seen 4 -o -"
    line = f"{make} | laat expand - -o - | tee e.st | laat inspect - --json"
    done = shell(line, tmp_path)
    assert done.code == 0, done.stderr
    assert (tmp_path / "e.st").read_bytes() == (pipeline.folder / "expanded.st").read_bytes()
    record = json.loads(done.stdout)
    assert record["inputs"]["anchors"]["sha256"] == pipeline.record("anchors")["sha256"]


def test_a_report_on_standard_output(pipeline: Pipeline, tmp_path: Path) -> None:
    args = ("--data", pipeline.photos, "--attack", "fgsm", "--attack", "pgd-2", "-o", "-")
    done = run("eval", pipeline.model, *args, cwd=tmp_path)
    assert done.code == 0, done.stderr
    held = json.loads((pipeline.folder / "report.json").read_text())
    # the digest covers the reference to the rows
    assert {**json.loads(done.stdout), "digest": None} == {**held, "rows": None, "digest": None}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "anchors.st",
            ("anchors, format 2", "4 seen classes: red circle", "origin.source", "mean_cosine", "no other artifact"),
        ),
        ("expanded.st", ("expansion.theta_max", "expansion.centre", "anchors: anchors ")),
        (
            "run/model.st",
            ("model, format 2", "architecture.backbone", "conv4-8", "training.settings.eps", "8/255", "weights ("),
        ),
        ("adversarial.st", ("adversarial, format 2", "2 novel classes", "threat.eps", "model: model ", "clean_images")),
    ],
)
def test_inspect(pipeline: Pipeline, name: str, says: tuple[str, ...]) -> None:
    done = run("inspect", name, cwd=pipeline.folder)
    assert done.code == 0, done.stderr
    for text in says:
        assert text in done.stdout, text


def test_doctor(tmp_path: Path) -> None:
    record = json.loads(run("doctor", "--json", cwd=tmp_path).stdout)
    assert record["laat"] == __version__
    assert record["demo_weights"] == "here"
    assert (record["bf16_attack_speedup"] is None) == (record["bf16_units"] is None)
    assert record["default_weights"] == "not here"  # the tests' hub cache is empty
    assert any("--model demo" in text for text in record["missing"])
    assert "cpu" in record["devices"]


def accuracies(pipeline: Pipeline, cwd: Path, *args: object) -> list[dict[str, object]]:
    done = run("eval", pipeline.model, *args, "--no-checks", "--json", "--force", cwd=cwd)
    assert done.code == 0, done.stderr
    return json.loads(done.stdout)["results"]  # type: ignore[no-any-return]


def test_the_batch_size_does_not_change_the_figures(pipeline: Pipeline, tmp_path: Path) -> None:
    common = ("--data", pipeline.photos, "--classes-from", "all", "--attack", "margin-pgd-3", "--batch-size")
    assert accuracies(pipeline, tmp_path, *common, 5) == accuracies(pipeline, tmp_path, *common, 64)


def test_episodes_with_and_without_shots(pipeline: Pipeline, tmp_path: Path) -> None:
    common = (
        "--data",
        pipeline.photos,
        "--protocol",
        "episodes",
        "--ways",
        2,
        "--queries",
        3,
        "--episodes",
        8,
        "--attack",
        "fgsm",
    )
    (zero,) = accuracies(pipeline, tmp_path, *common)
    (one,) = accuracies(pipeline, tmp_path, *common, "--shots", 2)
    for result in (zero, one):
        assert (result["episodes"], result["ways"], result["points"]) == (8, 2, 48)
        assert result["interval"] == "Student t 95 % over episodes"
    assert zero["clean"] != one["clean"]


def test_groups_models_and_saved_images_in_one_table(pipeline: Pipeline, tmp_path: Path) -> None:
    models = (pipeline.model, pipeline.folder / "run/last.st")
    args = (
        "--data",
        pipeline.photos,
        "--classes-from",
        "seen",
        "--classes-from",
        "novel",
        "--attack",
        "fgsm",
        "--plot",
        "r.png",
        "--no-checks",
    )
    done = run("eval", *models, *args, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[2:6]] == [
        ["run", "seen"],
        ["last", "seen"],
        ["run", "novel"],
        ["last", "novel"],
    ]
    assert "seen: 4 of 4 classes were trained on" in done.stdout
    with Image.open(tmp_path / "r.png") as picture:
        assert picture.size[0] > 500
    adversarial = ("--adversarial", pipeline.folder / "adversarial.st", "-o", "saved.json", "--json")
    saved = inside(tmp_path, "eval", *models, *adversarial)
    assert saved.code == 0, saved.stderr
    report = json.loads(saved.stdout)
    assert list(report["results"][0]["attacks"]) == ["saved pgd-2"]
    assert report["threat"]["knowledge"] == "white-box"  # of one epoch, the best one is the last
    assert report["threat"]["grid"] == [16, 16]


def test_classes_named_later(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("red star\nblue star\n")
    assert run("anchors", "--classes", "new.txt", "--source", "random", "--dim", 16, cwd=tmp_path).code == 0
    args = ("--data", pipeline.photos, "--anchors", "anchors.st", "--classes-from", "all", "--attack", "none")
    (result,) = accuracies(pipeline, tmp_path, *args)
    assert (result["classes"], result["images"]) == (2, 12)


def test_mixed_files_parquet_and_saved_data_give_a_model(pipeline: Pipeline, tmp_path: Path) -> None:
    """The same pictures as a folder of mixed files, as parquet and as a saved data set."""
    folder = class_folders(tmp_path / "mixed", 4)
    for name in NAMES:
        place = folder / name.replace(" ", "_")
        draw_picture(1, 90).convert("L").save(place / "grey.png")
        draw_picture(1, 91).convert("RGBA").save(place / "alpha.png")
        draw_picture(1, 92).save(place / "lossy.jpg")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))})
    rows = [(draw_picture(at, number), at) for at in range(len(NAMES)) for number in range(5)]
    table = datasets.Dataset.from_dict(
        {"image": [{"bytes": as_png(image), "path": None} for image, _ in rows], "label": [label for _, label in rows]},
        features=features,
    )
    table.to_parquet(tmp_path / "table.parquet")
    table.save_to_disk(tmp_path / "saved")
    shas = []
    for source in ("mixed", "table.parquet", "saved"):
        train = (
            "train",
            "--anchors",
            pipeline.folder / "expanded.st",
            "--data",
            source,
            *QUICK,
            "--out",
            f"run-{source}",
            "--json",
        )
        done = run(*train, cwd=tmp_path)
        assert done.code == 0, done.stderr
        held = json.loads(run("inspect", f"run-{source}/model.st", "--json", cwd=tmp_path).stdout)
        assert held["params"]["training"]["data"]["divided"] == "train"
        shas.append(held["params"]["training"]["data"]["sha256"])
    assert shas[1] == shas[2] != shas[0]


def as_png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, format="png")
    return data.getvalue()


def test_an_interrupted_training_keeps_the_last_finished_epoch(pipeline: Pipeline, tmp_path: Path) -> None:
    home = tmp_path.parent / f"{tmp_path.name}-home"
    home.mkdir()
    line = [str(LAAT), "train", "--anchors", str(pipeline.folder / "expanded.st"), "--data", str(pipeline.photos)]
    line += ["--epochs", "10000", "--steps", "1", "--backbone", "conv4-8"]
    train = subprocess.Popen(
        line,
        cwd=tmp_path,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    metrics = tmp_path / "run/metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists() and train.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(train.pid, signal.SIGINT)
    _, stderr = train.communicate(timeout=60)
    assert train.returncode == 130, stderr
    assert "Traceback" not in stderr
    epochs = len(metrics.read_text().splitlines())
    kept = next(line for line in stderr.splitlines() if line.startswith("stopped: "))
    assert kept == "stopped: checkpoint saved to run/state.st; continue with --resume auto"
    assert (tmp_path / "run/state.st").exists()
    assert epochs >= 1
    held = json.loads(run("inspect", "run/last.st", "--json", cwd=tmp_path).stdout)
    assert held["params"]["training"]["selection"]["epoch"] == epochs
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["last.st", "metrics.jsonl", "model.st", "state.st"]


def test_published_features_give_the_published_expansion(tmp_path: Path) -> None:
    shared = Path(__file__).parents[3] / "shared/anchors"
    if not shared.is_dir():
        pytest.skip("needs the published text features")
    features = f"{shared / 'cifar-fs_clip-vit-b-16.safetensors'}:text_features"
    names = shared / "cifar-fs_classes.txt"
    done = run("anchors", "--classes", names, "--features", features, "--seen", 64, "--val", 16, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert run("expand", "anchors.st", cwd=tmp_path).code == 0
    from safetensors.numpy import load_file

    published = load_file(shared / "cifar-fs_clip-vit-b-16_expanded.safetensors")["expanded"]
    assert np.abs(load_file(tmp_path / "expanded.st")["vectors"] - published).max() < 2e-6
