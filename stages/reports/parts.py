"""A part of a report: some of its results as a report of their own, and what two reports must share to stand in one table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

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
    beside = {"rows": None, "episodes": None, "identity": _kept_identity(report)}
    update = {"results": results, "models": models, "checks": checks, "notes": notes_on(results, report), **beside}
    return with_digest(report.model_copy(update=update))


def answering_anchors(report: Report) -> str | None:
    """Digest of the class names and anchors that answered; None if unknown: in older reports, and of several models."""
    found = (report.identity or {}).get("inputs", {}).get("anchors")
    return found if isinstance(found, str) and len(report.models) == 1 else None


def names_apart(models: Iterable[tuple[str, str, str | None]]) -> dict[tuple[str, str, str | None], str]:
    """A name for each model, given as its name, SHA-256 and `answering_anchors`.

    Where checkpoints share a name, it has the beginning of the SHA-256 too; where a checkpoint answered with several sets of
    anchors, the beginning of their digest.
    """
    found = dict.fromkeys(models)
    checkpoints = Counter(name for name, _ in {(name, sha256) for name, sha256, _ in found})
    answers = Counter(sha256 for sha256, _ in {(sha256, anchors) for _, sha256, anchors in found})
    return {
        (name, sha256, anchors): name
        + (f" {sha256[:12]}" if checkpoints[name] > 1 else "")
        + (f", anchors {(anchors or 'unknown')[:12]}" if answers[sha256] > 1 else "")
        for name, sha256, anchors in found
    }


def _kept_identity(report: Report) -> dict[str, dict[str, Any]] | None:
    """Of the identity what two parts must share, or be told apart by, and nothing else says."""
    anchors, eot = answering_anchors(report), _eot(report)
    kept = {"inputs": {"anchors": anchors}} if anchors else {}
    return {**kept, **({"settings": {"eot": eot}} if eot > 1 else {})} or None


def _eot(report: Report) -> int:
    found = (report.identity or {}).get("settings", {}).get("eot", 1)
    return found if isinstance(found, int) else 1


def measured_how(report: Report) -> dict[str, Any]:
    """How a report was measured, by names that people use: attacks, threat model with attacker knowledge and preprocessing,
    protocol and images; JSON-able. None is what does not apply."""
    record, threat = report.to_record(), report.threat
    protocol = {name: value for name, value in record["protocol"].items() if name != "name"}
    return {
        "suite": report.suite,
        "attacks": [attack["name"] for attack in record["attacks"]],
        "attack_settings": {attack["name"]: attack for attack in record["attacks"]},
        "protocol": report.protocol.name,
        **protocol,
        "eot": _eot(report),
        "attack_seed": report.seed,
        "sample": record.get("sample"),
        # older reports do not name the grid, which follows from the images
        **{name: threat and getattr(threat, name) for name in ("norm", "eps", "clip", "inside")},
        "knowledge": report.knowledge,
        "data": report.data.sha256 or report.data.source,
        "saved_images": report.adversarial and report.adversarial.sha256,
    }


def measured_alike(report: Report) -> str:
    """What two reports share if their figures may stand in one table, see `measured_how`."""
    return json.dumps(measured_how(report), sort_keys=True)


def alike(reports: Mapping[str, Report]) -> list[dict[str, Report]]:
    """Reports, by their names, in groups that were measured alike."""
    found: dict[str, dict[str, Report]] = {}
    for name, report in reports.items():
        found.setdefault(measured_alike(report), {})[name] = report
    return list(found.values())
