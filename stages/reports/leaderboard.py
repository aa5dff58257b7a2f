"""A results table that grows: a JSON Lines file, each line a report of one model on one group of classes, ranked.

Every line has the schema of a report and its own digest. Lines are compared only with those that were measured alike: the same
attacks, threat model, images, protocol and classes. The same results give the same file, whatever the order they came in.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from stages.errors import InputError, UsageError
from stages.files.reading import read_file
from stages.files.writing import write_file
from stages.reports.parts import answering_anchors, measured_alike, names_apart, part_of
from stages.reports.records import Report
from stages.reports.report import parse_report
from stages.reports.report_tables import failed_checks, report_tables
from stages.reports.tables import FigureTable

ENDING = ".jsonl"


@dataclass(frozen=True)
class Leaderboard:
    """Reports of a single result each, grouped by what they measured, the best worst case first."""

    lines: tuple[Report, ...] = ()

    def add(self, reports: Iterable[Report]) -> tuple[Leaderboard, int, int]:
        """With every result of these reports as a line of its own; a line of the same model, measured alike, is replaced.

        Returns the new leaderboard, and how many lines are new and how many were replaced by other figures.
        """
        found = {_identity(line): line for line in self.lines}
        before = dict(found)
        for report in reports:
            for result in report.results:
                line = part_of(report, lambda one, key=result.key: one.key == key)  # type: ignore[misc]
                found[_earlier(line, found)] = line
        new = len(found.keys() - before.keys())
        replaced = sum(found[key] != line for key, line in before.items())
        return Leaderboard(tuple(sorted(found.values(), key=_order))), new, replaced

    def rankings(self) -> list[dict[str, Report]]:
        """One ranking per group of lines that were measured alike: rank -> line, its model named uniquely in the ranking."""
        return [_ranked([*lines]) for _, lines in groupby(self.lines, _ranking)]

    def tables(self) -> list[FigureTable]:
        """The rankings as tables."""
        return [table for ranking in self.rankings() for table in ranking_tables(ranking)]

    def to_bytes(self) -> bytes:
        """The file: one line of JSON per report, keys sorted."""
        return "".join(_line(one) for one in self.lines).encode()


def read_leaderboard(path: Path | str) -> Leaderboard:
    """Read what `write_leaderboard` wrote. Raises InputError for a line that is no report of a single result, or was edited."""
    lines = []
    for number, data in enumerate(read_file(path).splitlines(), start=1):
        if data.strip():
            where = f"line {number} of '{path}'"
            try:
                report = parse_report(data, where)
            except InputError as error:
                raise InputError(error.what, "delete the line, and add its report again with --leaderboard") from error
            if len(report.results) != 1:
                raise InputError(f"{where} has {len(report.results)} results, expected one", "add reports with --leaderboard")
            lines.append(report)
    return Leaderboard(tuple(sorted(lines, key=_order)))


def write_leaderboard(board: Leaderboard, path: Path) -> None:
    """Write the file atomically. Raises MissingError if it cannot be written."""
    write_file(path, board.to_bytes())


def add_to_file(path: Path, reports: Iterable[Report]) -> tuple[Leaderboard, int, int]:
    """Add reports to the leaderboard in a file, or in a new one; see `Leaderboard.add`. Raises as reading and writing do."""
    with _locked(path):
        found = (read_leaderboard(path) if path.exists() else Leaderboard()).add(reports)
        write_leaderboard(found[0], path)
    return found


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Within: no other process of this user on this machine adds to the file. No lock where the system has none."""
    from filelock import FileLock

    name = f"laat-{getattr(os, 'getuid', int)()}-{hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]}.lock"
    with ExitStack() as held:
        with suppress(OSError, NotImplementedError):
            held.enter_context(FileLock(Path(tempfile.gettempdir(), name)))
        yield


def is_leaderboard(path: Path | str) -> bool:
    """Whether a file is one, by its name."""
    return os.fspath(path).endswith(ENDING)


def check_name(path: Path | str) -> None:
    """Raise UsageError unless the name is one of a leaderboard."""
    if not is_leaderboard(path):
        raise UsageError(f"'{path}' is not the name of a leaderboard", f"name it leaderboard{ENDING}")


def _ranked(lines: Sequence[Report]) -> dict[str, Report]:
    models = [(line.models[0].name, line.models[0].sha256, answering_anchors(line)) for line in lines]
    names, shown = names_apart(models), {}
    for rank, (line, found) in enumerate(zip(lines, models, strict=True), start=1):
        name, model = names[found], line.models[0]
        result = line.results[0].model_copy(update={"model": name})
        shown[str(rank)] = line.model_copy(update={"models": [model.model_copy(update={"name": name})], "results": [result]})
    return shown


def ranking_tables(ranking: Mapping[str, Report]) -> list[FigureTable]:
    """The table of one ranking, and with gzsl a second one."""
    first = next(iter(ranking.values()))
    result = first.results[0]
    warned = [
        f"checks failed for rank {rank}: {', '.join(failed)}"
        for rank, line in ranking.items()
        if (failed := failed_checks(line))
    ]
    data = f"data {first.data.source} {(first.data.sha256 or '')[:12]}".strip()
    return [
        replace(table, title=f"{table.title}, {data}, {result.group} classes, {result.protocol}", notes=(*table.notes, *warned))
        for table in report_tables(ranking, label="rank")
    ]


def _ranking(line: Report) -> str:
    """What the lines of one ranking share."""
    result = line.results[0]
    return json.dumps([measured_alike(line), result.group, result.protocol, result.classes, result.ways])


def _identity(line: Report) -> tuple[str, str, str | None]:
    return _ranking(line), line.models[0].sha256, answering_anchors(line)


def _earlier(line: Report, found: Mapping[tuple[str, str, str | None], Report]) -> tuple[str, str, str | None]:
    """The key of the line that this one replaces, otherwise its own; unknown anchors, of older lines, count as the same."""
    *model, anchors = mine = _identity(line)
    if anchors is None:
        return next((key for key in found if [*key[:2]] == model), mine)
    return mine if mine in found else next((key for key in [(mine[0], mine[1], None)] if key in found), mine)


def _order(line: Report) -> tuple[object, ...]:
    result, model = line.results[0], line.models[0]
    return (
        _ranking(line),
        -result.worst.accuracy,
        -result.clean.accuracy,
        model.name,
        model.sha256,
        answering_anchors(line) or "",
    )


def _line(report: Report) -> str:
    return json.dumps(report.to_record(), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
