"""`laat benchmark`: models on many data sets, one report a cell, and the table of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from laatcli import options
from laatcli.command import describe
from laatcli.console import Column, Console
from laatcli.reporting import Format, check_format, show_table
from stages.benchmark.cells import Cell, cells_of
from stages.benchmark.presence import Presence, find_all, missing_text
from stages.benchmark.spec import Benchmark, bundled_names, find_benchmark
from stages.errors import ComputeError, LaatError, MissingError, UsageError
from stages.exchange.model_request import ModelRequest
from stages.parameters import parameter, same_parameter
from stages.reports.figures import check_picture
from stages.text import counted

if TYPE_CHECKING:
    from stages.benchmark.run import Outcome

EXAMPLES = (
    "laat benchmark shapes demo -o shapes-benchmark",
    "laat benchmark mine.toml robust=run/model.st clip:ViT-B-32/openai",
)
CELLS = "Cells"


def benchmark(
    console: Console,
    context: typer.Context,
    *,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME|FILE.toml", help="A bundled benchmark or your own.", show_default=False)
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help=f"NAME=MODEL names it in tables. {options.MODELS}", show_default=False),
    ] = None,
    computing: options.Computing,
    plotting: options.Plotting,
    architecture: str | None = same_parameter(ModelRequest, "architecture"),
    backbone: str | None = same_parameter(ModelRequest, "backbone"),
    root: Path | None = parameter(
        None, "Folder with your copies of data sets: ROOT/NAME is read instead of the hub.", panel=CELLS
    ),
    skip_missing: bool = parameter(False, "Go on without the data sets that are missing.", panel=CELLS),
    max_images: int | None = parameter(
        None,
        "At most N images of each data set, sampled evenly over the classes.",
        unset="as in the file",
        panel=CELLS,
        at_least=1,
    ),
    checks: bool = parameter(True, "Check each robust accuracy on 64 samples.", panel=CELLS),
    bundled: Annotated[bool, typer.Option("--list", help="List the bundled benchmarks, and what is here, and exit.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells and their files; compute nothing.")] = False,
    output: Path | None = parameter(
        None, "Folder of the reports.", short=("-o",), panel=options.OUTPUT, unset="benchmark-NAME", places=()
    ),
    plot: Path | None = parameter(
        None, "Draw the security curves, accuracy over eps, to this .png, .svg or .pdf file.", panel=options.OUTPUT
    ),
    force: bool = parameter(False, "Compute every cell again.", panel=options.OUTPUT),
    form: Format = "table",
) -> None:
    """Evaluate models on the data sets of a benchmark: every data set, eps and suite is a cell.

    Each cell of a model is an ordinary report in the folder; run the same
    command again after an interruption or a failure, or with more models:
    finished cells are kept, and those whose inputs changed are computed
    again. A .toml file describes a benchmark: see examples/benchmark.
    """
    check_format(form, console)
    if bundled:
        _show_bundled(console, root)
        return
    if name is None:
        raise UsageError("no benchmark is named", f"bundled ones: {', '.join(bundled_names())}; or name a .toml file")
    plan = _changed(find_benchmark(name), max_images, computing.seed, context)
    specs = _named(models or [])
    if plot is not None:
        check_picture(plot)
        options.check_places(context, [("--plot", plot)], [("the command", name)])
    else:
        options.refuse_without(context, ("plot_size",), "a plot", "add --plot FILE")
    found = find_all(plan.data_sets, root, online=not dry_run)
    cells = cells_of(plan, found, list(specs), output or Path(f"benchmark-{plan.name}"))
    if dry_run:
        _show_cells(console, plan, found, cells)
        return
    if not specs:
        raise UsageError("no model is given", f"name at least one, for example `laat benchmark {name} run/model.st`")
    missing = [one.one.name for one in found if one.data is None]
    if missing and (not skip_missing or len(missing) == len(found)):
        what = f"{len(missing)} of {counted(len(found), 'data set')} missing: {missing_text(found)}"
        fix = "put a copy into FOLDER/NAME and give --root FOLDER, or connect to the network"
        raise MissingError(what, fix if len(missing) == len(found) else f"{fix}; --skip-missing leaves them out")
    for one in found:
        if one.data is None:
            console.warn(f"left out: {missing_text([one])}")
    cells = [cell for cell in cells if cell.data.data is not None]
    request = ModelRequest(architecture=architecture, backbone=backbone)
    outcome = _run(console, plan, specs, cells, computing, request, checks=checks, force=force)
    _show(console, plan, cells, outcome, missing, form)
    if plot is not None and outcome.reports:
        _draw(console, outcome, plot, plotting.plot_size)
    _end(console, outcome, len(cells))


def _run(
    console: Console,
    plan: Benchmark,
    specs: dict[str, str],
    cells: Sequence[Cell],
    computing: options.Computing,
    request: ModelRequest,
    *,
    checks: bool,
    force: bool,
) -> Outcome:
    from stages.benchmark.run import BenchmarkRun
    from stages.devices import resolve_device

    device = resolve_device(computing.device)
    try:
        with console.progress("benchmark") as bar:

            def failed(name: str, error: Exception) -> None:
                console.traceback(error)
                bar.line(f"failed: {name}: {describe(error)[1]}")

            how: dict[str, Any] = {"note": bar.line, "failed": failed, "progress": bar.update}
            run = BenchmarkRun(plan, specs, checks, request, computing.batch_size, device, force, **how)
            return run.all(cells)
    except KeyboardInterrupt:
        console.note("stopped: run the same command again to resume; finished cells are kept")
        raise


def _changed(plan: Benchmark, max_images: int | None, seed: int, context: typer.Context) -> Benchmark:
    """The benchmark with what the command line sets."""
    source = context.get_parameter_source("seed")
    given = source is not None and source.name != "DEFAULT"
    sample = replace(plan.sample, images=max_images or plan.sample.images, seed=seed if given else plan.sample.seed)
    return replace(plan, sample=sample)


def _named(models: Sequence[str]) -> dict[str, str]:
    """Name in tables -> MODEL. Raises UsageError for a model or a name given twice, InputError for files that are not there."""
    from stages.exchange.open_model import check_there, report_names

    split = [one.partition("=") if not Path(one).exists() else (one, "", "") for one in models]
    plain = [right if equals else left for left, equals, right in split]
    if "" in plain or any(equals and not left for left, equals, _ in split):
        raise UsageError("a model has an empty name", "write NAME=MODEL, or MODEL alone")
    if len({Path(spec).resolve() for spec in plain}) < len(plain):
        raise UsageError("a model is given twice", "name each model once")
    for spec in plain:
        check_there(spec)
    own = report_names(plain)
    names = [left if equals else name for (left, equals, _), name in zip(split, own, strict=True)]
    numbered = len(own) > 1 and own == [str(at + 1) for at in range(len(own))]  # of models that no part of the path tells apart
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None or (numbered and names == own):
        raise UsageError(f"models have the same name{f' {twice!r}' if twice else ''}", "name them: NAME=MODEL")
    return dict(zip(names, plain, strict=True))


def _show(
    console: Console, plan: Benchmark, cells: Sequence[Cell], outcome: Outcome, missing: Sequence[str], form: str
) -> None:
    from stages.benchmark.run import failures
    from stages.benchmark.tables import benchmark_tables

    tables = benchmark_tables(cells, outcome.reports, title=plan.title, missing=missing) if outcome.reports else []
    console.result(
        {
            "benchmark": plan.name,
            "cells": [
                {
                    **{"model": cell.model, "data": cell.data.one.name, "threat": str(cell.threat), "suite": cell.suite.name},
                    **{"report": str(cell.path), "state": outcome.how.get(cell, "failed")},
                }
                for cell in cells
            ],
            "failed": [{"cells": name, "what": describe(error)[1]} for name, error in failures(outcome)],
            "missing": list(missing),
            "tables": [
                {"title": one.title, "columns": head, "rows": rows, "notes": list(one.notes)}
                for one, (head, *rows) in ((table, table.plain_numbers()) for table in tables)
            ],
        }
    )
    for number, table in enumerate(tables):
        if number and form != "table":
            console.document("\n")
        show_table(console, table, form)


def _draw(console: Console, outcome: Outcome, path: Path, size: str) -> None:
    from stages.reports.security import security_curves
    from stages.reports.security_plot import plot_security

    curves = security_curves({str(cell.path): report for cell, report in outcome.reports.items()})
    if curves:
        plot_security(curves, path, size)
        console.note(f"{path}: security curves")
    else:
        console.warn(f"no security curve was drawn to {path}: it needs reports of one model at two eps or more")


def _end(console: Console, outcome: Outcome, total: int) -> None:
    """Say what was done. Raises ComputeError if a cell failed, after naming each with its reason; LaatError for a bug."""
    from stages.benchmark.run import failures

    kinds = list(outcome.how.values())
    done = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "0 done"
    console.note(f"{counted(total, 'cell')}: {done}{f', {len(outcome.failed)} failed' if outcome.failed else ''}")
    kind: type[LaatError] = ComputeError
    for name, error in failures(outcome):
        code, what, fix = describe(error)
        console.note(f"failed: {name}: {what}{f'; {fix}' if fix else ''}")
        kind = LaatError if code == LaatError.exit_code else kind
    if outcome.failed:
        fix = "the lines above say why; the same command runs them again"
        raise kind(f"{len(outcome.failed)} of {counted(total, 'cell')} failed", fix)


def _show_cells(console: Console, plan: Benchmark, found: Sequence[Presence], cells: Sequence[Cell]) -> None:
    console.result(
        {
            "benchmark": plan.name,
            "data": [{"name": one.one.name, "here": one.data is not None, "where": one.where} for one in found],
            "cells": [{"name": cell.name, "report": str(cell.path), "exists": cell.path.is_file()} for cell in cells],
        }
    )
    _show_data(console, plan, found)
    states = {True: "there", False: "to do"}
    rows = [[cell.name, str(cell.path), states[cell.path.is_file()]] for cell in cells]
    if rows:
        console.table([Column("cell"), Column("report"), Column("state")], rows)
    else:
        each = len(plan.threats) * len(plan.suites)
        console.line(f"{counted(len(found) * each, 'cell')} for each model")


def _show_data(console: Console, plan: Benchmark, found: Sequence[Presence]) -> None:
    rows = [[one.one.name, "here" if one.data else "missing", one.where, one.one.known.partition(":")[0]] for one in found]
    eps = ", ".join(str(threat) for threat in plan.threats)
    title = f"{plan.name}: {plan.title}; {eps}; suites {', '.join(suite.name for suite in plan.suites)}"
    console.table([Column("data set"), Column("state"), Column("where"), Column("known")], rows, title=title)


def _show_bundled(console: Console, root: Path | None) -> None:
    """The bundled benchmarks and their data sets; the hub is not asked."""
    plans = {name: find_benchmark(name) for name in bundled_names()}
    found = {name: find_all(plan.data_sets, root, online=False) for name, plan in plans.items()}
    console.result(
        {
            "benchmarks": [
                {
                    **{"name": name, "title": plan.title, "threats": [str(one) for one in plan.threats]},
                    "data": [
                        {"name": one.one.name, "source": one.one.data, "here": one.data is not None, "known": one.one.known}
                        for one in found[name]
                    ],
                }
                for name, plan in plans.items()
            ]
        }
    )
    for name, plan in plans.items():
        _show_data(console, plan, found[name])
        console.line("")
    console.line("the hub was not asked; laat benchmark NAME MODEL… runs one, downloading what is missing")
