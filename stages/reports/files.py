"""A report with the files beside it: its rows and its episodes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.errors import InputError
from stages.reports.episode_file import episodes_bytes
from stages.reports.parquet import AGAIN
from stages.reports.report import Row
from stages.reports.row_file import RowPart, read_rows, rows_bytes

_ENDING = ".rows.parquet"


def default_rows_path(report: Path) -> Path:
    """Where the rows of a report go: report.rows.parquet beside report.json."""
    return report.with_name(f"{report.stem}{_ENDING}")


def episodes_path(rows: Path) -> Path:
    """Where the episodes go: report.episodes.parquet beside report.rows.parquet."""
    stem = rows.name.removesuffix(_ENDING) if rows.name.endswith(_ENDING) else rows.stem
    return rows.with_name(f"{stem}.episodes.parquet")


def with_rows(
    report: Mapping[str, Any], rows: Sequence[Row], path: Path, report_path: Path | None
) -> tuple[dict[str, Any], dict[Path, bytes]]:
    """The report with references to its rows and episodes, and the bytes of those files.

    Args:
        report: of `make_report`.
        rows: the same results, with their rows.
        path: where the rows will be written; the episodes go beside them.
        report_path: where the report will be written, None for the folder that we are in.
    """
    parts = [
        RowPart(row.model, row.group, row.protocol or report["protocol"]["name"], row.classes, row.result.rows)
        for row in rows
        if row.result.rows is not None
    ]
    record = {
        "data_sha256": report["data"].get("sha256"),
        "models": {model["name"]: model["sha256"] for model in report["models"]},
        "protocol": report["protocol"],
        "seed": report["seed"],
        "suite": report["suite"],
        "threat": report["threat"],
    }
    found = {"rows": (path, rows_bytes(parts, record)), "episodes": (episodes_path(path), episodes_bytes(parts, record))}
    folder = Path() if report_path is None else report_path.parent
    made = dict(report)
    files = {}
    for name, (place, data) in found.items():
        if data is not None:
            relative = Path(os.path.relpath(place, folder)).as_posix()
            made[name] = {"file": relative, "sha256": hashlib.sha256(data).hexdigest()}
            files[place] = data
    return made, files


def rows_of_report(report: Mapping[str, Any], path: Path) -> list[RowPart]:
    """The rows of a report read from `path`. Raises InputError when it has none, or the file is not the one it names."""
    reference = report["rows"]
    if reference is None:
        raise InputError(f"'{path}' was written without its rows", f"{AGAIN}, without `--rows none`")
    return read_rows(path.parent / reference["file"], reference["sha256"])[0]
