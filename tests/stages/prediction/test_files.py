"""Files of predictions and folders of copies."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pyarrow.parquet as pq
import pytest

from stages.errors import InputError, MissingError, UsageError
from stages.prediction import files
from stages.prediction.files import check_suffix, prediction_file
from stages.prediction.places import check_attacked_place, check_folder
from stages.prediction.record import Prediction
from stages.prediction.sort_files import SortedCopies

FOUND = (
    Prediction("a.png", (("red circle", 0.75), ("red star", 0.125)), 0.625, stands=False, falls_at="4/255"),
    Prediction("=cmd.png", (("-1", 0.5), ('a, "b"', 0.25)), 0.25, stands=True),
    Prediction("cut.png", error="cannot be decoded: it is empty"),
)
COLUMNS = ["path", "name", "confidence", "margin", "name_2", "confidence_2", "stands", "falls_at", "error"]


def written(path: Path, *, judged: bool = True) -> bytes:
    stdout = io.BytesIO()
    with prediction_file(path, stdout, top=2, judged=judged) as file:
        file.write(FOUND[:1])
        file.write(FOUND[1:])
    return stdout.getvalue() if str(path) == "-" else path.read_bytes()


def test_csv(tmp_path: Path) -> None:
    text = written(tmp_path / "p.csv").decode()
    assert written(Path("-")).decode() == text
    head, *rows = csv.reader(io.StringIO(text))
    assert head == COLUMNS
    assert rows == [
        ["a.png", "red circle", "0.75", "0.625", "red star", "0.125", "no", "4/255", ""],
        ["./=cmd.png", "'-1", "0.5", "0.25", 'a, "b"', "0.25", "yes", "", ""],
        ["cut.png", *[""] * 7, "cannot be decoded: it is empty"],
    ]
    assert next(csv.reader(io.StringIO(written(tmp_path / "p.csv", judged=False).decode()))) == [*COLUMNS[:6], "error"]


def test_json_lines(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in written(tmp_path / "p.jsonl").decode().splitlines()]
    assert lines == [one.to_record() for one in FOUND]
    assert lines[1]["top"][1] == {"name": 'a, "b"', "confidence": 0.25}
    assert (lines[0]["stands"], lines[0]["falls_at"], lines[1]["falls_at"]) == (False, "4/255", None)
    assert (lines[2]["name"], lines[2]["error"]) == (None, "cannot be decoded: it is empty")


def test_parquet_in_groups_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_GROUP", 1)
    once = written(tmp_path / "p.parquet")
    assert written(tmp_path / "q.parquet") == once
    found = pq.ParquetFile(tmp_path / "p.parquet")
    assert found.num_row_groups == 2
    table = found.read()
    assert table.column_names == COLUMNS
    assert table["confidence"].to_pylist() == [0.75, 0.5, None]
    assert table["stands"].to_pylist() == [False, True, None]
    assert table["path"].to_pylist()[1] == "=cmd.png"


def paths_in(path: Path) -> list[str]:
    """The column of paths, as a program reads it."""
    if path.suffix == ".parquet":
        return [str(one) for one in pq.read_table(path)["path"].to_pylist()]
    with path.open(encoding="utf-8", newline="") as file:
        return [row["path"] for row in (csv.DictReader(file) if path.suffix == ".csv" else map(json.loads, file))]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_program_can_open_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["a\nb", "a\rb", "a\tb", "a\x1b[31mb", "a\u2028b", "a\\xffb", os.fsdecode(b"a\xffb"), "é"]
    names += [" =x", "-x", "'x", 'a,"b";', "file:x", "file%3Ax"]
    for name in names:
        Path(name).write_bytes(os.fsencode(name))
    with prediction_file(tmp_path / f"p{suffix}", io.BytesIO(), top=1, judged=False) as file:
        file.write([Prediction(name, (("red", 1.0),), 1.0) for name in names])
    found = paths_in(tmp_path / f"p{suffix}")
    opened = [unquote_to_bytes(path.removeprefix("file://")) if path.startswith("file:") else path for path in found]
    assert [os.fsdecode(Path(os.fsdecode(path)).read_bytes()) for path in opened] == names
    assert [path.startswith("file:///") for path in found] == [name in ("file:x", names[6]) for name in names]


def test_csv_on_a_terminal_has_no_control_characters() -> None:
    terminal = io.BytesIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    with prediction_file(Path("-"), terminal, top=1, judged=False) as file:
        file.write([Prediction("a\x1b[31m,b", (("red", 1.0),), 1.0)])
    assert terminal.getvalue().decode().splitlines()[1] == r'"a\x1b[31m,b",red,1.0,1.0,'


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.parquet"])
def test_a_file_that_is_not_finished_changes_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("before")
    with pytest.raises(AttributeError), prediction_file(path, io.BytesIO(), top=1, judged=False) as file:
        file.write([*FOUND, None])  # type: ignore[list-item]
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert path.read_text() == "before"


def test_places(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'p.txt' is not the name of a file of predictions; end the name with .csv"):
        check_suffix(Path("p.txt"))
    (tmp_path / "file").touch()
    with pytest.raises(MissingError, match="is not a folder"):
        written(tmp_path / "file/p.csv")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(UsageError, match=r"'.*full' is not empty; choose another place with --sort-into, or add to it"):
        check_folder(tmp_path / "full", "--sort-into", force=False)
    for option, fix in (("--save-attacked", "name a folder, or FILE.png"), ("--sort-into", "name a folder$")):
        with pytest.raises(UsageError, match=f"x.jpg' is the name of a file, and {option} writes a folder; {fix}"):
            check_folder(tmp_path / "x.jpg", option, force=False)
    (tmp_path / "y.jpg").mkdir()
    check_folder(tmp_path / "y.jpg", "--sort-into", force=False)
    check_folder(tmp_path / "run-0.2", "--sort-into", force=False)
    with pytest.raises(MissingError, match="a file is in the way; choose another place with --save-attacked"):
        check_attacked_place(tmp_path / "file", force=False)
    check_attacked_place(tmp_path / "full", force=True)
    check_attacked_place(tmp_path / "full/x.png", force=False)


def test_copies_by_class(tmp_path: Path) -> None:
    for folder, content in (("x", "1"), ("y", "2"), ("z", "3"), ("same", "1")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_text(content)
    os.utime(tmp_path / "x/a.png", (1000, 1000))
    for turn in range(2):
        copies = SortedCopies(tmp_path / "sorted", ["red circle", "con/1"], force=bool(turn))
        for folder in ("x", "y", "z", "same"):
            copies.add(str(tmp_path / folder / "a.png"), "red circle")
        copies.add(str(tmp_path / "x/a.png"), "con/1")
        assert (copies.copied, copies.kept) == ((5, 0), (0, 5))[turn]
        held = {str(path.relative_to(tmp_path / "sorted")): path.read_text() for path in (tmp_path / "sorted").rglob("*.*")}
        red = {f"red_circle/a{number}.png": content for number, content in (("", "1"), ("-2", "2"), ("-3", "3"), ("-4", "1"))}
        assert held == {**red, "con_1/a.png": "1"}
    assert (tmp_path / "sorted/red_circle/a.png").stat().st_mtime == 1000
    assert (tmp_path / "x/a.png").is_file()
    with pytest.raises(UsageError, match="not empty"):
        SortedCopies(tmp_path / "sorted", ["a", "b"])
    with pytest.raises(InputError, match="would share the folder 'a_b'; leave --sort-into out"):
        SortedCopies(tmp_path / "other", ["a b", "a/b"])
