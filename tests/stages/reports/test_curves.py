from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.errors import InputError, MissingError, UsageError
from stages.reports import curves
from stages.reports.curves import plot_curves, run_names
from stages.reports.figures import SERIES, look
from stages.reports.metrics import read_metrics

ROBUST = (0.1, 0.3, 0.2, 0.3, 0.25)


def row(epoch: int, /, **changes: Any) -> dict[str, Any]:
    robust = ROBUST[epoch - 1]
    best = robust >= max(ROBUST[:epoch])
    shares = {"train_clean": 0.5, "train_robust": 0.4, "selection_clean": 0.6, "selection_robust": robust}
    return {"epoch": epoch, "loss": 4.0 - 0.5 * epoch, **shares, "best_so_far": best, **changes}


def run_folder(folder: Path, *, epochs: int = 5, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    lines = [json.dumps(row(epoch, **changes)) + "\n" for epoch in range(1, epochs + 1)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that would have been saved."""
    figures: list[Any] = []
    monkeypatch.setattr(curves, "save_figure", lambda figure, size, path: figures.append(figure))
    return figures


def lines(axis: Any) -> list[Any]:
    """The curves of an axis: legend entries have no points, marks have one."""
    return [line for line in axis.get_lines() if len(line.get_xdata()) > 1]


def marks(axis: Any) -> list[tuple[float, float]]:
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in axis.get_lines() if len(line.get_xdata()) == 1]


def test_the_metrics_are_read_and_of_equals_the_later_epoch_is_best(tmp_path: Path) -> None:
    run = read_metrics(run_folder(tmp_path / "run"))
    assert run.best == 4
    assert run.epochs.tolist() == [1, 2, 3, 4, 5]
    assert run.values["loss"].tolist() == [3.5, 3.0, 2.5, 2.0, 1.5]
    assert run.values["selection_robust"].tolist() == list(ROBUST)
    assert run.at_best("selection_robust") == 0.3


def test_one_run(tmp_path: Path, drawn: list[Any]) -> None:
    plot_curves([read_metrics(run_folder(tmp_path / "first"))], tmp_path / "c.png")
    (figure,) = drawn
    loss, training, selection = figure.axes
    (line,) = lines(loss)
    assert line.get_ydata().tolist() == [3.5, 3.0, 2.5, 2.0, 1.5]
    clean, robust = lines(selection)
    np.testing.assert_allclose(robust.get_ydata(), 100 * np.array(ROBUST))
    assert clean.is_dashed()
    assert not robust.is_dashed()
    assert clean.get_color() != robust.get_color()
    assert [line.get_ydata()[0] for line in lines(training)] == [50, 40]
    assert marks(selection) == [(4, 60), (4, 30)]
    assert [axis.get_xlabel() for axis in figure.axes] == ["epoch"] * 3
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss (mean over images)", "accuracy (%)", "accuracy (%)"]
    assert figure.get_suptitle() == "first: best epoch 4 of 5, selection clean / robust 60.0 % / 30.0 %"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["clean", "robust (attacked)", "best epoch"]


def test_several_runs_have_a_colour_each(tmp_path: Path, drawn: list[Any]) -> None:
    folders = [
        run_folder(tmp_path / "one"),
        run_folder(tmp_path / "$a$ run", epochs=2),
        run_folder(tmp_path / "_two", epochs=1),
    ]
    plot_curves([read_metrics(folder) for folder in folders], tmp_path / "c.png")
    (figure,) = drawn
    selection = figure.axes[2]
    assert marks(selection)[-2:] == [(1, 60), (1, 10)]
    first, second = lines(selection)[:2], lines(selection)[2:]
    assert len({line.get_color() for line in first}) == len({line.get_color() for line in second}) == 1
    assert first[0].get_color() != second[0].get_color()
    assert first[0].get_marker() != second[0].get_marker()
    assert [text.get_text() for text in figure.legends[1].get_texts()] == [
        "one: epoch 4 of 5, 60.0 % / 30.0 %",
        "$a$ run: epoch 2 of 2, 60.0 % / 30.0 %",
        "_two: epoch 1 of 1, 60.0 % / 10.0 %",
    ]


def test_what_was_not_measured_is_not_drawn(tmp_path: Path, drawn: list[Any]) -> None:
    undefended = run_folder(tmp_path / "clean", train_robust=None, selection_robust=None)
    plot_curves([read_metrics(undefended)], tmp_path / "c.png")
    _, training, selection = drawn[0].axes
    assert [line.is_dashed() for line in lines(training)] == [True]
    assert marks(selection) == [(4, 60)]
    assert drawn[0].get_suptitle().endswith("60.0 % / –")


def test_the_png_is_the_same_again_whatever_the_folder_is_called(tmp_path: Path) -> None:
    runs = [read_metrics(run_folder(tmp_path / name)) for name in ("plain", "$x^", "日本", "_hidden")]
    for name in ("a.png", "b.png"):
        plot_curves(runs, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
        assert picture.width == 7 * 200
        assert len(picture.convert("RGB").getcolors(10**6)) > 20


@pytest.mark.filterwarnings("error")
def test_a_loss_near_the_end_of_the_range_is_drawn_without_warnings(tmp_path: Path) -> None:
    plot_curves([read_metrics(run_folder(tmp_path / str(loss), loss=loss)) for loss in (1e308, -1.7e308)], tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


def test_runs_of_one_name_are_told_apart() -> None:
    assert run_names([Path("a/run"), Path("b/run"), Path("c/other/")]) == ["a/run", "b/run", "other"]


def test_more_runs_than_can_be_told_apart(tmp_path: Path) -> None:
    run = read_metrics(run_folder(tmp_path / "run"))
    looks = [look(at) for at in range(SERIES)]
    assert len({(one["color"], one["marker"]) for one in looks}) == SERIES >= 50
    with pytest.raises(UsageError, match=f"more than {SERIES} lines in one plot cannot be told apart"):
        plot_curves([run] * (SERIES + 1), tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    run = read_metrics(run_folder(tmp_path / "run.png"))
    with pytest.raises(MissingError, match="a folder is in the way"):
        plot_curves([run], tmp_path / "run.png")


GOOD = [json.dumps(row(epoch)) for epoch in (1, 2, 3)]


def with_third(**changes: Any) -> str:
    return "\n".join([*GOOD[:2], json.dumps(row(3, **changes))]) + "\n"


def without(name: str) -> str:
    return "\n".join([*GOOD[:2], json.dumps({key: value for key, value in row(3).items() if key != name})]) + "\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"metrics\.jsonl' is empty"),
        ("\n".join(GOOD), r"line 3 is cut off"),
        ("\n".join(GOOD)[:-20], r"line 3 is cut off"),
        ("\n".join([GOOD[0], GOOD[1][:30], GOOD[2]]) + "\n", r"line 2: it is not JSON"),
        ("\n".join([GOOD[0], "", GOOD[1]]) + "\n", r"line 2: it is not JSON"),
        ("[" * 100_000 + "\n", r"line 1: it is nested more than 100 levels"),
        ("[1, 2]\n", r"line 1: it is not a JSON object"),
        (without("loss"), r"line 3: it lacks 'loss'"),
        (without("best_so_far"), r"line 3: it lacks 'best_so_far'"),
        ("\n".join([GOOD[0], GOOD[2]]) + "\n", r"entry 2 is epoch 3, expected 2"),
        (with_third(epoch="3"), r'line 3: epoch is "3": input should be a valid integer'),
        (with_third(epoch=3.0), r"line 3: epoch is 3.0: input should"),
        (with_third(best_so_far=1), r"line 3: best_so_far is 1: input should be a valid boolean"),
        (json.dumps(row(1, best_so_far=False)) + "\n", r"the first epoch is not marked"),
        (with_third(loss=float("nan")), r"line 3: NaN is not a finite number"),
        (with_third(loss=float("inf")), r"line 3: Infinity is not a finite number"),
        (with_third(loss=10**400), r"line 3: the integer 1000"),
        (with_third(loss="low"), r'line 3: loss is "low"'),
        (with_third(train_clean=56.0), r"line 3: train_clean is 56.0: input should be less than or equal to 1"),
        (with_third(selection_robust=-0.1), r"line 3: selection_robust is -0.1"),
        (with_third(selection_robust=True), r"line 3: selection_robust is true"),
    ],
)
def test_a_damaged_file_is_refused_naming_the_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(InputError, match=says):
        read_metrics(tmp_path)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: None, "does not exist; name a folder that `laat train` wrote"),
        (lambda folder: folder.write_text("x"), "is a file, expected a run folder"),
        (lambda folder: folder.mkdir(), "has no metrics.jsonl: no epoch was finished"),
        (lambda folder: (folder / "metrics.jsonl").mkdir(parents=True), "is a folder, expected a file"),
    ],
)
def test_no_run_there(tmp_path: Path, make: Callable[[Path], object], says: str) -> None:
    make(tmp_path / "run")
    with pytest.raises(InputError, match=says):
        read_metrics(tmp_path / "run")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(InputError, match="line 1: it is not JSON"):
        read_metrics(tmp_path)
