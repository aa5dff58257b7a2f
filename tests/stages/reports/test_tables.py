from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from stages.errors import UsageError
from stages.reports.records import Adversarial, Checks, ProtocolRecord, Report, Threat
from stages.reports.report_tables import check_lines, failed_checks, report_tables, unchecked
from stages.reports.tables import MISSING, FigureTable, check_format, difference, p_value, percent, render, share
from stages.statistics.chance import LEGEND
from tests.stages.reports.test_plots import gzsl_report, report

TABLE = FigureTable(
    "what % is right",
    ("model", "chance", "clean", "difference", "p", "only A"),
    (
        ("a|b_c", percent(0.0625), share(0.5, 0.4, 0.65), difference(0.021, -0.0004, 0.05), p_value(0.01234), 1200),
        ("d", percent(0.2), share(1.0, 0.9, 1.0), difference(-0.5, -0.6, -0.4), p_value(1e-9), 3),
    ),
    ("± Wilson 95 %",),
)


def test_markdown() -> None:
    assert render(TABLE, "markdown") == (
        "what % is right\n"
        "\n"
        "| model | chance | clean | difference | p | only A |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| a\\|b\\_c | 6.2 | 50.0 ± 15.0 | +2.1 [0.0, +5.0] | 0.0123 | 1,200 |\n"
        "| d | 20.0 | 100.0 ± 10.0 | −50.0 [−60.0, −40.0] | < 0.0001 | 3 |\n"
        "\n"
        "± Wilson 95 %\n"
    )


def test_csv_has_the_numbers_themselves() -> None:
    rows = list(csv.DictReader(io.StringIO(render(TABLE, "csv"))))
    assert rows[0] == {
        **{"model": "a|b_c", "chance": "0.0625", "clean": "0.5", "clean low": "0.4", "clean high": "0.65"},
        **{"difference": "0.021", "difference low": "-0.0004", "difference high": "0.05", "p": "0.01234", "only A": "1200"},
    }
    assert float(rows[1]["p"]) == 1e-9


