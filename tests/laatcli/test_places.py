"""Where things come from and go to: no network, a full disk, a reader that goes away."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from laatcli.app import main
from laatcli.console import Console
from laatcli.reporting import rows_place
from tests.laatcli.conftest import QUICK, Pipeline, class_folders
from tests.laatcli.inside import inside
from tests.laatcli.shell import check_refusal, refused, run, run_on_full_disk, shell, tree


def test_without_network_the_default_weights_have_three_ways_out(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("cat\ndog\n")
    ways = ("connect to the network once", "--pretrained FILE.safetensors", "--model local-dir:PATH", "--model demo")
    texts = ("the weights", "cannot be downloaded", *ways)
    refused(tmp_path, "anchors", "--classes", "c.txt", code=4, says=texts)


def test_a_report_to_a_device_writes_nothing_beside_it(tmp_path: Path) -> None:
    assert rows_place(None, Path(os.devnull)) is None
    assert rows_place(tmp_path / "rows.parquet", Path(os.devnull)) == tmp_path / "rows.parquet"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(("line", "code"), [("train --dry-run", 0), ("inspect nowhere.st", 3), ("suites --unknown", 2)])
@pytest.mark.parametrize("errors", [[], ["--json"]])
def test_notes_and_errors_that_do_not_fit_are_lost(
    tmp_path: Path, line: str, code: int, errors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "laat.toml").write_text("[train]\nepochs = 2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["laat", *line.split(), *errors])
    monkeypatch.setattr(Console, "json_errors", False)
    full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", full)
    with pytest.raises(SystemExit) as ended:
        main()
    with suppress(OSError):
        full.close()
    assert ended.value.code == code


def test_without_network_a_hub_data_set_is_missing(pipeline: Pipeline, tmp_path: Path) -> None:
    line = ("train", "--anchors", pipeline.folder / "expanded.st", "--data", "some-org/some-data", "--out", "other")
    refused(tmp_path, *line, code=4, says=["'some-org/some-data'", "the hub cannot be reached", "copy its parquet files"])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["inspect anchors.st", "inspect anchors.st --json", "expand anchors.st -o -"])
def test_output_that_does_not_fit(pipeline: Pipeline, command: str) -> None:
    before = tree(pipeline.folder)
    check_refusal(shell(f"laat {command} > /dev/full", pipeline.folder), 4, "No space left")
    assert tree(pipeline.folder) == before


def test_a_reader_that_goes_away_is_no_error(pipeline: Pipeline) -> None:
    line = "(laat inspect run/model.st; echo $? >&2) | head -c 5"
    done = shell(line, pipeline.folder)
    assert done.stdout == "run/m"
    assert done.stderr == "0\n"


@pytest.mark.parametrize("command", ["--help", "eval --help", "--version", "suites --json"])
def test_a_reader_that_was_never_there_is_no_error(tmp_path: Path, command: str) -> None:
    done = shell(f"(laat {command}; echo $? >&2) | true", tmp_path)
    assert done.stderr == "0\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("laat suites > /dev/full 2> /dev/full", 4),
        ("laat --help > /dev/full 2> /dev/full", 4),
        ("laat suites nothing --json --debug > /dev/full 2> /dev/full", 2),
        ("laat suites --json >&-", 0),
        ("laat suites nothing --json 2>&-", 2),
        ("laat inspect - <&-", 3),
    ],
)
def test_an_error_that_cannot_be_shown_still_has_its_code(tmp_path: Path, line: str, code: int) -> None:
    done = shell(line, tmp_path)
    assert (done.code, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr


def test_a_run_that_cannot_be_saved_keeps_the_run_before(pipeline: Pipeline, tmp_path: Path) -> None:
    train = ("train", "--anchors", pipeline.folder / "expanded.st", "--data", pipeline.photos, *QUICK)
    assert run(*train, cwd=tmp_path).code == 0
    before = tree(tmp_path)
    done = run_on_full_disk(*train, "--seed", 1, "--force", cwd=tmp_path, room=2000)
    check_refusal(done, 4, "cannot write 'run/last.st'")
    assert tree(tmp_path) == before


def test_a_file_where_a_folder_is_needed(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("keep me")
    anchors = pipeline.folder / "anchors.st"
    refused(tmp_path, "expand", anchors, "-o", "note.txt/e.st", code=4, says=["cannot write 'note.txt/e.st'", "-o / --out"])
    line = ("train", "--anchors", anchors, "--data", "photos", "--out", "note.txt")
    refused(tmp_path, *line, code=4, says=["cannot write 'note.txt/model.st'", "-o / --out"])


def test_one_image_a_class_is_refused_before_training(pipeline: Pipeline, tmp_path: Path) -> None:
    class_folders(tmp_path / "photos", 1)
    line = ("train", "--anchors", pipeline.folder / "expanded.st", "--data", "photos", *QUICK, "--out", "other")
    refused(tmp_path, *line, code=3, says=["one training image per class", "at least two images"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("anchors --classes c.txt --source random -o ./c.txt", "would replace 'c.txt', which --classes reads"),
        ("anchors --classes c.txt --seen-file link --source random -o c2.txt", "which --seen-file reads"),
        ("anchors --classes c.txt --features f.npy -o f.npy", "which --features reads"),
        ("anchors --classes c.txt --features a.st:vectors -o a.st", "which --features reads"),
        ("anchors --classes c.txt --templates c2.txt -o c2.txt", "which --templates reads"),
        ("anchors --data t.parquet --source random -o t.parquet", "which --data reads"),
        ("--config my.toml anchors --classes c.txt --source random -o my.toml", "which the command reads"),
        ("--config no-table.toml anchors --classes c.txt --source random -o no-table.toml", "which the command reads"),
        ("expand a.st -o a.st", "which ANCHORS reads"),
        ("expand a.st --like b.st -o b.st", "which --like reads"),
        ("expand a.st -o e.png --plot ./e.png", "--output and --plot name the same file"),
        ("plot a.png", "which REPORT reads"),
        ("attack m.st --data t.parquet -o t.parquet", "which --data reads"),
        ("attack m.st --data pics/in --png pics --force", "--png would replace 'pics/in', which --data reads"),
        ("eval m.st --data t.parquet --plot t.parquet", "--plot would replace 't.parquet', which --data reads"),
        ("train --anchors a.st --data shapes --init run/last.st --out run", "which --init reads"),
    ],
)
def test_no_command_replaces_what_it_reads(tmp_path: Path, line: str, says: str) -> None:
    for name in ("c.txt", "c2.txt", "f.npy", "a.st", "b.st", "m.st", "a.png", "t.parquet", "run/last.st", "pics/in/00001.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / "my.toml").write_text("[anchors]\ndim = 8\n")
    (tmp_path / "no-table.toml").write_text("[train]\nepochs = 2\n")
    (tmp_path / "link").symlink_to("c2.txt")
    before = tree(tmp_path)
    check_refusal(inside(tmp_path, *line.split()), 2, says)
    assert tree(tmp_path) == before
