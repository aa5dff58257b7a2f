"""`laat train --cache`: where the images live does not change what is trained."""

from __future__ import annotations

from pathlib import Path

from tests.laatcli.conftest import QUICK
from tests.laatcli.shell import refused, run


def test_the_run_is_the_same_wherever_the_images_are(untrained: Path) -> None:
    runs = {}
    for cache in ("auto", "device", "ram", "none"):
        out = f"run-{cache}"
        options = ("--anchors", "expanded.st", "--data", "photos", *QUICK, "--epochs", 2, "--out", out, "--cache", cache)
        done = run("train", *options, cwd=untrained)
        assert done.code == 0, done.stderr
        assert ("images are kept in memory: " in done.stderr) == (cache == "auto")
        runs[cache] = [(untrained / out / name).read_bytes() for name in ("model.st", "metrics.jsonl")]
    assert runs["none"] == runs["ram"] == runs["device"] == runs["auto"]


def test_an_unknown_cache_is_refused(untrained: Path) -> None:
    options = ("--anchors", "expanded.st", "--data", "photos", "--out", "run-disk", "--cache", "disk")
    refused(untrained, "train", *options, code=2, says=["unknown --cache 'disk'", "auto, device, ram or none"])


def test_a_corrupt_image_is_named_before_training_starts(untrained: Path) -> None:
    broken = untrained / "broken.png"
    picture = next((untrained / "photos/train/red_circle").iterdir())
    broken.write_bytes(picture.read_bytes())
    try:
        picture.write_bytes(broken.read_bytes()[:70])
        options = ("--anchors", "expanded.st", "--data", "photos", *QUICK, "--out", "run-broken", "--cache", "none")
        done = run("train", *options, cwd=untrained)
    finally:
        broken.replace(picture)
    assert done.code == 3
    assert f"red_circle/{picture.name}" in done.stderr.splitlines()[-1]
    assert not (untrained / "run-broken").exists()
