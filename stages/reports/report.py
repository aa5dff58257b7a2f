"""The report that `laat eval` writes, without clock or path, and the files beside it: the same bytes for the same inputs."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stages.attacks.spec import AttackSpec
from stages.conditions import Conditions
from stages.errors import InputError
from stages.files.reading import STDIO, read_file, read_pipe
from stages.files.records import first_fault
from stages.files.strict_json import parse_json
from stages.identity import digest_of
from stages.reports.episode_file import episodes_bytes, episodes_path
from stages.reports.model_records import Model
from stages.reports.parquet import AGAIN, SCHEMA_VERSION, check_version
from stages.reports.records import FileReference, Report
from stages.reports.results import Row
from stages.reports.row_file import RowPart, rows_bytes
from stages.reports.verify import check_digest, check_files, with_digest
from stages.text import texts_in
from stages.threat import ThreatModel
from stages.version import __version__

KIND = "laat-report"


def make_report(
    *,
    models: Sequence[Model],
    data: Mapping[str, Any],
    protocol: Mapping[str, Any],
    attacks: Sequence[AttackSpec],
    threat: ThreatModel | None,
    seed: int,
    rows: Sequence[Row],
    suite: str | None = None,
    adversarial: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    checks: Sequence[Mapping[str, Any]] | None = None,
    identity: Mapping[str, Any] | None = None,
    conditions: Conditions | None = None,
    eot: int = 1,
    sample: Mapping[str, Any] | None = None,
) -> Report:
    """The report of an evaluation.

    Args:
        models: the checkpoints, by unique names.
        data: the data set's provenance record.
        protocol: its record.
        attacks: the attacks that were run.
        threat: None when nothing was attacked.
        seed: of the attacks' random starts.
        rows: one per (model, group, protocol), in the order of the tables.
        suite: the named set of attacks; None for attacks named one by one.
        adversarial: lineage record of saved adversarial images that were evaluated instead of running attacks.
        notes: what a reader must know, for example that these classes or images were trained on.
        checks: records of the checks of each result; None if nothing was checked.
        identity: of the evaluation, see `stages.identity`.
        conditions: what the threat model was applied to; None if unknown.
        eot: random draws that the attacks averaged over.
        sample: the record of the subset of the images; None for all of them.

    Raises pydantic.ValidationError when the records do not fit together.
    """
    record = {
        "adversarial": adversarial or None,
        "attacks": [{**spec.to_record(), **({"eot": eot} if eot > 1 else {})} for spec in attacks],
        "data": dict(data),
        "episodes": None,
        "kind": KIND,
        "models": list(models),
        "notes": list(notes),
        "protocol": dict(protocol),
        "results": [row.to_record(protocol["name"]) for row in rows],
        "rows": None,
        "schema_version": SCHEMA_VERSION,
        "seed": seed,
        "suite": suite,
        "threat": {**threat.to_record(), **(conditions.to_record() if conditions else {})} if threat else None,
        "tool": __version__,
        "checks": checks,
        "identity": identity,
        "sample": sample,
    }
    return Report.model_validate(texts_in(record))


def report_bytes(report: Report) -> bytes:
    """The report and its digest as the bytes of report.json: sorted keys, indented, UTF-8, a final newline."""
    record = with_digest(report).to_record()
    return (json.dumps(record, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_report(path: Path | str) -> Report:
    """Read a report, from standard input for `-`, strictly, and check it against its rows and episodes if they lie beside it.

    Raises InputError: missing, truncated, not a report, of another schema version, changed since it was written, or figures
    that contradict each other or the rows. Warns with `UnverifiedWarning` about an older report, which has no digest.
    """
    where = "standard input" if str(path) == STDIO else f"'{path}'"
    data = read_pipe(sys.stdin.buffer) if str(path) == STDIO else read_file(path)
    report = parse_report(data, where)
    if str(path) != STDIO:
        check_files(report, Path(path))
    return report


def parse_report(data: bytes, where: str) -> Report:
    """The report with these bytes; `where` is its name in errors. Raises and warns as `read_report`."""
    try:
        record = parse_json(data)
    except ValueError as error:
        raise InputError(f"{where} is cut short or damaged: {error}", f"give a report of `laat eval`, or {AGAIN}") from None
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise InputError(f"{where} is JSON, but not a report of laat", "give a report of `laat eval`")
    check_version(record.get("schema_version", record.get("format")), where)
    try:
        report = Report.model_validate_json(data)
    except ValidationError as error:
        raise InputError(f"{where} is damaged or was edited: {first_fault(error)}", AGAIN) from None
    check_digest(report, data, where)
    return report


def with_rows(report: Report, rows: Sequence[Row], path: Path, report_path: Path | None) -> tuple[Report, dict[Path, bytes]]:
    """The report with references to its rows and episodes, and the bytes of those files.

    Args:
        report: of `make_report`.
        rows: the same results, with their rows.
        path: where the rows will be written; the episodes go beside them.
        report_path: where the report will be written, None for the current folder.
    """
    parts = [
        RowPart(row.model, row.group, row.protocol or report.protocol.name, row.classes, row.result.rows, row.images)
        for row in rows
        if row.result.rows is not None
    ]
    whole = report.to_record()
    record = {
        "data_sha256": report.data.sha256,
        **({} if report.identity is None else {"evaluation": digest_of(report.identity)}),
        "models": {model.name: model.sha256 for model in report.models},
        **{name: whole[name] for name in ("protocol", "seed", "suite", "threat")},
    }
    found = {"rows": (path, rows_bytes(parts, record)), "episodes": (episodes_path(path), episodes_bytes(parts, record))}
    folder = Path() if report_path is None else report_path.parent
    references, files = {}, {}
    for name, (place, data) in found.items():
        if data is not None:
            relative = Path(os.path.relpath(place, folder)).as_posix()
            references[name] = FileReference(file=relative, sha256=hashlib.sha256(data).hexdigest())
            files[place] = data
    return report.model_copy(update=references), files
