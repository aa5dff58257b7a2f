"""A repeated `laat eval` or `laat attack` is up to date; results of other inputs are not replaced without --force."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from laatcli.app import app
from stages.evaluation import evaluate
from stages.files import artifacts
from tests.laatcli.conftest import Pipeline
from tests.laatcli.shell import tree

EVAL = ("eval", "model.st", "--data", "photos", "--attack", "fgsm", "--no-checks")
ATTACK = ("attack", "model.st", "--data", "photos", "--attack", "fgsm")


@pytest.fixture
def here(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a checkpoint and photos."""
    shutil.copy(pipeline.model, tmp_path)
    shutil.copytree(pipeline.photos, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def laat(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def done(*args: object) -> str:
    """Standard output of a command that works."""
    found = laat(*args)
    assert found.exit_code == 0, found.output
    return found.stdout


def refused(*args: object, code: int = 2) -> str:
    """The error of a command that is refused and leaves every file as it was."""
    before = tree(Path())
    found = laat(*args)
    assert found.exit_code == code, found.output
    assert tree(Path()) == before
    return found.stderr.splitlines()[-1]


def times(*names: str) -> list[int]:
    return [os.stat(name).st_mtime_ns for name in names]


def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("stages.evaluation.evaluate.evaluate", fail)
    monkeypatch.setattr("stages.evaluation.saved_images.score_saved", fail)
    monkeypatch.setattr("stages.evaluation.attack_stage.attack_images", fail)


def test_the_same_evaluation_is_up_to_date(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = done(*EVAL).splitlines()
    before = times("report.json", "report.rows.parquet")
    as_json = done(*EVAL, "--json", "-o", "other.json")
    no_work(monkeypatch)
    for more in ((), ("--batch-size", 7), ("--device", "cpu"), ("--rows", "none")):
        again = done(*EVAL, *more).splitlines()
        assert again[:-1] == first[:-1]
        assert again[-1] == "report.json is up to date: same models, images and parameters (--force evaluates again)"
    assert json.loads(done(*EVAL, "--json", "-o", "other.json")) == json.loads(as_json)
    done(*EVAL, "--plot", "new.png")
    assert Path("new.png").is_file()
    assert times("report.json", "report.rows.parquet") == before


def test_a_report_of_other_inputs_is_not_replaced(here: Path) -> None:
    done(*EVAL)
    for more, says in (
        (("--attack", "pgd-1"), "--attack was fgsm and is fgsm, pgd-1"),
        (("--eps", "4/255"), "--eps was 8/255 and is 4/255"),
        (("--eps", "0.03137254901960784"), "--eps was 8/255 and is 0.03137254901960784"),
        (("--seed", 1), "--seed was 0 and is 1"),
        (("--classes-from", "seen"), "--classes-from was novel and is seen"),
        (("--max-per-class", 2), "--max-per-class was not given and is 2"),
        (("--split", "train"), "the data was "),
        (("--protocol", "episodes", "--ways", 2, "--queries", 2, "--episodes", 2), "--protocol was all-way and is episodes"),
    ):
        error = refused(*EVAL, *more)
        assert "error: 'report.json' is the report of another evaluation: " in error
        assert says in error
        assert error.endswith("Choose another file with -o, or replace it with --force")
    assert "--checks was off and is on" in refused(*EVAL[:-1])
    picture = next(Path("photos/test/cyan_cross").iterdir())
    Image.fromarray(255 - np.asarray(Image.open(picture))).save(picture)
    assert "the data was " in refused(*EVAL)
    done(*EVAL, "--force", "--eps", "4/255")
    assert json.loads(Path("report.json").read_text())["threat"]["eps"] == "4/255"
    done(*EVAL, "--eps", "4/255")


def test_another_checkpoint_of_the_same_name_and_other_names_of_images(here: Path) -> None:
    done(*EVAL)
    picture = next(Path("photos/test/cyan_cross").iterdir())
    picture.rename(picture.with_name(f"{picture.stem}-renamed.png"))
    assert "the list of images was " in refused(*EVAL)
    read = artifacts.read("model.st", "model")
    artifacts.write(artifacts.Artifact(read.kind, read.tensors, {**read.params, "selection": {}}, read.inputs), "model.st")
    assert f"the model '{here.name}' was " in refused(*EVAL)


def test_a_report_that_another_evaluation_wrote_meanwhile_stays(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done(*EVAL, "--eps", "4/255", "-o", "first.json")
    work = evaluate.evaluate_classifiers
    before = Path("first.json").read_bytes()

    def slow(*args: Any, **options: Any) -> evaluate.Evaluation:
        shutil.copy("first.json", "report.json")
        return work(*args, **options)

    monkeypatch.setattr(evaluate, "evaluate_classifiers", slow)
    found = laat(*EVAL)
    assert found.exit_code == 2
    assert "'report.json' is the report of another evaluation: --eps was 4/255 and is 8/255" in found.stderr
    assert Path("report.json").read_bytes() == before
    assert not Path("report.rows.parquet").exists()
    done(*EVAL, "--force")


def test_another_name_or_another_model_is_told_as_such(here: Path) -> None:
    done(*EVAL)
    shutil.copy("model.st", "other.st")
    error = refused("eval", "other.st", *EVAL[2:])
    assert f"evaluation: the model 'other' ({artifacts.read('other.st', 'model').sha256[:12]}…) was added; the model '" in error
    assert "was left out. Choose" in error
    assert "anchors" not in error
    error = refused("eval", "model.st", "other.st", *EVAL[2:])
    assert "the model 'other' (" in error
    assert "anchors" not in error


def test_what_is_damaged_or_no_report_is_replaced_by_force_alone(here: Path) -> None:
    done(*EVAL)
    whole = {name: Path(name).read_bytes() for name in ("report.json", "report.rows.parquet")}
    record = json.loads(whole["report.json"])
    older = {name: value for name, value in record.items() if name not in ("identity", "digest")} | {"schema_version": 2}
    for name, data, code, says in (
        ("report.json", whole["report.json"][:-100], 3, "'report.json' is cut short or damaged"),
        ("report.json", whole["report.json"].replace(b'"fgsm"', b'"pgd-1"'), 3, "was damaged or edited"),
        ("report.json", b"a diary", 3, "'report.json'"),
        ("report.json", json.dumps(older).encode(), 2, "is of an older laat, which did not record its inputs"),
        ("report.rows.parquet", whole["report.rows.parquet"][:-9], 3, "is not the file written with the report"),
    ):
        Path(name).write_bytes(data)
        error = refused(*EVAL, code=code)
        assert says in error, name
        assert "--force" in error
        done(*EVAL, "--force")
        assert {name: Path(name).read_bytes() for name in whole} == whole


def test_rows_and_episodes_belong_to_their_report(here: Path) -> None:
    episodes = (*EVAL, "--protocol", "episodes", "--ways", 2, "--queries", 2, "--episodes", 2)
    done(*episodes)
    whole = tree(here)
    for name in ("report.rows.parquet", "report.episodes.parquet"):
        Path(name).unlink()
        done(*episodes)  # evaluated again: something is missing
        assert tree(here) == whole
    Path("report.json").unlink()  # a write that was interrupted
    done(*episodes)
    assert tree(here) == whole
    assert "'report.rows.parquet' is not of this evaluation" in refused(*EVAL, "-o", "b.json", "--rows", "report.rows.parquet")
    Path("c.episodes.parquet").write_text("a diary")
    assert "'c.episodes.parquet' is not of this evaluation" in refused(*episodes, "-o", "c.json")
    done(*EVAL, "-o", "c.json")  # has no episodes


def test_saved_images_and_the_attack_that_made_them(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = ("eval", "model.st", "--adversarial", "adversarial.st", "-o", "saved.json")
    attacked, as_json = done(*ATTACK), done(*ATTACK, "--json", "-o", "other.st")
    done(*scored)
    before = times("adversarial.st", "saved.json")
    with monkeypatch.context() as patch:
        no_work(patch)
        for more in ((), ("--batch-size", 3)):
            assert done(*ATTACK, *more) == (
                f"{attacked}adversarial.st is up to date: same model, images and parameters (--force attacks again)\n"
            )
        again = json.loads(done(*ATTACK, "--json", "-o", "other.st"))
        assert again == {**json.loads(as_json), "up_to_date": True}
        assert "saved.json is up to date" in done(*scored)
    for more, says in (
        (("--eps", "4/255"), "--eps was 8/255 and is 4/255"),
        (("--full",), "--full was off and is on"),
        (("--quantize",), "--quantize was off and is on"),
        (("--attack", "pgd-1"), "--attack was fgsm and is pgd-1"),
        (("--classes-from", "seen"), "--classes-from was novel and is seen"),
        (("--split", "train"), "the data was "),
    ):
        error = refused(*ATTACK, *more)
        assert "error: 'adversarial.st' has the images of another attack: " in error
        assert says in error
    done(*ATTACK, "--png", "pics")  # pictures need a new attack, whose images are the same
    assert times("adversarial.st", "saved.json") == before
    done(*ATTACK, "--eps", "4/255", "--force")
    assert "the adversarial images were " in refused(*scored)
    Path("adversarial.st").write_text("a diary")
    assert "--force" in refused(*ATTACK, code=3)


def test_equal_bytes_keep_their_time(here: Path) -> None:
    """What `make` looks at: anchors that are made again do not make the run older than them."""
    Path("classes.txt").write_text("cat\ndog\nbird\n")
    make = ("anchors", "--classes", "classes.txt", "--source", "random", "--dim", 8, "--seen", 2)
    expand = ("expand", "anchors.st", "--plot", "cosines.png")
    files = ("anchors.st", "expanded.st", "cosines.png")
    done(*make)
    done(*expand)
    for name in files:
        os.utime(name, (1, 1))
    done(*make)
    done(*expand)
    assert [os.stat(name).st_mtime for name in files] == [1, 1, 1]
    done(*make, "--seed", 1)
    done(*expand)
    assert min(os.stat(name).st_mtime for name in files) > 1
