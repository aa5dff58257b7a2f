"""What the page says, from reports, runs and saved images. Needs torch for saved images alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.errors import UsageError
from stages.files.artifact_params import Lineage
from stages.files.epoch_metrics import BEST, METRICS
from stages.files.reading import read_file
from stages.reports.check_records import Checks
from stages.reports.curves import run_names
from stages.reports.leaderboard import Leaderboard, ranking_tables
from stages.reports.metrics import RunMetrics, read_metrics
from stages.reports.page.charts import Chart, Charts
from stages.reports.page.repeat import Repeat, repeat_command
from stages.reports.page.request import PageRequest
from stages.reports.page.words import attack_words, data_words, knowledge_words, model_words, protocol_words, threat_words
from stages.reports.parts import alike
from stages.reports.records import Report
from stages.reports.report_tables import failed_checks, tables_of_alike
from stages.reports.security import security_curves, security_table
from stages.reports.tables import MISSING, Cell, Figure, FigureTable, percent
from stages.text import counted

if TYPE_CHECKING:
    from stages.reports.page.gallery import Gallery

# with more groups, a chart has one picture for wide and narrow windows: the page stays small
_TWO_SIZES = 12


@dataclass(frozen=True)
class Group:
    """Reports that were measured alike, by their names, and their tables."""

    reports: Mapping[str, Report]
    tables: Sequence[FigureTable]


@dataclass(frozen=True)
class Results:
    """What is shown of one group.

    Attributes:
        said: which images and which protocol.
        tables, charts: its figures.
        checks: of each report, whether its attacks were checked, and what failed; True for a failure.
    """

    said: Sequence[str]
    tables: Sequence[FigureTable]
    charts: Sequence[Chart]
    checks: Sequence[tuple[str, bool]]


@dataclass(frozen=True)
class Input:
    """One line of a lineage: how deep, what it is, and its SHA-256."""

    depth: int
    what: str
    sha256: str


@dataclass(frozen=True)
class About:
    """What one report says of itself.

    Attributes:
        name: of the report.
        facts: heading -> sentences.
        checks: of each result.
        lineage: of the models and of what was evaluated.
        repeat: the command.
    """

    name: str
    facts: Mapping[str, Sequence[str]]
    checks: Sequence[Checks]
    lineage: Sequence[Input]
    repeat: Repeat


@dataclass(frozen=True)
class Content:
    """Everything on the page, section by section."""

    title: str
    results: Sequence[Results]
    security: Sequence[tuple[Chart, FigureTable]]
    galleries: Sequence[Gallery]
    learning: tuple[Chart, FigureTable] | None
    about: Sequence[About]

    @property
    def classes(self) -> list[str]:
        """The classes of all images."""
        return sorted({name for gallery in self.galleries for name in gallery.classes})

    @property
    def outcomes(self) -> list[str]:
        """What an attack can come to."""
        return sorted({one.outcome for gallery in self.galleries for one in gallery.pictures})


def groups_of(reports: Mapping[str, Report]) -> list[Group]:
    """Reports, by their names, in groups that were measured alike."""
    label = "report" if len(reports) > 1 else None
    return [Group(group, tables_of_alike(group, label)) for group in alike(reports)]


def groups_in(board: Leaderboard) -> list[Group]:
    """The rankings of a leaderboard."""
    return [Group(ranking, ranking_tables(ranking)) for ranking in board.rankings()]


def page_content(groups: Sequence[Group], paths: Mapping[Path, Report], request: PageRequest) -> Content:
    """The content of the page.

    Args:
        groups: the reports.
        paths: those of them that are files, by their paths: runs and rows are looked for beside them.
        request: the runs and images that the user named.

    Raises InputError for runs and images that cannot be read, UsageError for one that is given twice.
    """
    for option, given in {"--run": request.run, "--adversarial": request.adversarial}.items():
        places = [path.resolve() for path in given or ()]
        twice = next((path for at, path in enumerate(places) if path in places[:at]), None)
        if twice is not None:
            raise UsageError(f"{option} '{twice}' is given twice", "name each once")
    charts = Charts() if len(groups) <= _TWO_SIZES else Charts(["column"])
    names = [name for group in groups for name in group.reports]
    shared = len({*names}) < len(names)  # ranks are names in every ranking
    named = {
        f"ranking {number}, {name}" if shared else name: report
        for number, group in enumerate(groups, 1)
        for name, report in group.reports.items()
    }
    return Content(
        title=_title(named),
        results=[_results(group, charts) for group in groups],
        security=[(charts.of_eps(curves), security_table(curves)) for curves in security_curves(named)],
        galleries=_galleries(paths, request),
        learning=_learning(paths, request, charts),
        about=[_about(name, report) for name, report in named.items()],
    )


def _results(group: Group, charts: Charts) -> Results:
    first = next(iter(group.reports.values()))
    checks = [
        (f"checks of {name}: {_checked(report)}", bool(failed_checks(report)))
        for name, report in group.reports.items()
        if report.threat is not None
    ]
    return Results([data_words(first), protocol_words(first)], group.tables, charts.of_results(group.reports), checks)


def _checked(report: Report) -> str:
    """What came of the checks of a report, in a few words."""
    if report.checks is None:
        return "none were made"
    if failed := failed_checks(report):
        return f"failed: {', '.join(failed)}"
    found = [one.result for entry in report.checks for one in entry.findings]
    others = {"warnings": found.count("warn"), "with too few points": found.count("few")}
    return ", ".join(["none failed", *(f"{count} {what}" for what, count in others.items() if count)])


def _title(reports: Mapping[str, Report]) -> str:
    models = list(dict.fromkeys(model.name for report in reports.values() for model in report.models))
    data = list(dict.fromkeys(report.data.source for report in reports.values()))
    shown = ", ".join(models) if len(models) < 4 else counted(len(models), "model")
    return f"{shown} on {', '.join(data) if len(data) < 3 else f'{len(data)} data sets'}"


def _about(name: str, report: Report) -> About:
    facts = {
        "Data": [data_words(report)],
        "Protocol": [protocol_words(report)],
        "Models": model_words(report),
        "Threat model": threat_words(report),
        "Attacker": [knowledge_words(report)] if report.threat else [],
        "Attacks": [*([f"suite {report.suite}"] if report.suite else []), *attack_words(report)],
        "Notes": report.notes,
    }
    return About(
        name,
        {heading: said for heading, said in facts.items() if said},
        report.checks or (),
        list(_lineage(report)),
        repeat_command(report),
    )


def _lineage(report: Report) -> Iterator[Input]:
    for model in report.models:
        yield Input(0, f"model {model.name}", model.sha256)
        trained = model.training
        if trained is not None:
            found = {"anchors of the training": trained.anchors_sha256, "training images": trained.data_sha256}
            found["checkpoint that it started from"] = trained.init
            yield from (Input(1, what, sha256) for what, sha256 in found.items() if sha256)
            if trained.blend is not None:
                yield Input(1, f"other model of the blend, {trained.blend_with or 'unknown'}", "")
    yield Input(0, f"images of {report.data.source}, with labels and class names", report.data.sha256 or "")
    if report.adversarial is not None:
        yield Input(0, "saved adversarial images", report.adversarial.sha256)
        yield from _inputs(report.adversarial.inputs, 1)
    inputs = (report.identity or {}).get("inputs", {})
    for what in ("anchors", "classes", "list of images", "replayed episodes"):
        if isinstance(inputs.get(what), str):
            yield Input(0, f"{what}, digest of their content", inputs[what])
    for what, reference in {"rows": report.rows, "episodes": report.episodes}.items():
        if reference is not None:
            yield Input(0, f"{what} of the report, {reference.file}", reference.sha256)
    yield Input(0, f"the report itself, schema {report.schema_version}, laat {report.tool}", report.digest or "")


def _inputs(found: Mapping[str, Lineage], depth: int) -> Iterator[Input]:
    for name, one in found.items():
        yield Input(depth, f"{name} ({one.kind})", one.sha256)
        yield from _inputs(one.inputs, depth + 1)


def _learning(paths: Mapping[Path, Report], request: PageRequest, charts: Charts) -> tuple[Chart, FigureTable] | None:
    folders = request.run if request.run is not None else _runs_beside(paths)
    if not folders:
        return None
    runs = [read_metrics(folder) for folder in folders]
    return charts.of_runs(runs), _runs_table(runs)


def _runs_beside(paths: Mapping[Path, Report]) -> list[Path]:
    """The folders of reports that have the run of one of their models: its checkpoint, and its metrics."""
    found = []
    for folder in dict.fromkeys(path.parent for path in paths):
        checkpoint = folder / BEST
        if checkpoint.is_file() and (folder / METRICS).is_file():
            sha256 = hashlib.sha256(read_file(checkpoint)).hexdigest()
            if any(
                model.sha256 == sha256 for path, report in paths.items() if path.parent == folder for model in report.models
            ):
                found.append(folder)
    return found


def _runs_table(runs: Sequence[RunMetrics]) -> FigureTable:
    rows: list[tuple[Cell, ...]] = []
    for name, run in zip(run_names([run.folder for run in runs]), runs, strict=True):
        shares = [run.at_best(measure) for measure in ("selection_clean", "selection_robust")]
        loss = float(run.values["loss"][run.best - 1])
        cells = [MISSING if one is None else percent(one) for one in shares]
        rows.append((name, len(run.epochs), run.best, Figure(loss, f"{loss:.4f}"), *cells))
    columns = ("run", "epochs", "best epoch", "loss", "selection clean %", "selection robust %")
    return FigureTable("runs at their best epoch", columns, tuple(rows))


def _galleries(paths: Mapping[Path, Report], request: PageRequest) -> list[Gallery]:
    galleries: list[Gallery] = []
    if request.adversarial:
        from stages.reports.page.saved_gallery import saved_gallery

        galleries += [saved_gallery(path, paths, request.images) for path in request.adversarial]
    if request.data is not None:
        from stages.reports.page.drawn_gallery import drawn_galleries

        with_rows = {path: report for path, report in paths.items() if report.rows is not None and report.threat is not None}
        if not with_rows:
            raise UsageError("--data shows the images of reports, and none of these has rows", "name a report with its rows")
        for path, report in with_rows.items():
            galleries += drawn_galleries(path, report, request.data, request.images)
    return galleries
