"""The averages of a benchmark's table, on figures that differ in every cell."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from stages.attacks.spec import parse_attacks
from stages.attacks.suites import find_suite
from stages.benchmark.cells import Cell
from stages.benchmark.presence import Presence
from stages.benchmark.spec import DataSet
from stages.benchmark.tables import benchmark_tables
from stages.evaluation.protocol import Protocol
from stages.reports.model_records import Model
from stages.reports.records import Report
from stages.reports.report import make_report
from stages.reports.results import Row, summarise_rows
from stages.reports.tables import Figure, FigureTable
from stages.threat import ThreatModel
from tests.stages.reports.test_plots import right
from tests.stages.reports.test_report import rows_of

THREAT, SUITE = ThreatModel(Fraction(8, 255)), find_suite("quick")
# clean and robust, by model and data set
SHARES = {
    ("one", "first"): (0.9, 0.5), ("one", "second"): (0.7, 0.2), ("one", "third"): (0.1, 0.05),
    ("two", "first"): (0.8, 0.4), ("two", "third"): (0.6, 0.3),
}  # fmt: skip


def report(model: str, clean: float, robust: float) -> Report:
    attacks = parse_attacks(SUITE.attacks)
    correct = {"clean": right(clean), **{attack.name: right(robust) for attack in attacks}}
    return make_report(
        models=[Model(name=model, sha256="ab" * 32, objective="laat", anchors="raw")],
        data={"source": "photos"},
        protocol=Protocol().to_record(),
        attacks=attacks,
        threat=THREAT,
        seed=0,
        rows=[Row(model, "all", summarise_rows(rows_of(correct), classes=5, ways=5))],
    )


def cell(model: str, data: str) -> Cell:
    return Cell(model, Presence(DataSet(data), data, "here"), THREAT, SUITE, Path(f"{model}/{data}.json"))


def table(shares: dict[tuple[str, str], tuple[float, float]]) -> FigureTable:
    cells = [cell(model, data) for data in ("first", "second", "third") for model in ("one", "two")]
    reports = {cell(*place): report(place[0], *found) for place, found in shares.items()}
    (made,) = benchmark_tables(cells, reports, title="small")
    return made


def row(made: FigureTable, at: int) -> dict[str, float]:
    cells = zip(made.columns[1:], made.rows[at][1:], strict=True)
    return {name: found.value for name, found in cells if isinstance(found, Figure)}


def test_averages_are_over_the_data_sets_that_all_models_have() -> None:
    made = table(SHARES)
    one, two = row(made, 0), row(made, 1)
    assert (one["average of 2 data sets, clean"], two["average of 2 data sets, clean"]) == pytest.approx((0.5, 0.7))
    assert (one["average of 2 data sets, robust"], two["average of 2 data sets, robust"]) == pytest.approx((0.275, 0.35))
    assert one["second robust"] == pytest.approx(0.2)
    assert "second robust" not in two
    assert "second is in no average: no figures of two" in made.notes


def test_averages_over_all_data_sets_have_no_note() -> None:
    made = table({**SHARES, ("two", "second"): (0.4, 0.3)})
    assert row(made, 1)["average of 3 data sets, clean"] == pytest.approx(0.6)
    assert not any("average" in note for note in made.notes)
