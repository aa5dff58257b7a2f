"""The cells of a benchmark, and where their reports are. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.attacks.suites import Suite
from stages.benchmark.presence import Presence
from stages.benchmark.spec import Benchmark
from stages.errors import UsageError
from stages.threat import ThreatModel

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Cell:
    """One model on one data set under one threat model with one suite.

    Attributes:
        model: its name in tables.
        data: the data set, where it is.
        threat, suite: what it is attacked with.
        path: of its report.
    """

    model: str
    data: Presence
    threat: ThreatModel
    suite: Suite
    path: Path

    @property
    def name(self) -> str:
        """As lines and errors name it."""
        return f"{self.model} on {self.data.one.name}, {self.threat}, {self.suite.name}"


def cells_of(benchmark: Benchmark, found: Sequence[Presence], models: Sequence[str], folder: Path) -> list[Cell]:
    """All cells, data set by data set; FOLDER/MODEL/DATA-NORM-EPS-SUITE.json is the report of one.

    Raises UsageError where two models would share a folder.
    """
    folders = {name: _UNSAFE.sub("-", name).strip("-.") or "model" for name in models}
    for at, name in enumerate(models):
        other = next((one for one in models[:at] if folders[one].casefold() == folders[name].casefold()), None)
        if other is not None:
            raise UsageError(
                f"the models '{other}' and '{name}' would share the folder '{folders[name]}'", "name them: NAME=MODEL"
            )
    return [
        Cell(model, data, threat, suite, folder / folders[model] / f"{_file_name(data.one.name, threat, suite)}.json")
        for data in found
        for model in models
        for suite in benchmark.suites
        for threat in benchmark.threats
    ]


def _file_name(data: str, threat: ThreatModel, suite: Suite) -> str:
    eps = str(threat).split()[-1].replace("/", "-")
    return f"{data}-{threat.norm.casefold()}-{eps}-{suite.name}"
