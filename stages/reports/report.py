"""The report that `laat eval` writes: one JSON record without clock or path, the same bytes for the same inputs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from stages import __version__, artifacts
from stages.attacks.spec import AttackSpec
from stages.errors import InputError
from stages.reports.parquet import AGAIN, SCHEMA_VERSION, check_version
from stages.reports.results import GroupResult, Protocol
from stages.reports.schema import find_fault, report_schema
from stages.threat import ThreatModel

KIND = "laat-report"


@dataclass(frozen=True)
class ModelEntry:
    """How a report names a model: a name unique in it, the checkpoint's SHA-256, its objective and anchor source."""

    name: str
    sha256: str
    objective: str
    anchors: str

    def to_record(self) -> dict[str, str]:
        """As a JSON-able record."""
        return {"anchors": self.anchors, "name": self.name, "objective": self.objective, "sha256": self.sha256}


@dataclass(frozen=True)
class Row:
    """One result: which model (its name), on which group of classes ('seen', 'novel', …).

    Attributes:
        model, group, result: as said.
        classes: the names of the group's classes, in the order of the labels in `result.rows`.
        protocol: what tells results of one model and group apart; '' is the protocol's name.
    """

    model: str
    group: str
    result: GroupResult
    classes: Sequence[str] = ()
    protocol: str = ""


def make_report(
    *,
    models: Sequence[ModelEntry],
    data: Mapping[str, Any],
    protocol: Protocol,
    attacks: Sequence[AttackSpec],
    threat: ThreatModel | None,
    seed: int,
    rows: Sequence[Row],
    suite: str | None = None,
    adversarial: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The record of a report, which fits `schema.report_schema`.

    Args:
        models: the models scored.
        data: the data set's provenance record.
        protocol: how images were put to the test.
        attacks: the attacks that were run.
        threat: None when nothing was attacked.
        seed: of the attacks' random starts.
        rows: one a (model, group, protocol), in the order to be shown.
        suite: the named set that the attacks are; None for attacks named one by one.
        adversarial: lineage record of the saved adversarial images that were scored instead of running attacks.
        notes: what a reader must know, such as that these classes or images were trained on.
    """
    return {
        "adversarial": dict(adversarial) if adversarial else None,
        "attacks": [spec.to_record() for spec in attacks],
        "data": dict(data),
        "episodes": None,
        "kind": KIND,
        "models": [model.to_record() for model in models],
        "notes": list(notes),
        "protocol": protocol.to_record(),
        "results": [
            {"model": row.model, "group": row.group, "protocol": row.protocol or protocol.name, **row.result.to_record()}
            for row in rows
        ],
        "rows": None,
        "schema_version": SCHEMA_VERSION,
        "seed": seed,
        "suite": suite,
        "threat": threat.to_record() if threat else None,
        "tool": __version__,
    }


def report_bytes(record: Mapping[str, Any]) -> bytes:
    """The record as the bytes of report.json: sorted keys, indented, UTF-8, a final newline. ValueError on a NaN."""
    return (json.dumps(record, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_report(path: Path | str) -> dict[str, Any]:
    """Read a report, from standard input for `-`, strictly.

    Raises InputError: not there, cut short, not a report, of another schema version, or not as the schema says.
    """
    where = "standard input" if str(path) == artifacts.STDIO else f"'{path}'"
    data = sys.stdin.buffer.read() if str(path) == artifacts.STDIO else artifacts.read_file(path)
    try:
        record = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InputError(f"{where} is cut short or not JSON", f"give a report of `laat eval`, or {AGAIN}") from None
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise InputError(f"{where} is JSON, but not a report of laat", "give a report of `laat eval`")
    check_version(record.get("schema_version", record.get("format")), where)
    fault = find_fault(record, report_schema())
    if fault:
        raise InputError(f"{where} is damaged: {fault}", AGAIN)
    return record


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
