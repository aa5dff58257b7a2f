"""The report that is already at the output path: up to date, or of another evaluation, which is not replaced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stages.errors import InputError, UsageError
from stages.files.reading import STDIO
from stages.identity import CHOOSE_OR_FORCE, Identity, digest_of, require_same
from stages.reports.parquet import evaluation_of
from stages.reports.records import FileReference, Report
from stages.reports.report import read_report


def earlier_report(output: Path, files: Sequence[Path], identity: Identity) -> Report | None:
    """The report at `output`, if it is that of the same evaluation and complete; None if the evaluation has to run.

    Args:
        output: where the report will be written; - is standard output.
        files: where its rows and episodes will be written, as far as they are wanted.
        identity: of the evaluation.

    Raises:
        UsageError: a report of another evaluation, or files of one.
        InputError: the file is damaged or no report.
    """
    found = None
    if str(output) != STDIO and output.is_file():
        try:
            found = read_report(output)
        except InputError as error:
            raise InputError(error.what, CHOOSE_OR_FORCE) from None
        what = (
            "is the report of another evaluation" if found.identity else "is of an older laat, which did not record its inputs"
        )
        require_same(found.identity, identity, f"'{output}' {what}", CHOOSE_OR_FORCE)
    own = digest_of(identity)
    for path in files:
        if path.is_file() and evaluation_of(path) != own:
            raise UsageError(
                f"'{path}' is not of this evaluation", "choose another file with -o or --rows, or replace it with --force"
            )
    return found if found is not None and _has_files(found, output.parent, files) else None


def _has_files(report: Report, folder: Path, files: Sequence[Path]) -> bool:
    """Whether all `files` belong to the report and are there; read_report has compared their digests."""
    belong = [(folder / one.file).resolve() for one in _references(report)]
    return all(path.is_file() and path.resolve() in belong for path in files)


def _references(report: Report) -> list[FileReference]:
    return [one for one in (report.rows, report.episodes) if one is not None]
