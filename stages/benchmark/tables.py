"""The table of a benchmark as the field prints it: a row per model, clean and robust accuracy per data set, averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stages.benchmark.cells import Cell as BenchmarkCell
from stages.reports.notes import merged_notes
from stages.reports.records import Report, Result
from stages.reports.report_tables import failed_checks
from stages.reports.tables import MISSING, Cell, FigureTable, percent, share
from stages.text import counted
from stages.threat import ThreatModel

CLEAN, ROBUST = "clean", "robust"


def benchmark_tables(
    cells: Sequence[BenchmarkCell], reports: Mapping[BenchmarkCell, Report], *, title: str, missing: Sequence[str] = ()
) -> list[FigureTable]:
    """One table for each suite and threat model.

    Averages are over the data sets of which every model has figures, so that they compare: the heading says how many.

    Args:
        cells: all cells, also those without a report.
        reports: of those that have one.
        title: of the benchmark.
        missing: names of the data sets that were left out since they are missing.
    """
    kinds = dict.fromkeys((cell.suite.name, cell.threat) for cell in cells)
    return [
        _table([cell for cell in cells if (cell.suite.name, cell.threat) == kind], reports, title, kind[1], missing)
        for kind in kinds
    ]


def _table(
    cells: Sequence[BenchmarkCell],
    reports: Mapping[BenchmarkCell, Report],
    title: str,
    threat: ThreatModel,
    missing: Sequence[str],
) -> FigureTable:
    models = list(dict.fromkeys(cell.model for cell in cells))
    by_place = {(cell.model, cell.data.one.name): reports[cell] for cell in cells if cell in reports}
    named = list(dict.fromkeys(cell.data.one.name for cell in cells))
    data = [name for name in named if any((model, name) in by_place for model in models)]
    failed = [name for name in named if name not in data]
    by_order = [name for name in data if any(cell.data.one.name == name and cell.data.one.match == "order" for cell in cells)]
    common = [name for name in data if all((model, name) in by_place for model in models)]
    several = len(data) > 1  # the average of one data set is its own column
    rows: list[tuple[Cell, ...]] = []
    for model in models:
        entries = {name: _entry(by_place[model, name]) for name in data if (model, name) in by_place}
        figures = [figure for name in data for figure in (_pair(entries[name]) if name in entries else (MISSING, MISSING))]
        means = [_mean([entries[name] for name in common], measure) for measure in (CLEAN, ROBUST) if several]
        rows.append((model, *figures, *means))
    average = f"average of {counted(len(common), 'data set')}"
    columns = [f"{name} {measure}" for name in data for measure in (CLEAN, ROBUST)]
    suite = cells[0].suite.label
    return FigureTable(
        f"{title}: accuracy %, attacks in {threat}, suite {suite}",
        ("model", *columns, *([f"{average}, {CLEAN}", f"{average}, {ROBUST}"] if several else [])),
        tuple(rows),
        (
            *_notes(by_place, models, data, common),
            *([f"left out, as the data are missing: {', '.join(missing)}"] if missing else []),
            *([f"left out, as all cells failed: {', '.join(failed)}"] if failed else []),
            *(["the averages are not over the whole benchmark"] if missing or failed or data != common else []),
            *([f"class names belong to labels by their order: {', '.join(by_order)}"] if by_order else []),
        ),
    )


def _entry(report: Report) -> Result:
    return report.results[0]


def _pair(entry: Result) -> list[Cell]:
    return [share(one.accuracy, one.low, one.high) for one in (entry.clean, entry.worst)]


def _mean(entries: Sequence[Result], measure: str) -> Cell:
    if not entries:
        return MISSING
    values = [(one.clean if measure == CLEAN else one.worst).accuracy for one in entries]
    return percent(sum(values) / len(values))


def _notes(
    by_place: Mapping[tuple[str, str], Report],
    models: Sequence[str],
    data: Sequence[str],
    common: Sequence[str],
) -> list[str]:
    """What a reader must know of the figures: intervals, what no average has, images that differ, chance, failed checks."""
    notes = []
    intervals = dict.fromkeys(_entry(one).interval for one in by_place.values())
    if intervals:
        notes.append(f"{CLEAN} and {ROBUST} ± {'; '.join(intervals)}; {ROBUST} is the worst case over the attacks of the suite")
    for name in data:
        without = [model for model in models if (model, name) not in by_place]
        if without:
            notes.append(f"{name} is in no average: no figures of {', '.join(without)}")
    for name in data:
        images = {report.data.sha256 for (_, one), report in by_place.items() if one == name}
        if len(images) > 1:
            notes.append(
                f"{name}: the models got images of different sizes or parts, so its columns and averages do not compare"
            )
    chance = ", ".join(f"{name} {100 * _entry(by_place[models[0], name]).chance:.1f}" for name in common)
    if chance:
        notes.append(f"chance: {chance}")
    by_model = {
        model: merged_notes({name: report.notes for (one, name), report in by_place.items() if one == model})
        for model in models
    }
    notes += [f"note: {text}" for text in merged_notes(by_model)]
    for (model, name), report in by_place.items():
        failed = failed_checks(report)
        if failed:
            notes.append(f"checks failed of {model} on {name}: {', '.join(failed)}; `laat report` of the cell says why")
    return notes
