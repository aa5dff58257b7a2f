"""What `laat predict` does with answers while they are made: prints them, writes them, copies and draws their images."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from laatcli.console import Console, ProgressLine
from stages.data.unlabelled import describe_passed
from stages.errors import InputError
from stages.files.reading import STDIO
from stages.prediction.files import Writer, prediction_file
from stages.prediction.record import Prediction
from stages.text import counted, visible

if TYPE_CHECKING:
    from stages.models.classifier import Classifier
    from stages.prediction.predict import Batch
    from stages.prediction.robustness import Attack
    from stages.prediction.saved_attacks import AttackedPictures
    from stages.prediction.sort_files import SortedCopies

_NAME_WIDTHS = 12, 28  # of the column of names
_FIGURES = ("confidence %", "margin %")


_ERRORS_SHOWN = 10


class Answers:
    """Takes answers as they come, and reports on all of them at the end.

    Args:
        console: where they and the errors go.
        classifier: gives the answers.
        attack: the attacks on answers, if any.
        judge: whether the smallest eps at which an answer falls is looked for.

    Attributes:
        copies, pictures: what is made of the images, if anything.
    """

    def __init__(self, console: Console, classifier: Classifier, attack: Attack | None, *, judge: bool) -> None:
        self._console, self._classifier, self._attack, self._judge = console, classifier, attack, judge
        self.copies: SortedCopies | None = None
        self.pictures: AttackedPictures | None = None
        self._ending = ExitStack()
        self._lines: _Lines | None = None
        self._writer: Writer | None = None
        self._bar: ProgressLine | None = None
        self._images = self._unreadable = self._stand = 0
        self._first_error = ""
        self._classes: Counter[str] = Counter()

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *error: Any) -> None:
        self._ending.__exit__(*error)

    def open(self, output: Path | None, top: int) -> None:
        """Begin to print answers with `top` classes or, with an output, to write them there."""
        top = min(top, len(self._classifier.classes))
        if output is not None:
            file = prediction_file(output, sys.stdout.buffer, top=top, judged=self._judge)
            self._writer = self._ending.enter_context(file)
        if output is None or self._console.as_json:
            self._lines = _Lines(self._console, self._classifier.classes, judged=self._judge)
        if output is not None or not (self._console.on_terminal and self._console.human):
            self._bar = self._ending.enter_context(self._console.progress("predict"))
            self._bar.update(0, None)

    def take(self, batch: Batch, expected: int | None) -> None:
        """Attack, print, write, copy and draw a batch; `expected` is the number of images in total, if it is known."""
        if self._attack is not None and len(batch.read):
            batch = self._attacked(batch, self._attack)
        for one in batch.predictions:
            self._count(one)
        if self._lines is not None:
            self._lines.add(batch.predictions)
        if self._writer is not None:
            self._writer.write(batch.predictions)
        if self.copies is not None:
            for at in batch.read:
                self.copies.add(batch.predictions[at].path, batch.predictions[at].name)
        self._images += len(batch.predictions)
        if self._bar is not None:
            self._bar.update(self._images, expected, counted(self._images, "image"))

    def report(self, passed_over: Counter[str], attack: Mapping[str, Any], output: Path | None) -> None:
        """The summary. Raises InputError where no image could be read."""
        if self.pictures is not None:
            self.pictures.end()
        read = self._images - self._unreadable
        record = {
            "images": self._images,
            "unreadable": self._unreadable,
            "passed_over": dict(sorted(passed_over.items())),
            "classes": dict(self._classes.most_common()),
            **({**attack, "stand": self._stand} if self._judge else {}),
            **({"copied": self.copies.copied, "already_there": self.copies.kept} if self.copies else {}),
            "output": None if output is None else str(output),
        }
        self._console.json_lines([{"summary": record}])
        if self._unreadable > _ERRORS_SHOWN:
            more = "" if output is None else ", and the column error of the output lists all"
            self._console.note(f"and {self._unreadable - _ERRORS_SHOWN:,} more like these{more}")
        if passed := describe_passed(passed_over):
            self._console.note(passed)
        if not read:
            first = "" if self._images == 1 else f"none of the {self._images:,} images could be read, for example "
            raise InputError(f"{first}{self._first_error}")
        for text in self._summary(read, output):
            self._console.note(text)
        from stages.statistics.calibration import calibration_warning

        if self._classifier.calibration is None:
            self._console.note("the confidences are not calibrated: `laat calibrate` fits a temperature")
        elif warning := calibration_warning(self._classifier.calibration):
            self._console.note(warning)

    def _summary(self, read: int, output: Path | None) -> Iterator[str]:
        where = "" if output is None or str(output) == STDIO else f"{output}: "
        partly = f"{read:,} of {counted(self._images, 'image')}; {self._unreadable:,} could not be read"
        yield f"{where}{partly if self._unreadable else counted(read, 'image')}"
        if self._judge and self._attack is not None:
            stand = "stands" if self._stand == 1 else "stand"
            stand = f"{self._stand:,} of {counted(read, 'answer')} {stand} in {self._attack.threat}"
            yield f"{stand}: an upper bound on robustness, as a stronger attack may change more"
        if self.copies is not None:
            there = f", {self.copies.kept:,} there already" if self.copies.kept else ""
            yield f"{self.copies.folder}: {counted(self.copies.copied, 'copy', 'copies')}{there}"
        if self.pictures is not None:
            yield f"{self.pictures.place}: {counted(self.pictures.drawn, 'attacked image')}"

    def _attacked(self, batch: Batch, attack: Attack) -> Batch:
        from stages.prediction.robustness import attack_answers, judge_answers

        if self._judge:
            batch, attacked = judge_answers(self._classifier, batch, attack)
        elif self.pictures is not None and len(wanted := self.pictures.wanted(batch)):
            attacked = attack_answers(self._classifier, batch, attack, wanted)
        else:
            return batch
        if self.pictures is not None:
            self.pictures.add(self._classifier, batch, attacked, self._images)
        return batch

    def _count(self, one: Prediction) -> None:
        if not one.error:
            self._classes[one.name] += 1
            self._stand += bool(one.stands)
            return
        self._unreadable += 1
        self._first_error = self._first_error or f"'{one.path}' {one.error}"
        if self._unreadable <= _ERRORS_SHOWN:
            self._console.warn(f"'{one.path}' {one.error}")


class _Lines:
    """Prints answers.

    Args:
        console: where they go.
        names: the candidate classes, for the width of their column.
        judged: whether there is a column on attacks.
    """

    def __init__(self, console: Console, names: Iterable[str], *, judged: bool) -> None:
        self._console, self._judged = console, judged
        least, most = _NAME_WIDTHS
        self._name = max(least, min(most, max((cell_len(visible(name)) for name in names), default=0)))
        after = len("falls at 8/255") + 2 if judged else 0
        self._path = max(20, console.width - self._name - sum(map(len, _FIGURES)) - after - 6) if console.on_terminal else 0
        if console.on_terminal and console.human:
            console.lines([self._row("path", "name", *_FIGURES, "attacks" if judged else "")])

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Print some, without those that could not be read."""
        self._console.json_lines(one.to_record() for one in predictions)
        make = self._columns if self._console.on_terminal else _tabbed
        self._console.lines(line for one in predictions if not one.error for line in make(one))

    def _columns(self, one: Prediction) -> Iterable[str]:
        path = visible(one.path)
        if cell_len(path) > self._path:
            yield path
            path = ""
        after = "" if one.stands is None else "stands" if one.stands else f"falls at {one.falls_at}"
        yield self._row(path, one.name, f"{100 * one.confidence:.1f}", f"{100 * one.margin:.1f}", after)
        for name, confidence in one.top[1:]:
            yield self._row("", name, f"{100 * confidence:.1f}", "", "")

    def _row(self, path: str, name: str, confidence: str, margin: str, after: str) -> str:
        shown = visible(name)
        shown = shown if cell_len(shown) <= self._name else set_cell_size(shown, self._name - 1) + "…"
        first, second = (text.rjust(len(head)) for text, head in zip((confidence, margin), _FIGURES, strict=True))
        return f"{set_cell_size(path, self._path)}  {set_cell_size(shown, self._name)}  {first}  {second}  {after}".rstrip()


def _tabbed(one: Prediction) -> Iterable[str]:
    """path, name, confidence, margin, then name and confidence of the other classes, then the eps it falls at, or 'stands'."""
    cells = [one.path, one.name, f"{one.confidence:.4f}", f"{one.margin:.4f}"]
    cells += [text for name, confidence in one.top[1:] for text in (name, f"{confidence:.4f}")]
    if one.stands is not None:
        cells.append(one.falls_at or "stands")
    return ["\t".join(visible(cell) for cell in cells)]
