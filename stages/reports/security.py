"""Security curves: robust accuracy over eps, from reports that differ in eps alone. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from stages.reports.parts import answering_anchors, measured_alike, names_apart
from stages.reports.records import Report, Result
from stages.reports.report_tables import attacks_in_order
from stages.reports.rows import CLEAN
from stages.reports.tables import MISSING, Cell, FigureTable, share
from stages.statistics.intervals import Estimate
from stages.threat import format_eps, parse_eps

# SHA-256 of the model, digest of its anchors; group, protocol and attacks
_Key = tuple[str, str | None, str, str, str]


@dataclass(frozen=True)
class SecurityCurve:
    """One model on one group of classes under the same attacks at several eps.

    Attributes:
        model: its name, with the digest of the checkpoint or of the anchors where another model has the name too.
        group, protocol: as in the reports.
        norm: of the threat models.
        under: the attacks, in words.
        data: name of the data.
        points: eps -> accuracy and interval, ascending; clean accuracy at 0.
    """

    model: str
    group: str
    protocol: str
    norm: str
    under: str
    data: str
    points: Mapping[Fraction, Estimate]


def security_curves(reports: Mapping[str, Report]) -> list[list[SecurityCurve]]:
    """The curves of reports, by their names, those that were measured alike but for eps in one list; none with a single eps."""
    return drawn_and_left_out(reports)[0]


def drawn_and_left_out(reports: Mapping[str, Report]) -> tuple[list[list[SecurityCurve]], list[str]]:
    """As `security_curves`, and the reports that are in no curve: without a partner, or of an eps that an earlier one has."""
    alike: dict[str, dict[_Key, dict[Fraction, tuple[str, Report, Result]]]] = {}
    for name, report in reports.items():
        if report.threat is None:
            continue
        eps = parse_eps(report.threat.eps, report.threat.norm)
        sha256 = {model.name: model.sha256 for model in report.models}
        curves = alike.setdefault(_but_for_eps(report), {})
        for result in report.results:
            if result.attacks:
                key = sha256[result.model], answering_anchors(report), result.group, result.protocol, ",".join(result.attacks)
                curves.setdefault(key, {}).setdefault(eps, (name, report, result))
    kept = [{key: points for key, points in curves.items() if len(points) > 1} for curves in alike.values()]
    used = {name for group in kept for points in group.values() for name, _, _ in points.values()}
    drawn = [
        [(key[:2], _curve({eps: found[1:] for eps, found in points.items()})) for key, points in group.items()]
        for group in kept
        if group
    ]
    names = names_apart((curve.model, sha256, anchors) for group in drawn for (sha256, anchors), curve in group)
    curves_of = [
        [replace(curve, model=names[curve.model, sha256, anchors]) for (sha256, anchors), curve in group] for group in drawn
    ]
    return curves_of, [name for name in reports if name not in used]


def _but_for_eps(report: Report) -> str:
    assert report.threat is not None
    return measured_alike(report.model_copy(update={"threat": report.threat.model_copy(update={"eps": ""})}))


def _curve(found: Mapping[Fraction, tuple[Report, Result]]) -> SecurityCurve:
    report, first = next(iter(found.values()))
    points = {Fraction(0): first.clean, **{eps: found[eps][1].worst for eps in sorted(found)}}
    norm = report.threat.norm if report.threat else ""
    under = report.suite or ", ".join(attacks_in_order({"": report}))
    return SecurityCurve(
        first.model, first.group, first.protocol, norm, under, report.data.source, dict(sorted(points.items()))
    )


def security_table(curves: Sequence[SecurityCurve]) -> FigureTable:
    """The curves as rows, a column for each eps; clean accuracy at 0."""
    eps = sorted({one for curve in curves for one in curve.points})
    rows: list[tuple[Cell, ...]] = []
    for curve in curves:
        found = {one: share(point.accuracy, point.low, point.high) for one, point in curve.points.items()}
        rows.append((curve.model, curve.group, curve.protocol, *(found.get(one, MISSING) for one in eps)))
    norm, under = curves[0].norm, curves[0].under
    names = [CLEAN if one == 0 else format_eps(one, norm) for one in eps]
    title = f"accuracy % over eps ({norm}), worst case of {under}"
    return FigureTable(title, ("model", "classes", "protocol", *names), tuple(rows), ("± 95 % interval, as above",))
