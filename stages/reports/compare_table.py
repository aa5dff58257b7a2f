"""The table of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from stages.reports.compare import Comparison
from stages.reports.compare_gzsl import OF_A_SIDE, OF_DRAWS
from stages.reports.measure import Measure
from stages.reports.tables import Cell, Chance, Difference, FigureTable, Percent


def comparison_tables(found: Comparison) -> list[FigureTable]:
    """For each pair of models a table of all decisions, and one of S, U, H and AUSUC where there are such figures: A, B, B
    minus A in percentage points, and p."""
    tables = []
    for pair in dict.fromkeys(measure.models for measure in found.measures):
        mine = [measure for measure in found.measures if measure.models == pair]
        for of_sides in (False, True):
            part = [measure for measure in mine if (measure.interval in (OF_A_SIDE, OF_DRAWS)) == of_sides]
            if part:
                tables.append(_table(part, pair, () if of_sides else found.notes, of_sides=of_sides))
    return tables


def _table(measures: Sequence[Measure], pair: tuple[str, str], notes: Sequence[str], *, of_sides: bool) -> FigureTable:
    several = len({measure.protocol for measure in measures}) > 1
    rows: list[tuple[Cell, ...]] = [
        (
            measure.group,
            *([measure.protocol] if several else []),
            measure.measure,
            *map(Percent, measure.accuracies),
            Difference(measure.paired.difference, measure.paired.low, measure.paired.high),
            Chance(measure.paired.p),
            *(measure.only or ("–", "–")),
        )
        for measure in measures
    ]
    first = measures[0]
    size = f"{first.episodes:,} episodes" if first.episodes else "every image of a group once"
    intervals = tuple(f"[ ] {text}; {size}" for text in dict.fromkeys(measure.interval for measure in measures))
    if of_sides:
        intervals = (f"S, U [ ] {OF_A_SIDE}", f"H, AUSUC [ ] {OF_DRAWS}")
    return FigureTable(
        f"{'generalized zero-shot' if of_sides else 'accuracy'} %: A is {pair[0]}, B is {pair[1]}",
        ("classes", *(["protocol"] if several else []), "measure", "A", "B", "B − A", "p", "only A", "only B"),
        tuple(rows),
        (*intervals, "only A, only B: decisions that one alone got right", *(f"note: {note}" for note in notes)),
    )
