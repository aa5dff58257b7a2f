"""`laat plot`: the learning curves of run folders, the results of a report, or a figure of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laatcli.console import Column, Console, percent
from laatcli.options import OUTPUT, Place, Plotting, check_places
from stages.errors import InputError, UsageError
from stages.files.reading import STDIO
from stages.parameters import parameter
from stages.reports.figures import check_picture
from stages.text import counted, listed

if TYPE_CHECKING:
    from stages.reports.metrics import RunMetrics

EXAMPLES = (
    "laat plot run-raw run-expanded -o both.pdf --plot-size column",
    "laat plot --figure expansion expanded.st -o sphere.pdf",
    "laat plot --figure security benchmark-shapes/*/*.json",
)
CURVES = "curves"
_MEASURES = ("selection_clean", "selection_robust")
FIGURES = {
    "curves": "learning curves of RUN…, averaged over the seeds of each setting",
    "expansion": "raw and expanded anchors on the sphere, of anchors.st or expanded.st",
    "security": "accuracy over eps, of reports that differ in eps",
    "shots": "accuracy over the number of shots, of report.json…",
}
_FIGURE_HELP = f"The figure: {'; '.join(f'{name} ({about})' for name, about in FIGURES.items())}."


def plot(
    console: Console,
    context: typer.Context,
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE",
            help="Run folders of laat train, or one report of laat eval; what --figure takes.",
            show_default=False,
        ),
    ],
    plotting: Plotting,
    figure: str | None = parameter(None, _FIGURE_HELP, choices=tuple(FIGURES)),
    output: Path | None = parameter(
        None,
        "File to write: .png, .svg or .pdf.",
        short=("-o",),
        panel=OUTPUT,
        unset="report.png beside report.json; curves.png or what --figure names, beside the source if there is one",
    ),
) -> None:
    """Plot learning curves of runs, the results of a report, or another figure, such as those of the paper."""
    if output is not None and str(output) == STDIO:
        raise UsageError("--output cannot be standard output", "name a file")
    twice = next((one for at, one in enumerate(sources) if one.resolve() in [other.resolve() for other in sources[:at]]), None)
    if twice is not None:
        raise UsageError(f"'{twice}' is given twice", "name each once")
    report = next((path for path in sources if path.is_file() or path.suffix == ".json"), None)
    size = plotting.plot_size
    if figure is not None:
        target = output or _place(sources, f"{figure}.png")
        _check(context, target, [("the figure", path) for path in sources])
        draw = {"curves": _plot_settings, "expansion": _plot_expansion, "security": _plot_security, "shots": _plot_shots}
        draw[figure](console, sources, target, size)
    elif report is None:
        target = output or _place(sources, f"{CURVES}.png")
        _check(context, target, [])
        _plot_runs(console, sources, target, size)
    elif len(sources) > 1:
        raise UsageError(f"'{report}' is a file, given with other sources", "name run folders, or one report alone")
    else:
        target = output or report.with_suffix(".png")
        _check(context, target, [("REPORT", report)])
        _plot_report(console, report, target, size)


def _place(sources: list[Path], name: str) -> Path:
    """In the run folder or beside the file, if there is only one; else in the current folder."""
    if len(sources) > 1:
        return Path(name)
    return (sources[0] if sources[0].is_dir() else sources[0].parent) / name


def _plot_settings(console: Console, folders: list[Path], target: Path, size: str) -> None:
    from stages.reports.curves import mean_share, plot_mean_curves
    from stages.reports.run_groups import curves_by_setting

    curves, notes = curves_by_setting(folders)
    plot_mean_curves(curves, target, size)
    for note in notes:
        console.note(note)
    records = [
        {
            "name": one.name,
            "epochs": len(one.epochs),
            "runs": [{"run": str(run.folder), "best_epoch": run.best, **_at_best(run)} for run in one.runs],
        }
        for one in curves
    ]
    console.result({"output": str(target), "settings": records})
    rows = [
        [one.name, str(len(one.runs)), str(len(one.epochs)), *(mean_share(one.at_best(name)) for name in _MEASURES)]
        for one in curves
    ]
    columns = ("runs", "epochs", "selection clean", "selection robust")
    console.table([Column("setting"), *(Column(name, True) for name in columns)], rows)
    console.line(f"{target}: loss and accuracies over the epochs; ± is the standard deviation over the runs of a setting")


def _plot_expansion(console: Console, files: list[Path], target: Path, size: str) -> None:
    from stages.anchors.expanded import read_raw_and_expanded
    from stages.reports.sphere import plot_expansion

    raw, expanded = read_raw_and_expanded(files)
    globe = plot_expansion(raw, expanded, target, size)
    console.result({"output": str(target), "classes": len(raw.classes), "longitude_variance": globe.variance})
    console.line(f"{target}: {len(raw.classes)} anchors on the sphere, before and after the expansion")


def _plot_security(console: Console, reports: list[Path], target: Path, size: str) -> None:
    from stages.reports.report import read_report
    from stages.reports.security import drawn_and_left_out
    from stages.reports.security_plot import plot_security

    curves, left_out = drawn_and_left_out({str(path): read_report(path) for path in reports})
    if not curves:
        raise InputError("no curve: no two of the reports are of one model and differ in eps alone", "name such reports")
    if left_out:
        what = (
            f"not in any curve: {listed(left_out, 5)}, for no other report differs in eps alone, or an earlier one has the eps"
        )
        raise InputError(what, "leave it out" if len(left_out) == 1 else "leave them out")
    plot_security(curves, target, size)
    console.result({"output": str(target), "reports": [str(path) for path in reports]})
    console.line(f"{target}: accuracy over eps of {counted(len(reports), 'report')}")


def _plot_report(console: Console, path: Path, target: Path, size: str) -> None:
    from stages.reports.plots import plot_report
    from stages.reports.report import read_report

    report = read_report(path)
    plot_report(report, target, size)
    console.result({"output": str(target), "report": str(path)})
    console.line(f"{target}: {'seen-unseen curves' if report.protocol.name == 'gzsl' else 'accuracies'} of {path}")


def _plot_runs(console: Console, runs: list[Path], target: Path, size: str) -> None:
    from stages.reports.curves import plot_curves
    from stages.reports.metrics import read_metrics

    found = [read_metrics(run) for run in runs]
    plot_curves(found, target, size)
    _show(console, found, target)


def _plot_shots(console: Console, paths: list[Path], target: Path, size: str) -> None:
    from stages.reports.report import read_report
    from stages.reports.shots import plot_shots, shot_lines

    reports = {str(path): read_report(path) for path in paths}
    lines = shot_lines(reports)
    plot_shots(lines, next(iter(reports.values())), target, size)
    console.result({"output": str(target), "lines": [line.to_record() for line in lines]})
    rows = [
        [line.setting, line.anchors, str(shots), str(line.runs), *(f"{100 * values[at]:.1f}" for values in figures)]
        for line in lines
        for figures in [[line.figures(measure)[0] for measure in line.measures]]
        for at, shots in enumerate(line.results)
    ]
    numbers = (Column(name, True) for name in ("shots", "runs", *(f"{measure} %" for measure in lines[0].measures)))
    console.table([Column("setting"), Column("anchors from"), *numbers], rows)
    console.line(f"{target}: accuracies over the number of shots")


def _check(context: typer.Context, target: Path, inputs: list[Place]) -> None:
    check_places(context, [("--output", target)], inputs)
    check_picture(target)


def _show(console: Console, runs: list[RunMetrics], target: Path) -> None:
    best = [_at_best(run) for run in runs]
    records = [
        {"run": str(run.folder), "epochs": len(run.epochs), "best_epoch": run.best, **values}
        for run, values in zip(runs, best, strict=True)
    ]
    console.result({"output": str(target), "runs": records})
    columns = ("epochs", "best epoch", "selection clean %", "selection robust %")
    rows = [
        [*(str(record[name]) for name in ("run", "epochs", "best_epoch")), *map(_share, values.values())]
        for record, values in zip(records, best, strict=True)
    ]
    console.table([Column("run"), *(Column(name, True) for name in columns)], rows)
    console.line(f"{target}: loss and accuracies over the epochs")


def _at_best(run: RunMetrics) -> dict[str, float | None]:
    return {name: run.at_best(name) for name in _MEASURES}


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)
