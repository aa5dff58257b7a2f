"""Running the cells of a benchmark: finished ones are skipped by identity, failures are collected and the rest is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stages.benchmark.cells import Cell
from stages.benchmark.images import SharedImages
from stages.benchmark.spec import Benchmark
from stages.data.image_set import ImageSet
from stages.errors import UsageError
from stages.evaluation.chunks import Chunks, SavedChunks, chunks_folder
from stages.evaluation.evaluate import evaluate_classifiers
from stages.evaluation.groups import ClassChoice
from stages.evaluation.task import Task
from stages.exchange.model_request import ModelRequest
from stages.exchange.open_model import open_models, used_of
from stages.files.writing import check_writable
from stages.models.classifier import Classifier
from stages.models.image_size import require_size
from stages.models.wrapped import reading_of, resize_inside
from stages.reports.earlier import earlier_report
from stages.reports.episode_file import episodes_path
from stages.reports.records import Report
from stages.reports.row_file import default_rows_path

DONE, UP_TO_DATE, AGAIN = "done", "up to date", "computed again"
_PARTS = 1000  # of a cell, for the progress


@dataclass
class Outcome:
    """What became of the cells.

    Attributes:
        reports: of those that are there.
        failed: the error of each of the others.
        how: how each report came about: done, up to date, or computed again.
    """

    reports: dict[Cell, Report] = field(default_factory=dict)
    failed: dict[Cell, Exception] = field(default_factory=dict)
    how: dict[Cell, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Opened:
    """A model over the classes of a data set, and the images in its size."""

    classifier: Classifier
    images: ImageSet
    choice: ClassChoice


@dataclass(frozen=True)
class BenchmarkRun:
    """How a benchmark is run.

    Attributes:
        benchmark: its settings.
        specs: name of a model in tables -> MODEL.
        checks: whether each result is checked.
        request: what the models need to be opened, besides the class names and prompts of the data sets.
        batch_size, device: of the evaluation.
        force: compute every cell again.
        note: called with a line on what happens.
        failed: called with the names of cells and their error, which loses its traceback afterwards.
        progress: called with (done, total, what) over the cells, and within them.
    """

    benchmark: Benchmark
    specs: Mapping[str, str]
    checks: bool
    request: ModelRequest
    batch_size: int
    device: str
    force: bool
    note: Callable[[str], None]
    failed: Callable[[str, Exception], None]
    progress: Callable[[int, int, str], None]

    def all(self, cells: Sequence[Cell]) -> Outcome:
        """Run the cells. Ctrl-C leaves the finished ones, and the chunks of the one that ran."""
        outcome = Outcome()
        by_data: dict[str, dict[str, list[Cell]]] = {}
        for cell in cells:
            by_data.setdefault(cell.data.one.name, {}).setdefault(cell.model, []).append(cell)
        for by_model in by_data.values():
            shared: SharedImages | None = None
            for own in by_model.values():
                try:
                    shared = shared or SharedImages(own[0].data)
                    self._model(own, self._open(own[0], shared), outcome, len(cells))
                except Exception as error:
                    self._fail(own, error, outcome)
        return outcome

    def _model(self, cells: Sequence[Cell], opened: _Opened, outcome: Outcome, total: int) -> None:
        """The cells of one model on one data set."""
        for cell in cells:
            try:
                self._one(cell, opened, outcome, total)
            except Exception as error:
                self._fail([cell], error, outcome)

    def _fail(self, cells: Sequence[Cell], error: Exception, outcome: Outcome) -> None:
        """Any error: the other cells do not depend on it, and it is told at the end."""
        self.failed(_name_of(cells), error)
        error.__cause__ = error.__context__ = error.__traceback__ = None  # their frames hold the model and the images
        outcome.failed.update(dict.fromkeys(cells, error))

    def _open(self, cell: Cell, shared: SharedImages) -> _Opened:
        spec, one = self.specs[cell.model], cell.data.one
        request = replace(self.request, names=shared.names, template=list(one.templates) or None)
        found = open_models([spec], used_of(request, spec), progress=self.note)[0]
        classifier = resize_inside(found.classifier, self.benchmark.resize_inside, cell.model)
        images = shared.read(reading_of(classifier), classifier.trained.names("seen"))
        require_size(classifier, images.size, f"the images of '{one.name}'", "set resize = {} for the data set")
        return _Opened(classifier, images, ClassChoice(one.group, tuple(shared.names)))

    def _one(self, cell: Cell, opened: _Opened, outcome: Outcome, total: int) -> None:
        """The report of a cell: the one that is there, if its inputs are the same, or a new one."""
        task = self._task(cell, opened)
        task.check()
        report, how = (None, DONE) if self.force else self._there(cell, task)
        before = len(outcome.how) + len(outcome.failed)
        if report is None:
            check_writable(cell.path)
            saved = SavedChunks(chunks_folder(cell.path))

            def show(done: int, most: int, what: str) -> None:
                self.progress(
                    _PARTS * before + _PARTS * done // max(most, 1),
                    _PARTS * total,
                    f"{cell.name}: {what.removeprefix(cell.model).strip()}",
                )

            found = evaluate_classifiers(task, device=self.device, chunks=Chunks(saved=saved), progress=show)
            found.save(cell.path)
            saved.remove()
            report = found.report
        outcome.reports[cell], outcome.how[cell] = report, how
        self.progress(_PARTS * (before + 1), _PARTS * total, cell.name)

    def _task(self, cell: Cell, opened: _Opened) -> Task:
        plan = self.benchmark
        ways = plan.protocol.ways if plan.protocol.name == "episodes" else len(opened.choice.classes)
        cell.suite.check_fits(cell.threat, ways)
        return Task(
            {cell.model: opened.classifier},
            [opened.choice],
            opened.images,
            plan.protocol,
            cell.suite.specs(),
            cell.threat,
            seed=plan.sample.seed,
            suite=cell.suite.label,
            sample=plan.sample,
            checks=self.checks,
            batch_size=self.batch_size,
        )

    def _there(self, cell: Cell, task: Task) -> tuple[Report | None, str]:
        """The report at the path, if it is that of this cell; else None, and what is done instead.

        Raises InputError for a file that is damaged or no report: it is not replaced.
        """
        rows = default_rows_path(cell.path)
        beside = [rows, *([episodes_path(rows)] if self.benchmark.protocol.name == "episodes" else [])]
        identity = task.identity  # its errors are not those of the report
        try:
            found = earlier_report(cell.path, beside, identity)
        except UsageError as error:
            self.note(f"computing again: {error.what}")
            return None, AGAIN
        return found, UP_TO_DATE if found is not None else DONE


def failures(outcome: Outcome) -> Iterator[tuple[str, Exception]]:
    """The reasons of the failed cells, those with one reason together: names of the cells, and the error."""
    reasons: dict[str, tuple[list[Cell], Exception]] = {}
    for cell, error in outcome.failed.items():
        reasons.setdefault(f"{type(error).__name__}: {error}", ([], error))[0].append(cell)
    for cells, error in reasons.values():
        yield _name_of(cells), error


def _name_of(cells: Sequence[Cell]) -> str:
    pairs = dict.fromkeys(f"{cell.model} on {cell.data.one.name}" for cell in cells)
    return cells[0].name if len(cells) == 1 else f"{'; '.join(pairs)} ({len(cells)} cells)"
