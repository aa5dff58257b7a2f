"""Whether a report is as it was written: its digest, and its figures against the rows beside it."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.errors import InputError, note_unverified
from stages.files.reading import STDIO, read_file
from stages.files.records import json_digest
from stages.reports.parquet import AGAIN, OLDEST_VERSION
from stages.reports.records import Report, Result
from stages.reports.row_file import RowPart, read_rows
from stages.reports.rows import CLEAN, WORST, PointRows
from stages.statistics.gzsl import GzslFigures

_ROUNDING = 1e-9


def with_digest(report: Report) -> Report:
    """The report with the digest of its record."""
    return report.model_copy(update={"digest": json_digest(json.dumps(report.to_record()))})


def check_digest(report: Report, data: bytes, where: str) -> None:
    """Raise InputError unless the digest of a report is that of its file's bytes `data`; an older one has none and is noted."""
    if report.digest is None and report.schema_version == OLDEST_VERSION:
        note_unverified(where)
    elif report.digest != json_digest(data):
        raise InputError(f"{where} was damaged or edited after it was written: its digest differs", AGAIN)


def check_files(report: Report, path: Path) -> None:
    """Check the report read from `path` against its rows and episodes, where they lie beside it.

    Raises InputError if they are not those that were written with it, or its accuracies are not those of the rows.
    """
    if report.episodes is not None:
        place = path.parent / report.episodes.file
        if os.path.isfile(place) and hashlib.sha256(read_file(place)).hexdigest() != report.episodes.sha256:
            raise InputError(f"'{place}' is not the file written with the report '{path}': its SHA-256 differs", AGAIN)
    if report.rows is not None and os.path.isfile(path.parent / report.rows.file):
        rows_of_report(report, path)


def rows_of_report(report: Report, path: Path) -> list[RowPart]:
    """The rows of a report read from `path`.

    Raises InputError when it has none, the file has another digest, or the report has other accuracies than the rows give.
    """
    if report.rows is None:
        raise InputError(f"'{path}' was written without its rows", f"{AGAIN}, without `--rows none`")
    place = path.parent / report.rows.file
    if not os.path.isfile(place):  # a device has no end
        what = "is not a file" if os.path.exists(place) else "does not exist"
        fix = "name the file of the report: its rows are beside it" if str(path) == STDIO else AGAIN
        raise InputError(f"'{place}', the rows of '{path}', {what}", fix)
    try:
        parts = read_rows(place, report.rows.sha256)[0]
    except InputError as error:
        raise InputError(f"{error.what} (the rows of '{path}')", error.fix) from None
    _check_figures(report, parts, f"'{path}'")
    return parts


def _check_figures(report: Report, parts: Sequence[RowPart], where: str) -> None:
    rows, names = {part.key: part.rows for part in parts}, {part.key: part.classes for part in parts}
    for at, result in enumerate(report.results):
        if result.key not in rows:
            raise InputError(f"the rows of {where} lack {', '.join(result.key)}", AGAIN)
        stated, found = _stated(result), _found(rows[result.key], result)
        for name in stated.keys() | found.keys():
            one, other = stated.get(name, math.nan), found.get(name, math.nan)
            if not abs(one - other) <= _ROUNDING:
                what = f"results[{at}] has {name} {one:g} and its rows {other:g}"
                raise InputError(f"{where} was damaged or edited: {what}", AGAIN)
        if result.gzsl is not None:
            _check_limits(rows[result.key], len(names[result.key]), result, f"results[{at}] of {where}")


def _check_limits(rows: PointRows, classes: int, result: Result, where: str) -> None:
    """Raise InputError unless every class of seen and novel ones together has a point, and every attack its limits."""
    if classes != result.classes or len(np.unique(rows.label)) != classes:
        raise InputError(f"{where} has {result.classes} classes, and its rows points of {len(np.unique(rows.label))}", AGAIN)
    limits = [one.limit for one in (rows.clean, *rows.attacks.values())]
    if not _at_bias(result) and any(one is None or np.isnan(one).any() for one in limits):
        raise InputError(f"{where} is of seen and novel classes together, and its rows lack a limit", AGAIN)


def _stated(result: Result) -> dict[str, float]:
    """The counts and accuracies of a result that its rows determine."""
    estimates = {CLEAN: result.clean, WORST: result.worst, **result.attacks}
    accuracies = {f"{name} accuracy": one.accuracy for name, one in estimates.items()}
    at_bias = {f"{name} {side}": getattr(one, side).accuracy for name, one in _at_bias(result).items() for side in "SU"}
    return {"points": result.points, "images": result.images, "episodes": result.episodes, **accuracies, **at_bias}


def _at_bias(result: Result) -> dict[str, GzslFigures]:
    """The S, U and H of a result at a fitted bias by measure, which its rows determine without limits; {} of others."""
    found = result.gzsl
    return {} if found is None or found.bias is None else {CLEAN: found.clean, WORST: found.worst, **found.attacks}


def _found(rows: PointRows, result: Result) -> dict[str, float]:
    """The same from the rows."""
    correct = rows.correct()
    correct[WORST] = np.logical_and.reduce(list(correct.values()))
    accuracies = {f"{name} accuracy": float(right.mean()) for name, right in correct.items()}
    at_bias: dict[str, float] = {}
    for name in _at_bias(result):
        means = [correct[name][rows.label == one].mean() for one in np.unique(rows.label)]
        seen = result.gzsl.seen_classes if result.gzsl else 0
        at_bias |= {f"{name} S": float(np.mean(means[:seen])), f"{name} U": float(np.mean(means[seen:]))}
    return {"points": len(rows), "images": len(np.unique(rows.image)), "episodes": rows.episodes, **accuracies, **at_bias}
