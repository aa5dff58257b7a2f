"""A part of a report: some of its results as a report of their own, and what two reports must share to stand in one table."""

from __future__ import annotations

import json
from collections.abc import Callable

from stages.reports.notes import notes_on
from stages.reports.records import Report, Result
from stages.reports.verify import with_digest


def part_of(report: Report, keep: Callable[[Result], bool]) -> Report:
    """The results that are kept, at least one, with their models, checks and notes; without the files beside the report."""
    results = [one for one in report.results if keep(one)]
    names, keys = {one.model for one in results}, {one.key for one in results}
    checks = None
    if report.checks is not None:
        checks = [one for one in report.checks if (one.model, one.group, one.protocol) in keys]
    models = [one for one in report.models if one.name in names]
    beside = {"rows": None, "episodes": None, "identity": None}
    update = {"results": results, "models": models, "checks": checks, "notes": notes_on(results, report), **beside}
    return with_digest(report.model_copy(update=update))


def measured_alike(report: Report) -> str:
    """What two reports share if their figures may stand in one table: attacks, threat model with attacker knowledge and
    preprocessing, protocol and images."""
    record = report.to_record()
    key = [record.get(part) for part in ("suite", "attacks", "protocol", "seed", "sample")]
    # older reports do not name the grid, which follows from the images
    threat = report.threat and [report.threat.norm, report.threat.eps, report.threat.clip, report.threat.inside]
    saved = report.adversarial and report.adversarial.sha256
    images = report.data.sha256 or report.data.source
    return json.dumps([*key, threat, report.knowledge, images, saved], sort_keys=True)
