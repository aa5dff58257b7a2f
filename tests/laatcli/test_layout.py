"""Tables at the widths of terminals: no word is broken, nothing is lost, and no line is too wide that need not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from laatcli import console
from laatcli.app import app
from laatcli.console import Console
from laatcli.cosines import show_cosines
from laatcli.layout import Column, table_lines, wrap
from laatcli.reporting import show_reports
from laatcli.training import show
from stages.cosines import cosine_figures
from stages.evaluation.evaluate import AT_BIAS
from stages.reports.records import Report
from stages.training.reports import EpochReport, RunResult
from stages.training.selection import Score
from stages.training.sums import Figures
from tests.stages.reports.test_compare import save
from tests.stages.reports.test_curves import run_folder
from tests.stages.reports.test_figure_layout import LONG, of_models
from tests.stages.reports.test_plots import gzsl_report, report

Table = tuple[Sequence[Column], Sequence[Sequence[str]]]
ATTACKS = ("fgsm", "pgd-2", "pgd-20", "margin-pgd-2", "cw-linf")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Table]:
    """The tables that a console prints from here on."""
    found: list[Table] = []

    def caught(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[object]:
        found.append((columns, rows))
        return table_lines(columns, rows, width)  # type: ignore[return-value]

    monkeypatch.setattr(console, "table_lines", caught)
    monkeypatch.setattr(RunResult, "calibration", None)  # no checkpoint is written
    return found


def check_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> None:
    """Every word is there, whole, and a line is wider than the width only where it is one word."""
    lines = [line.text for line in table_lines(columns, rows, width)]
    words = Counter(" ".join(lines).split())
    asked = Counter(word for row in rows for cell in row for word in cell.split())
    asked += Counter() if words >= asked else Counter({":": 1})
    assert words >= asked, (asked - words, lines)
    assert set(" ".join(column.name for column in columns).split()) <= {word.rstrip(":") for word in words} | set(words), lines
    assert not [line for line in lines if cell_len(line) > width and len(line.split()) > 1], lines


def every_table(folder: Path) -> None:
    """Print each kind of table that a command prints."""
    for name in ("", "aa-few-class", "laat-2024"):
        app(["suites", *([name] if name else [])], standalone_mode=False)
    app(["doctor"], standalone_mode=False)
    app(["inspect", "tests/golden/anchors.st"], standalone_mode=False)
    runs = [run_folder(folder / name) for name in ("short", LONG)]
    app(["plot", *map(str, runs), "-o", str(folder / "c.png")], standalone_mode=False)
    for name in ("a", "b"):
        save(folder / f"{name}.json", {"margin-run": 1.0 + (name == "b")})
    app(["compare", str(folder / "a.json"), str(folder / "b.json")], standalone_mode=False)
    save(folder / "five.json", {LONG: 1.0, "b": 2.0}, attacks=ATTACKS)
    app(["report", str(folder / "five.json")], standalone_mode=False)
    app(["report", str(folder / "five.json"), str(folder / "a.json")], standalone_mode=False)
    shell = Console()
    many: list[Report] = [
        report(),
        gzsl_report(),
        of_models(report(), [LONG]),
        of_models(gzsl_report(), [LONG]),
        at_bias("run"),
    ]
    for one in many:
        show_reports(shell, {"report.json": one}, "table")
        show_reports(shell, {"raw/report.json": one, "expanded/report.json": one}, "table")
    scores = EpochReport(90, Figures(1.0, 0.5, 0.4), Score(0.5, 0.25), True)
    show(shell, RunResult(Path("/data/experiments/2024-11") / LONG, 90, Score(0.5, 0.25), [scores], "ab" * 32), anchored=True)
    show_cosines(shell, [("before", cosine_figures(np.eye(3, dtype=np.float32)))])


def test_every_table_is_readable_at_80_100_and_120_columns(shown: list[Table], tmp_path: Path) -> None:
    every_table(tmp_path)
    assert len(shown) >= 23
    for columns, rows in shown:
        for width in (80, 100, 120):
            check_table(columns, rows, width)


def at_bias(model: str) -> Report:
    """A report with results at bias 0 and at the bias of a calibration."""
    found = of_models(gzsl_report(), [model])
    (plain,) = found.results
    assert plain.gzsl is not None
    parts = {name: replace(part, ausuc=None) for name, part in plain.gzsl.attacks.items()}
    shares = {name: replace(getattr(plain.gzsl, name), ausuc=None) for name in ("clean", "worst")}
    gzsl = plain.gzsl.model_copy(update={"bias": 0.15, "curves": {}, "attacks": parts, **shares})
    biased = plain.model_copy(update={"protocol": AT_BIAS, "gzsl": gzsl})
    return found.model_copy(update={"results": [plain, biased]})


def test_a_result_has_one_line_also_at_a_fitted_bias(shown: list[Table]) -> None:
    show_reports(Console(), {"report.json": at_bias("demo")}, "table")
    assert len(shown) == 2
    for columns, rows in shown:
        assert len(table_lines(columns, rows, 80)) == 1 + len(rows)


def test_any_table_at_any_width() -> None:
    draw = np.random.default_rng(0)
    for _ in range(300):
        count = int(draw.integers(1, 9))
        columns = [
            Column(" ".join("h" * int(draw.integers(1, 12)) for _ in range(int(draw.integers(1, 3)))), bool(draw.integers(2)))
            for _ in range(count)
        ]
        rows = [
            [" ".join("日本xyz"[at % 5] * int(draw.integers(1, 15)) for at in range(int(draw.integers(1, 8)))) for _ in columns]
            for _ in range(int(draw.integers(1, 4)))
        ]
        check_table(columns, rows, int(draw.integers(20, 130)))


def test_side_by_side_while_there_is_room_and_then_one_below_the_other() -> None:
    columns = [Column("model"), Column("clean %", True), Column("what for")]
    rows = [["run-1", "80.0 ± 6.1", "a first look"]]
    assert [line.text for line in table_lines(columns, rows, 40)] == [
        "model     clean %  what for",
        "run-1  80.0 ± 6.1  a first look",
    ]
    assert [line.text for line in table_lines(columns, rows, 22)] == [
        "model    clean % what",
        "                 for",
        "run-1 80.0 ± 6.1 a",
        "                 first",
        "                 look",
    ]
    rows = [["run-1", "80.0 ± 6.1", "generalization"]]
    assert [line.text for line in table_lines(columns, rows, 30)] == [
        "model: run-1",
        "  clean %   80.0 ± 6.1",
        "  what for  generalization",
    ]
    pairs = [Column("parameter"), Column("value")]
    assert [line.text for line in table_lines(pairs, [["sha256", "f" * 64], ["width", "64"]], 40)] == [
        "parameter  value",
        "sha256",
        f"      {'f' * 64}",
        "width      64",
    ]


def test_lines_are_wrapped_between_words() -> None:
    assert wrap("one two three", 7) == ["one two", "three"]
    assert wrap("  one two three", 9, "    ") == ["  one two", "    three"]
    assert wrap("a/path/that/is/longer b", 10) == ["a/path/that/is/longer", "b"]
    assert wrap("", 10) == [""]
