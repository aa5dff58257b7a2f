"""The report that `laat eval` writes: one JSON record without clock or path, the same bytes for the same inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages import __version__
from stages.attacks.named import AttackSpec
from stages.attacks.threat import ThreatModel
from stages.evaluate.results import GroupResult, Protocol

KIND = "laat-report"
FORMAT = 1


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
    """One result: which model (its name), on which group of classes ('seen', 'novel', …)."""

    model: str
    group: str
    result: GroupResult


def make_report(
    *,
    models: Sequence[ModelEntry],
    data: Mapping[str, Any],
    protocol: Protocol,
    attacks: Sequence[AttackSpec],
    threat: ThreatModel | None,
    seed: int,
    rows: Sequence[Row],
    adversarial: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The record of a report.

    Args:
        models: the models scored.
        data: the data set's provenance record.
        protocol: how images were put to the test.
        attacks: the attacks that were run.
        threat: None when nothing was attacked.
        seed: of the attacks' random starts.
        rows: one a (model, group), in the order to be shown.
        adversarial: lineage record of the saved adversarial images that were scored instead of running attacks.
        notes: what a reader must know, such as that these classes or images were trained on.
    """
    return {
        "adversarial": dict(adversarial) if adversarial else None,
        "attacks": [spec.to_record() for spec in attacks],
        "data": dict(data),
        "format": FORMAT,
        "kind": KIND,
        "models": [model.to_record() for model in models],
        "notes": list(notes),
        "protocol": protocol.to_record(),
        "results": [{"model": row.model, "group": row.group, **row.result.to_record()} for row in rows],
        "seed": seed,
        "threat": threat.to_record() if threat else None,
        "tool": __version__,
    }


def report_bytes(record: Mapping[str, Any]) -> bytes:
    """The record as the bytes of report.json: sorted keys, indented, UTF-8, a final newline. ValueError on a NaN."""
    return (json.dumps(record, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
