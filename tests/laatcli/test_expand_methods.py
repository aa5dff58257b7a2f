"""`laat expand --method`, and what is done with its anchors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.laatcli.conftest import NAMES, QUICK, class_folders
from tests.laatcli.inside import all_inside, inside
from tests.laatcli.shell import check_refusal

CENTRE, WHITEN = ("--method", "centre"), ("--method", "whiten", "--components", 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with text anchors of four seen and two novel classes, and models that were trained with two of their maps."""
    folder = tmp_path_factory.mktemp("methods")
    class_folders(folder / "photos", 4)
    (folder / "c.txt").write_text("\n".join(NAMES) + "\n")
    lines: list[tuple[object, ...]] = [("anchors", "--classes", "c.txt", "--model", "demo", "--seen", 4)]
    for name, options in (("centre", CENTRE), ("whiten", WHITEN)):
        lines.append(("expand", "anchors.st", *options, "-o", f"{name}.st"))
        lines.append(("train", "--data", "photos", *QUICK, "--anchors", f"{name}.st", "--out", name))
    for line in lines:
        done = inside(folder, *line)
        assert done.code == 0, done.stderr
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "here"))


def test_what_is_printed_before_and_after(here: Path) -> None:
    done = inside(here, "expand", "anchors.st", *WHITEN)
    assert "Spearman correlation with the cosines before: all 0." in done.stdout
    assert "kept of the squared distance to the mean, of classes that the map was not fitted on: " in done.stdout
    assert "expanded.st: anchors, whitened components=2 shrinkage=0.1" in done.stdout
    graded = inside(here, "expand", "anchors.st", "--angle", 10)
    assert "the largest angle of a seen anchor to the centre shrank from " in graded.stdout
    assert "° to 10°" in graded.stdout


def test_the_record_of_json(here: Path) -> None:
    record = json.loads(inside(here, "expand", "anchors.st", *WHITEN, "--json").stdout)
    assert record["map"] == {"method": "whiten", "components": 2, "shrinkage": 0.1}
    assert set(record["spearman"]) == {"all", "seen"}  # of two unseen classes there is one pair
    assert -1 <= record["spearman"]["all"] < 1
    assert 0 < record["kept"]["min"] <= record["kept"]["mean"] <= record["kept"]["max"] < 1
    published = json.loads(inside(here, "expand", "anchors.st", "--json").stdout)
    assert published["map"]["method"] == "paper"
    assert published["angle_degrees"] == 90


def test_seen_classes_that_become_a_simplex_are_warned_of(here: Path) -> None:
    done = inside(here, "expand", "anchors.st", "--method", "whiten", "--shrinkage", 0)
    assert done.code == 0
    assert "seen undefined" in done.stdout
    assert "the cosines of the seen classes are all the same" in done.stderr
    assert "nan" not in done.stdout + done.stderr
    assert inside(here, "anchors", "--classes", "c.txt", "--source", "simplex", "-o", "simplex.st").code == 0
    kept = inside(here, "expand", "simplex.st", *CENTRE)
    assert "all undefined, seen undefined" in kept.stdout
    assert "nothing is left" not in kept.stderr  # there was nothing
    # of the seen classes neither, though the novel ones differ
    np.save(here / "f.npy", np.vstack([np.eye(4, 8) + 1, np.random.default_rng(0).random((2, 8))]))
    assert inside(here, "anchors", "--classes", "c.txt", "--features", "f.npy", "--seen", 4, "-o", "imported.st").code == 0
    for name in ("paper", "centre"):
        alike = inside(here, "expand", "imported.st", "--method", name, "-o", f"{name}-alike.st")
        assert "seen undefined" in alike.stdout
        assert "nothing is left" not in alike.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((*CENTRE, "--angle", 90), "--angle has no effect with --method centre. Add --method paper"),
        (("--shrinkage", 0.5), "--shrinkage has no effect with --method paper. Add --method whiten"),
        ((*WHITEN, "--like", "centre.st"), "--method cannot be combined with --like"),
        (("--like", "centre.st", "--angle", 90), "--angle cannot be combined with --like"),
        (("--method", "whiten", "--components", 4), "--components is 4, and the 4 seen anchors differ in 3 directions"),
    ],
)
def test_options_without_effect_are_refused(here: Path, options: tuple[object, ...], says: str) -> None:
    check_refusal(inside(here, "expand", "anchors.st", *options), 2, says)


