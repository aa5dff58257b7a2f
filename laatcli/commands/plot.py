"""`laat plot`: the learning curves of run folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laatcli.console import Column, Console, percent
from stages import artifacts
from stages.errors import UsageError
from stages.parameters import parameter

if TYPE_CHECKING:
    from stages.reports.metrics import RunMetrics

EXAMPLES = ("laat plot run", "laat plot run-raw run-expanded -o both.png")
NAME = "curves.png"


def plot(
    console: Console,
    runs: Annotated[list[Path], typer.Argument(help="Run folders of laat train; several are compared.", show_default=False)],
    output: Path | None = parameter(None, "PNG file.", short=("-o",), unset=f"{NAME}, in the run folder if there is one run"),
) -> None:
    """Plot the learning curves of one or several runs."""
    target = output or (runs[0] / NAME if len(runs) == 1 else Path(NAME))
    if str(target) == artifacts.STDIO:
        raise UsageError("--output cannot be standard output", "name a PNG file")
    twice = next((run for at, run in enumerate(runs) if run.resolve() in [other.resolve() for other in runs[:at]]), None)
    if twice is not None:
        raise UsageError(f"'{twice}' is given twice", "name each run once")
    from stages.reports.curves import plot_curves
    from stages.reports.metrics import read_metrics

    found = [read_metrics(run) for run in runs]
    artifacts.check_writable(target)
    plot_curves(found, target)
    _show(console, found, target)


def _show(console: Console, runs: list[RunMetrics], target: Path) -> None:
    measures = ("selection_clean", "selection_robust")
    best = [{name: run.at_best(name) for name in measures} for run in runs]
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


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)
