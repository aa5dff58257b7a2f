"""Published figures: the file, and reports against them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from stages.errors import InputError
from stages.reports.published import COLUMNS, read_published
from stages.reports.report import read_report
from tests.stages.reports.test_grouping import refused, run_report, shown
from tests.where import ROOT

ROW = {
    **{
        "method": "LAAT",
        "paper": "Someone et al.",
        "table": "Table 1",
        "data": "shapes",
        "trained_on": "",
        "backbone": "Conv4-8",
    },
    **{"train_eps": "", "shots": "0", "ways": "3", "norm": "Linf", "eps": "8/255", "attack": "PGD-2", "metric": "robust"},
    **{"figure": "41.5", "source": "https://example.org", "certainty": "second-hand"},
}
CLEAN = {"metric": "clean", "norm": "", "eps": "", "attack": "", "figure": "60"}


def written(path: Path, *rows: dict[str, str], columns: tuple[str, ...] = COLUMNS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerows([columns, *[[row[name] for name in columns] for row in rows]])
    return path


def test_the_bundled_file_is_sound() -> None:
    found = read_published(ROOT / "examples/rivals/published.csv")
    assert {row.certainty for row in found} <= {"authors", "second-hand", "unverified"}
    fare = [row.figure for row in found if (row.method, row.attack, row.data[:10]) == ("FARE", "PGD-100", "average of")]
    assert len(set(fare)) > 2  # figures that contradict each other are all there


def test_measured_published_difference_and_what_differs(tmp_path: Path) -> None:
    report = run_report(tmp_path, "laat", 0, eps="8/255")
    path = written(tmp_path / "p.csv", ROW, ROW | CLEAN, ROW | {"data": "CIFAR-10", "figure": "1"})
    record = json.loads(shown("--against", path, report, "--json"))
    robust, clean = record["results"]  # the figure on other images is not shown where there are some on these
    measured = read_report(report).results[0]
    assert (robust["measure"], robust["measured"]) == ("pgd-2", measured.attacks["pgd-2"].accuracy)
    assert robust["difference"] == pytest.approx(measured.attacks["pgd-2"].accuracy - 0.415)
    assert (robust["low"], robust["differs"]) == (measured.attacks["pgd-2"].low, {})
    assert robust["unknown"] == ["training data", "training eps"]
    assert (clean["measure"], clean["measured"]) == ("clean", measured.clean.accuracy)
    other = ROW | {
        "eps": "4/255",
        "attack": "AutoAttack",
        "backbone": "ViT-B/32",
        "shots": "1",
        "ways": "5",
        "data": "CIFAR-10",
    }
    text = shown("--against", written(tmp_path / "p.csv", other), report, "--format", "markdown")
    for said in (
        *("data shapes, published CIFAR-10", "backbone conv4-8, published ViT-B/32", "shots 0, published 1"),
        *("ways 3, published 5", "eps 8/255, published 4/255", "attack worst of fgsm, pgd-2, published AutoAttack"),
    ):
        assert said in text
    assert "second-hand: read in a summary" in text


def test_a_blend_and_another_training_norm_differ_from_what_is_published(tmp_path: Path) -> None:
    report = run_report(tmp_path, "laat", 0, eps="2/255", norm="l2", blend=0.3, blend_with="at")
    path = written(tmp_path / "p.csv", ROW | {"train_eps": "2/255"})
    (one,) = json.loads(shown("--against", path, report, "--json"))["results"]
    assert one["differs"] == {
        "training norm": ["L2", "Linf"],
        "weights": ["a blend, 0.3 of it and the rest of at", "as trained"],
    }


def test_a_method_without_a_published_figure_is_named(tmp_path: Path) -> None:
    report = run_report(tmp_path, "at", 0)
    record = json.loads(shown("--against", written(tmp_path / "p.csv", ROW), report, "--json"))
    assert (record["results"], record["notes"]) == ([], ["no published figure of 'at'"])
    assert "does not have the tables of --against. Print them with --format markdown" in refused(
        *("--against", tmp_path / "p.csv", report, "--format", "html"), code=2
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"figure": "141.5"}, "line 2 of .*: the figure is '141.5', expected a percentage"),
        ({"figure": "nan"}, "the figure is 'nan'"),
        ({"eps": "8"}, "line 2 of .*: eps: eps '8' is over 1"),
        ({"eps": "16/510"}, "eps is '16/510', expected '8/255'"),
        ({"method": ""}, "'method' must not be empty"),
        ({"attack": ""}, "'attack' must not be empty"),
        ({"metric": "top-5"}, "the metric is 'top-5', expected clean or robust"),
        ({"certainty": "sure"}, "the certainty is 'sure', expected one of authors"),
        ({"shots": "few"}, "shots is 'few', expected a whole number"),
        ({"metric": "clean"}, "a clean figure has no norm, eps and attack"),
    ],
)
def test_the_file_is_read_strictly(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        read_published(written(tmp_path / "p.csv", ROW | change))


def test_other_columns_and_lines_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with pytest.raises(InputError, match="begins with other columns: method, paper"):
        read_published(written(path, ROW, columns=COLUMNS[:-1]))
    with pytest.raises(InputError, match=r"line 3 of .* is the same as line 2"):
        read_published(written(path, ROW, ROW))
    with pytest.raises(InputError, match="has no figure"):
        read_published(written(path))
    path.write_text(",".join(COLUMNS) + "\nLAAT,1\n")
    with pytest.raises(InputError, match=r"line 2 of .* has 2 cells, expected 16"):
        read_published(path)