def test_latex() -> None:
    assert render(TABLE, "latex").splitlines() == [
        "% what % is right",
        "% ± Wilson 95 %",
        r"\begin{tabular}{lrrrrr}",
        r"\toprule",
        r"model & chance & clean & difference & p & only A \\",
        r"\midrule",
        r"a\textbar{}b\_c & 6.2 & 50.0 $\pm$ 15.0 & +2.1 [0.0, +5.0] & 0.0123 & 1,200 \\",
        r"d & 20.0 & 100.0 $\pm$ 10.0 & $-$50.0 [$-$60.0, $-$40.0] & $<$ 0.0001 & 3 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_a_missing_figure_is_a_dash_in_latex() -> None:
    assert r"a & \textendash{} \\" in render(FigureTable("", ("x", "y"), (("a", MISSING),)), "latex")


def test_latex_writes_every_sign_that_means_something_to_it() -> None:
    text = render(FigureTable("", ("x",), ((r"a&b%c$d#e_f{g}h~i^j\k",),)), "latex").splitlines()[-3]
    assert text == (
        r"a\&b\%c\$d\#e\_f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k \\"
    )  # fmt: skip


def test_every_format_has_the_same_figures() -> None:
    (table,) = report_tables({"a": report()})
    texts = {form: render(table, form) for form in ("markdown", "latex")}
    for form, text in texts.items():
        for row in table.texts():
            assert all(cell.replace("±", r"$\pm$" if form == "latex" else "±") in text for cell in row)
    read = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    for row, entry in zip(read, report().results, strict=True):
        assert (row["model"], row["classes"]) == (entry.model, entry.group)
        assert float(row["worst low"]) == entry.worst.low
        assert float(row["pgd-20"]) == entry.attacks["pgd-20"].accuracy


def test_the_table_of_a_report() -> None:
    (table,) = report_tables({"a": report()})
    assert table.title == "accuracy %, attacks in Linf 8/255"
    assert table.columns == ("model", "classes", "chance", "clean", "pgd-20", "margin-pgd-20", "worst")
    assert table.texts()[0][:4] == ["raw", "seen", "20.0", "80.0 ± 6.1"]
    assert table.notes == (
        "± Wilson 95 % over images; every image of a group once",
        "verdict on raw, seen; raw, novel: clean above chance, worst case at chance",
        "verdict on expanded, seen; expanded, novel: clean above chance, worst case above chance",
        f"at chance: {LEGEND['at chance']}",
    )


def changed(**other: Any) -> Report:
    """The report with other entries; results are not changed with them."""
    return report().model_copy(update=other)


@pytest.mark.parametrize(
    "other",
    [
        {"suite": "aa-standard"},
        {"threat": Threat(eps="4/255", norm="Linf", clip=[0, 1])},
        {"attacks": []},
        {"protocol": ProtocolRecord(name="gzsl")},
        {"adversarial": Adversarial(sha256="ab")},
    ],
)
def test_reports_that_were_measured_otherwise_share_no_table(other: dict[str, Any]) -> None:
    tables = report_tables({"a": report(), "b": changed(**other), "c": report()})
    assert [len(table.rows) for table in tables] == [8, 4]


def test_the_suite_is_named() -> None:
    (table,) = report_tables({"a": changed(suite="laat-2024")})
    assert table.title == "accuracy %, attacks in Linf 8/255, suite laat-2024"


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown format 'html'; known formats: table, markdown, csv, latex"):
        check_format("html")


def test_seen_and_novel_classes_together_have_a_table_of_their_own() -> None:
    _, table = report_tables({"a": gzsl_report(2)})
    assert table.columns == ("model", "images", "S (seen)", "U (novel)", "H", "AUSUC")
    assert [row[1] for row in table.rows] == ["clean", "pgd-20", "fgsm", "worst"] * 2
    gzsl = gzsl_report().results[0].gzsl
    assert gzsl is not None
    shown = table.texts()[3]
    assert shown[2].startswith(f"{100 * gzsl.worst.S.accuracy:.1f} ± ")
    assert shown[5].startswith(f"{100 * gzsl.worst.ausuc.area:.1f} ± ")
    assert "3 seen and 2 novel classes are candidates together" in table.notes[0]
    assert len(report_tables({"a": gzsl_report(attacked=False)})[1].rows) == 1


def checks(model: str, protocol: str, **results: str) -> Checks:
    findings = [{"name": name, "result": result, "figures": {}, "sentence": f"of {name}"} for name, result in results.items()]
    sample = {"points": 64, "of": 1234, "seed": 3}
    record = {"model": model, "group": "novel", "protocol": protocol, "sample": sample, "findings": findings}
    return Checks.model_validate(record)


def test_a_check_that_did_not_pass_has_its_own_line_the_worst_first() -> None:
    found = changed(checks=[checks("run", "all-way", gradients="warn", loss="pass", accuracy="fail", strength="pass")])
    assert check_lines(found) == [
        "checks of run, novel (64 of 1,234 points that are right when clean, seed 3)",
        "  FAIL accuracy: of accuracy",
        "  WARN gradients: of gradients",
        "  pass: loss, strength",
    ]
    short = changed(checks=[checks("run", "all-way", gradients="few", loss="warn")])
    assert check_lines(short)[1:] == ["  WARN loss: of loss", "  TOO FEW POINTS gradients: of gradients"]
    assert unchecked(short) == ["run, novel"]
    assert unchecked(found) == []
    assert failed_checks(found) == ["accuracy"]


def test_checks_of_one_model_and_group_are_told_apart() -> None:
    both = [checks("a", "0-shot", loss="fail"), checks("a", "1-shot", loss="fail"), checks("b", "0-shot", loss="pass")]
    found = changed(checks=both)
    heads = [line.partition(" (")[0] for line in check_lines(found) if not line.startswith(" ")]
    assert heads == ["checks of a, novel, 0-shot", "checks of a, novel, 1-shot", "checks of b, novel"]
    assert failed_checks(found) == ["loss"]


def test_a_report_without_checks_has_no_line() -> None:
    assert check_lines(report()) == failed_checks(report()) == []
