"""Reports against published figures of the same methods: measured, published, difference, and what differs. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.reports.grouping import Run
from stages.reports.published import CERTAINTIES, CLEAN, Published
from stages.reports.records import Report
from stages.reports.rows import WORST
from stages.reports.tables import Cell, FigureTable, difference, percent, share
from stages.statistics.intervals import Estimate
from stages.text import listed
from stages.threat import parse_norm

# the method of models that were not trained here
_METHODS = {"zero-shot": "clip"}


@dataclass(frozen=True)
class Against:
    """A measured figure beside a published one.

    Attributes:
        run: with the measured figure.
        measure: clean, an attack, or worst.
        measured: with its interval.
        published: the row.
        differs: entry -> (measured, published), of what was not the same.
        unknown: entries that one of the two does not state.
    """

    run: Run
    measure: str
    measured: Estimate
    published: Published
    differs: Mapping[str, tuple[str, str]]
    unknown: tuple[str, ...]

    def to_record(self) -> dict[str, Any]:
        """As a JSON-able record."""
        change = self.measured.accuracy - self.published.accuracy
        return {
            **{"report": self.run.source, "model": self.run.model.name, "classes": self.run.result.group},
            **{"protocol": self.run.result.protocol, "measure": self.measure, "measured": self.measured.accuracy},
            **{"low": self.measured.low, "high": self.measured.high, "published": vars(self.published)},
            **{"difference": change, "differs": {name: list(both) for name, both in self.differs.items()}},
            "unknown": list(self.unknown),
        }


def against_published(reports: Mapping[str, Report], rows: Sequence[Published]) -> tuple[list[Against], list[str]]:
    """Each result with the published figures of its method, and notes.

    A method is recognized by its name, which is the model's objective. Where figures on the same data set are published, only
    those are shown. A robust figure is compared with the attack of the same name, otherwise with the worst case.
    """
    found: list[Against] = []
    without: dict[str, None] = {}
    for source, report in reports.items():
        for result in report.results:
            run = Run(source, report, result)
            mine = [row for row in rows if _same(row.method, _method(run))]
            mine = [row for row in mine if _is_data(run, row)] or mine
            if not mine:
                without[_method(run)] = None
            found += [one for row in mine if (one := _beside(run, row)) is not None]
    return found, [f"no published figure of {listed(without)}"] if without else []


def _method(run: Run) -> str:
    return _METHODS.get(run.model.objective, run.model.objective)


def _fold(text: str) -> str:
    return "".join(sign for sign in text.casefold() if sign.isalnum())


def _same(one: str, other: str) -> bool:
    return _fold(one) == _fold(other)


def _is_data(run: Run, row: Published) -> bool:
    return _same(row.data, run.report.data.source.rsplit("/", 1)[-1])


def _beside(run: Run, row: Published) -> Against | None:
    """The figure of a run beside that of the row; None if nothing was attacked, and the figure is robust."""
    result, measure = run.result, CLEAN
    if row.metric != CLEAN:
        if not result.attacks:
            return None
        only = next(iter(result.attacks)) if len(result.attacks) == 1 else WORST
        measure = next((name for name in result.attacks if _same(name, row.attack)), only)
    shares = {CLEAN: result.clean, **result.attacks, WORST: result.worst}
    differs, unknown = _differences(run, row, measure)
    return Against(run, measure, shares[measure], row, differs, unknown)


def _differences(run: Run, row: Published, measure: str) -> tuple[dict[str, tuple[str, str]], tuple[str, ...]]:
    """What differs between a measured figure and a published one, and what one of them does not state."""
    training, threat, robust = run.training, run.report.threat, row.metric != CLEAN
    shots = run.measured.get("shots")
    attack = f"{measure} of {', '.join(run.result.attacks)}" if measure == WORST else measure
    pairs: dict[str, tuple[str, str]] = {
        "data": (run.report.data.source, row.data),
        "training data": (_text(training.get("data")), row.trained_on),
        "backbone": (_text(training.get("backbone")) or run.model.name, row.backbone),
        "training eps": (_text(training.get("eps")), row.train_eps),
        "shots": ("0" if shots is None else str(shots), row.shots),
        "ways": (str(run.result.ways), row.ways),
    }
    if training.get("eps") and row.train_eps:  # published ones, and those of older checkpoints, are Linf
        pairs["training norm"] = (parse_norm(_text(training.get("norm")) or "Linf"), "Linf")
    if training.get("blend") is not None:
        rest = training.get("blend_with") or "another model"
        pairs["weights"] = (f"a blend, {training['blend']:g} of it and the rest of {rest}", "as trained")
    if robust:
        eps = ("", "") if threat is None else (threat.norm, threat.eps)
        pairs |= {"norm": (eps[0], row.norm), "eps": (eps[1], row.eps), "attack": (attack, row.attack)}
        pairs["attacker knowledge"] = (str(run.report.knowledge), "white-box")
    alike = {
        "data": _is_data(run, row),
        "training data": _same(_text(training.get("data")).rsplit("/", 1)[-1], row.trained_on),
        "backbone": bool(row.backbone) and _fold(row.backbone) in _fold(pairs["backbone"][0]),
    }
    unknown = tuple(name for name, both in pairs.items() if not all(both))
    rest = {name: both for name, both in pairs.items() if name not in unknown}
    return {name: both for name, both in rest.items() if not alike.get(name, _same(*both))}, unknown


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _row(one: Against) -> tuple[Cell, ...]:
    measured, published, row = one.measured, one.published.accuracy, one.published
    differs = [f"{name} {mine}, published {theirs}" for name, (mine, theirs) in one.differs.items()]
    return (
        *(one.run.model.name, one.run.result.group, one.measure, ", ".join(filter(None, (row.paper, row.table)))),
        *(row.certainty, "; ".join(differs) or "nothing stated", ", ".join(one.unknown) or "nothing"),
        share(measured.accuracy, measured.low, measured.high),
        percent(published),
        difference(*(end - published for end in (measured.accuracy, measured.low, measured.high))),
    )


def against_tables(found: Sequence[Against], notes: Sequence[str]) -> list[FigureTable]:
    """One table of all pairs, and the sources of the published figures as notes."""
    rows = [_row(one) for one in found]
    if not rows:
        return []
    used = dict.fromkeys(one.published.certainty for one in found)
    sources = dict.fromkeys((one.published.paper, one.published.source) for one in found)
    head = ("model", "classes", "measure", "published in", "certainty", "differs in", "not stated", "measured", "published")
    return [
        FigureTable(
            "accuracy %, measured against published",
            (*head, "difference"),
            tuple(rows),
            (
                *(f"± {text}" for text in dict.fromkeys(one.run.result.interval for one in found)),
                "[ ] the interval of the measured figure less the published one, which is taken as exact",
                *(f"{name}: {CERTAINTIES[name]}" for name in used),
                *(f"{paper}: {source}" for paper, source in sources),
                *(f"note: {note}" for note in notes),
            ),
        )
    ]
