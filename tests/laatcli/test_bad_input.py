"""Mistakes in class files, values, names and settings: one line, the right exit code, nothing touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.laatcli.conftest import QUICK, Pipeline, class_folders
from tests.laatcli.shell import check_refusal, place_results, refused, run, tree

RANDOM = ("--source", "random", "--dim", "8")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, ["'names.txt' does not exist", "Check the path"]),
        (b"", ["class file 'names.txt' has no class"]),
        (b"# only a remark\n\n", ["class file 'names.txt' has no class"]),
        (b"\x89PNG\r\n\x1a\n\xff\xfe\x00", ["class file 'names.txt' is not UTF-8 text"]),
        (b"cat\0dog\n", ["it is binary"]),
        (
            b"# pets\nGuinea_pig\ncat\n\nguinea  pig\n",
            ["'names.txt' has a class twice", "lines 2 ('Guinea_pig') and 5 ('guinea  pig')", "Remove one"],
        ),
    ],
    ids=["missing", "empty", "remarks", "binary", "nul", "duplicates"],
)
def test_class_file(tmp_path: Path, content: bytes | None, says: list[str]) -> None:
    if content is not None:
        (tmp_path / "names.txt").write_bytes(content)
    refused(tmp_path, "anchors", "--classes", "names.txt", *RANDOM, code=3, says=says)


def test_class_file_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "names").mkdir()
    refused(tmp_path, "anchors", "--classes", "names", *RANDOM, code=3, says=["'names' is a folder"])


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ([], 2, ["--classes FILE", "--data DATA"]),
        (["--classes", "c.txt", "--data", "photos"], 2, ["--classes FILE", "--data DATA"]),
        (["--classes", "c.txt", "--seen", "0"], 2, ["--seen is 0", "at least 1"]),
        (["--classes", "c.txt", "--seen", "3", "--val", "1"], 2, ["--seen 3 and --val 1 do not fit 3 classes"]),
        (["--classes", "c.txt", "--seen", "2", "--seen-file", "c.txt"], 2, ["the groups are given twice"]),
        (["--classes", "c.txt", "--seen-file", "typo.txt"], 3, ["'ct'", "nearest: 'cat'"]),
        (["--classes", "c.txt", "--dim", "0"], 2, ["--dim is 0"]),
        (["--classes", "c.txt", "--source", "text", "--dim", "8"], 2, ["--dim cannot be combined with --source text"]),
        (["--classes", "c.txt", "--source", "simplex", "--seed", "1"], 2, ["--seed cannot be combined with --source simplex"]),
        (["--classes", "c.txt", "--layout", "tables"], 2, ["--layout cannot be combined with --classes"]),
        (["--classes", "c.txt", *RANDOM, "--template", "a {}"], 2, ["--template cannot be combined with --source random"]),
        (["--classes", "c.txt", "--dim", "-3"], 2, ["--dim is -3"]),
        (["--classes", "c.txt", "--dim", "1000000000000"], 2, ["--dim is 1000000000000", "1048575"]),
        (["--classes", "c.txt", "--source", "simplex", "--dim", "1"], 2, ["3 classes do not fit", "--dim of at least 2"]),
        (["--classes", "c.txt", "--source", "rnd"], 2, ["--source", "random"]),
        (["--classes", "c.txt", "--seed", "x"], 2, ["--seed", "laat anchors --help"]),
        (["--classes", "c.txt", "--clases", "d.txt"], 2, ["--clases", "--classes"]),
        (["--data", "nowhere"], 3, ["the data 'nowhere' does not exist", "parquet"]),
        (["--data", "/"], 3, ["the folder"]),
    ],
)
def test_anchors_options(tmp_path: Path, args: list[str], code: int, says: list[str]) -> None:
    (tmp_path / "c.txt").write_text("cat\ndog\ncow\n")
    (tmp_path / "typo.txt").write_text("ct\n")
    source = [] if "--source" in args else ["--source", "random"]
    if args == ["--data", "/"]:
        (tmp_path / "none").mkdir()
        args = ["--data", "none"]
    refused(tmp_path, "anchors", *args, *source, code=code, says=says)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([[1, 0], [np.nan, 1], [0, 1]], ["'dog'", "not finite"]),
        ([[1, 0], [0, 0], [0, 1]], ["'dog'", "zero"]),
        ([[1, 0], [np.inf, 0], [0, 1]], ["'dog'", "not finite"]),
        ([[1, 0], [0, 1]], ["2 rows for 3 classes"]),
        ([1, 0, 1], ["shape (3,)"]),
        (np.ones((3, 2), dtype=complex), ["complex128"]),
        (np.array([["a"] * 2] * 3), ["<U1"]),
        (np.array([[None, {}]] * 3), ["f.npy", "numpy.save"]),
    ],
    ids=["nan", "zero", "infinite", "rows", "vector", "complex", "text", "pickle"],
)
def test_features(tmp_path: Path, rows: object, says: list[str]) -> None:
    (tmp_path / "c.txt").write_text("cat\ndog\ncow\n")
    np.save(tmp_path / "f.npy", np.asarray(rows))
    refused(tmp_path, "anchors", "--classes", "c.txt", "--features", "f.npy", code=3, says=says)


@pytest.mark.parametrize("header", ["{'descr': '<f4', 'fortran_order': False, 'shape': (10**15, 16), }", "{'descr': (((", "x"])
def test_features_whose_header_lies(tmp_path: Path, header: str) -> None:
    (tmp_path / "c.txt").write_text("cat\ndog\ncow\n")
    text = header.replace("10**15", str(10**15)).encode().ljust(117) + b"\n"
    (tmp_path / "f.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64))
    refused(tmp_path, "anchors", "--classes", "c.txt", "--features", "f.npy", code=3, says=["'f.npy'", "numpy.save"])


EPS = "for example 8/255"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--eps", "8"], ["eps '8' is over 1", "Did you mean 8/255?"]),
        (["--eps", "0.5/0"], ["eps '0.5/0' divides by zero", EPS]),
        (["--eps", "-1"], ["eps '-1'", EPS]),
        (["--eps", "nan"], ["eps 'nan'", EPS]),
        (["--eps", "abc"], ["eps 'abc'", EPS]),
        (["--eps", "1e999999999"], ["eps '1e999999999'", EPS]),
        (["--eps", "0"], ["--eps is 0", "--objective clean"]),
        (["--step-size", "2"], ["'2' is over 1", "2/255"]),
        (["--epochs", "0"], ["--epochs is 0", "at least 1"]),
        (["--epochs", "many"], ["--epochs", "laat train --help"]),
        (["--batch-size", "0"], ["--batch-size is 0"]),
        (["--steps", "0"], ["--steps is 0"]),
        (["--lr", "0"], ["--lr is 0"]),
        (["--lr", "nan"], ["--lr is nan"]),
        (["--tau", "-1"], ["--tau is -1"]),
        (["--beta", "inf"], ["--beta is inf"]),
        (["--seed", "-1"], ["--seed is -1"]),
        (["--objective", "lat"], ["'lat'", "'laat'"]),
        (["--schedule", "cosin"], ["'cosin'", "step, cosine, one-cycle"]),
        (["--device", "gpu"], ["unknown device 'gpu'", "cuda:N"]),
        (["--epoch", "3"], ["--epoch", "--epochs"]),
        (["photos"], ["photos"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_train_options(tmp_path: Path, args: list[str], says: list[str]) -> None:
    refused(tmp_path, "train", *args, code=2, says=says)


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["attack", "--eps", "8"], 2, ["Did you mean 8/255?"]),
        (["attack", "--attack", "pdg-20"], 2, ["unknown attack 'pdg-20'", "'pgd-20'"]),
        (["attack", "--attack", "pgd-0"], 2, ["unknown attack 'pgd-0'"]),
        (["attack", "--batch-size", "0"], 2, ["--batch-size is 0"]),
        (["eval", "--eps", "0.5/0"], 2, ["divides by zero"]),
        (["eval", "--attack", "fgsm", "--attack", "FGSM"], 2, ["'fgsm' is given twice"]),
        (["eval", "--attack", "none", "--attack", "fgsm"], 2, ["--attack none"]),
        (["eval", "--attack", "pgd20"], 2, ["'pgd20'", "'pgd-20'"]),
        (["eval", "--plot-size", "slide"], 2, ["--plot-size has no effect without a plot. Add --plot FILE"]),
        (["eval", "--ways", "3"], 2, ["--ways cannot be combined with --protocol all-way", "--protocol episodes"]),
        (["eval", "--protocol", "episode"], 2, ["'episode'", "all-way, episodes"]),
        (["eval", "--adversarial", "a.st", "--attack", "fgsm"], 2, ["--adversarial"]),
        (["eval", "--device", "tpu"], 2, ["unknown device 'tpu'"]),
    ],
)
def test_attack_and_eval_options(tmp_path: Path, args: list[str], code: int, says: list[str]) -> None:
    command, *rest = args
    refused(tmp_path, command, "run/model.st", *rest, code=code, says=says)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--classes-from", "nvel"], ["'nvel' is neither a group", "'novel'"]),
        (["--classes-from", "val"], ["no val classes", "--classes-from"]),
        (["--classes-from", "pets.txt"], ["'blue stars' (nearest: 'blue star'", "pets.txt"]),
        (["--protocol", "episodes", "--ways", "2", "--queries", "4", "--shots", "3"], ["3 shots + 4 queries"]),
        (["--protocol", "episodes", "--episodes", "0"], ["--episodes is 0"]),
        (["--split", "validation"], ["no split 'validation'", "'test', 'train'"]),
        (["--resize", "0"], ["--resize is 0"]),
        (["--resize", "24"], ["24x24", "16x16", "--resize 16"]),
    ],
    ids=lambda value: " ".join(value[-2:]),
)
def test_eval_on_data_that_does_not_fit(pipeline: Pipeline, tmp_path: Path, args: list[str], says: list[str]) -> None:
    (tmp_path / "pets.txt").write_text("red circle\nblue stars\n")
    usage = {"--shots", "--episodes", "--split"} & set(args) or args == ["--resize", "0"]
    line = ("eval", pipeline.model, "--data", pipeline.photos, "--attack", "none", *args)
    refused(tmp_path, *line, code=2 if usage else 3, says=says)


def test_wrong_command_and_missing_argument(tmp_path: Path) -> None:
    refused(tmp_path, "trian", code=2, says=["'trian'", "train"])
    refused(tmp_path, "expand", code=2, says=["anchors", "laat expand --help"])
    refused(tmp_path, "eval", code=2, says=["MODEL", "laat eval --help"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[trian]\nepochs = 1\n", ["'trian'", "'train'"]),
        ("[train]\nepoch = 1\n", ["[train]", "'epoch'", "'epochs'"]),
        ("epochs = 1\n", ["'epochs'"]),
        ("train = 3\n", ["'train'", "[train]"]),
        ("[train\n", ["'laat.toml' is not a TOML file", "line 1"]),
        ("[train]\nepochs = 'many'\n", ["[train]", "'epochs' to 'many'", "a whole number"]),
        ("[train]\nepochs = 0\n", ["--epochs is 0"]),
        ("[train]\neps = '8'\n", ["8/255"]),
    ],
    ids=["table", "option", "no table", "number", "syntax", "type", "value", "eps"],
)
def test_settings_file(tmp_path: Path, text: str, says: list[str]) -> None:
    (tmp_path / "laat.toml").write_text(text)
    refused(tmp_path, "train", code=2, says=says)


def test_settings_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "laat.toml").write_bytes(b"\xff\xfe\x00")
    refused(tmp_path, "train", code=2, says=["settings file 'laat.toml' is not UTF-8 text"])


def test_no_anchors_here(tmp_path: Path) -> None:
    check_refusal(run("train", "--data", "photos", cwd=tmp_path), 3, "expanded.st", "laat anchors --classes FILE", "--anchors")
    assert tree(tmp_path) == {}


def test_train_without_data(pipeline: Pipeline, tmp_path: Path) -> None:
    made = run("anchors", "--classes", "c.txt", *RANDOM, cwd=_with_classes(tmp_path, "cat", "dog"))
    assert made.code == 0
    refused(tmp_path, "train", "--anchors", "anchors.st", code=2, says=["option --data is missing", "hub id"])


def test_backbone_and_data_names(pipeline: Pipeline, tmp_path: Path) -> None:
    train = ("train", "--anchors", pipeline.folder / "expanded.st", "--data")
    refused(tmp_path, *train, pipeline.photos, "--backbone", "resnet", code=2, says=["'resnet'", "'resnet12'", "timm:NAME"])
    elsewhere = ("--backbone", "timm:resnet17", "--out", "run-timm")
    refused(tmp_path, *train, pipeline.photos, *elsewhere, code=2, says=["'resnet17'", "'resnet18'"])
    refused(tmp_path, *train, "foto", code=3, says=["the data 'foto' does not exist"])
    refused(tmp_path, *train, pipeline.photos, "--image-column", "img", code=2, says=["no columns"])
    refused(tmp_path, *train, pipeline.photos, *QUICK, "--resize", "0", code=2, says=["--resize is 0"])
    refused(tmp_path, *train, pipeline.photos, *QUICK, "--resize", "8", "--out", "run-8", code=2, says=["at least 16 px"])


def test_class_names_that_are_not_in_the_data(tmp_path: Path) -> None:
    class_folders(tmp_path / "photos", 2, names=("cat", "dog"))
    _with_classes(tmp_path, "cats", "Dog")
    assert run("anchors", "--classes", "c.txt", *RANDOM, cwd=tmp_path).code == 0
    line = ("train", "--anchors", "anchors.st", "--data", "photos", *QUICK)
    refused(tmp_path, *line, code=3, says=["'cats' (nearest: 'cat'", "'photos'", "Rename"])


def test_a_prompt_that_would_be_cut(tmp_path: Path) -> None:
    long = " ".join(["very"] * 90) + " long name"
    _with_classes(tmp_path, "cat", long)
    line = ("anchors", "--classes", "c.txt", "--model", "demo")
    refused(tmp_path, *line, code=3, says=["This is a photo of a very very", "--allow-truncation"])
    assert run(*line, "--allow-truncation", cwd=tmp_path).code == 0


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--model", "ViT-B-61"], 2, ["'ViT-B-61'", "'ViT-B-16'"]),
        (["--pretrained", "openia"], 2, ["'openia'", "'openai'"]),
        (["--pretrained", "w.bin"], 3, ["'w.bin'", "safetensors"]),
        (["--template", "a photo"], 2, ["'a photo'", "{}"]),
        (["--templates", "nowhere.txt"], 3, ["'nowhere.txt' does not exist"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_encoder(tmp_path: Path, args: list[str], code: int, says: list[str]) -> None:
    _with_classes(tmp_path, "cat", "dog")
    (tmp_path / "w.bin").write_bytes(b"\x80\x04 a pickle")
    refused(tmp_path, "anchors", "--classes", "c.txt", *args, code=code, says=says)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    place_results(tmp_path)
    done = run("anchors", "--classes", "nowhere.txt", "--debug", cwd=tmp_path)
    assert done.code == 3
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: 'nowhere.txt'")


def _with_classes(folder: Path, *names: str) -> Path:
    (folder / "c.txt").write_text("\n".join(names))
    return folder