@pytest.mark.parametrize("name", ["centre", "whiten"])
def test_names_that_come_later_take_the_map(here: Path, name: str) -> None:
    whole = load_file(here / f"{name}.st")
    (here / "later.txt").write_text(f"{NAMES[5]}\n{NAMES[0]}\n")
    for line in (
        ("anchors", "--classes", "later.txt", "--model", "demo", "-o", "later.st"),
        ("expand", "later.st", "--like", f"{name}.st", "-o", "like.st"),
        ("anchors", "--classes", "later.txt", "--like", f"{name}/model.st", "-o", "named.st"),
    ):
        done = inside(here, *line)
        assert done.code == 0, done.stderr
    for file in ("like.st", "named.st"):
        found = load_file(here / file)
        np.testing.assert_allclose(found["vectors"], whole["vectors"][[5, 0]], atol=1e-6)
        for tensor in (key for key in whole if key.startswith("expansion.")):
            np.testing.assert_array_equal(found[tensor], whole[tensor])
    predicted = inside(here, "predict", f"{name}/model.st", "photos", "--names", "okapi,red star", "--json")
    assert predicted.code == 0, predicted.stderr


def test_reports_and_their_groups_tell_the_methods_apart(here: Path) -> None:
    for name in ("centre", "whiten"):
        done = inside(
            here, "eval", f"{name}/model.st", "--data", "photos", "--attack", "fgsm", "--no-checks", "-o", f"{name}.json"
        )
        assert done.code == 0, done.stderr
    table = inside(
        here, "report", "centre.json", "whiten.json", "--group-by", "anchors", "--baseline", "centred", "--format", "csv"
    )
    assert table.code == 0, table.stderr
    assert "\ncentred," in table.stdout
    assert "\nwhitened components=2 shrinkage=0.1," in table.stdout
    both = ("blend-weights", "centre/model.st", "whiten/model.st", "--weight", 0.5, "-o", "blend.st")
    check_refusal(inside(here, *both), 3, "differ in the expansion, the anchors")


def test_new_names_of_imported_features_take_the_way_that_the_error_names(here: Path) -> None:
    np.save(here / "f.npy", np.random.default_rng(0).normal(size=(6, 8)))
    np.save(here / "new.npy", np.load(here / "f.npy")[:2])
    imported = ("anchors", "--classes", "c.txt", "--features", "f.npy", "--seen", 4, "-o", "imported.st")
    all_inside(here, imported, ("expand", "imported.st", *CENTRE, "-o", "moved.st"))
    says = "import features of the names from the same encoder with --features; then `laat expand anchors.st --like moved.st`"
    check_refusal(inside(here, "anchors", "--names", "okapi,pagoda", "--like", "moved.st", "-o", "anchors.st"), 3, says)
    all_inside(
        here,
        ("anchors", "--names", "okapi,pagoda", "--features", "new.npy", "-o", "anchors.st"),
        ("expand", "anchors.st", "--like", "moved.st", "-o", "expanded.st"),
    )
    new, old = (load_file(here / name)["vectors"] for name in ("expanded.st", "moved.st"))
    np.testing.assert_allclose(new, old[:2], atol=1e-6)


def test_the_map_of_a_checkpoint(here: Path) -> None:
    (here / "later.txt").write_text(f"{NAMES[5]}\n{NAMES[0]}\n")
    later = ("anchors", "--classes", "later.txt", "--model", "demo", "-o", "later.st")
    all_inside(here, later, ("expand", "later.st", "--like", "centre/model.st", "-o", "like.st"))
    np.testing.assert_allclose(
        load_file(here / "like.st")["vectors"], load_file(here / "centre.st")["vectors"][[5, 0]], atol=1e-6
    )
    (here / "r.json").write_text("{}")
    check_refusal(inside(here, "expand", "later.st", "--like", "r.json", "-o", "x.st"), 3, "r.json")


def test_a_map_is_not_for_anchors_of_another_source(here: Path) -> None:
    width = load_file(here / "anchors.st")["vectors"].shape[1]
    np.save(here / "f.npy", load_file(here / "anchors.st")["vectors"])
    imported = ("anchors", "--classes", "c.txt", "--features", "f.npy", "--seen", 4, "-o", "imported.st")
    random = ("anchors", "--classes", "c.txt", "--source", "random", "--dim", width, "-o", "random.st")
    all_inside(here, imported, random, ("expand", "imported.st", *CENTRE, "-o", "moved.st"))
    done = inside(here, "expand", "random.st", "--like", "moved.st", "-o", "x.st")
    check_refusal(done, 3, "fitted on anchors that come from features, and these come from random")
    assert not (here / "x.st").exists()


def test_what_a_map_keeps_is_of_classes_that_it_was_not_fitted_on(here: Path) -> None:
    def kept(*line: object) -> dict[str, float]:
        found: dict[str, float] = json.loads(inside(here, "expand", "anchors.st", *line, "--json").stdout)["kept"]
        return found

    assert kept("--like", "whiten.st", "-o", "again.st") == kept(*WHITEN)
